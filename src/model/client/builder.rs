//! The settings of a client.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ureq::Proxy;
use ureq::config::Config;
use ureq::http::{HeaderName, HeaderValue, Uri};

use crate::error::Error;
use crate::json::Json;
use crate::model::client::Client;
use crate::model::client::lines::Lines;
use crate::model::client::provider::{Auth, Provider};
use crate::model::client::resolve::Names;
use crate::model::client::retry::Retries;
use crate::model::client::secret::{self, Secret};
use crate::time::FOR_EVER;
use crate::wire::ToolChoice;

/// Makes a [`Client`].
#[must_use]
pub struct ClientBuilder {
    provider: Provider,
    name: Option<String>,
    base_url: Option<String>,
    key: Key,
    headers: Vec<(String, Secret)>,
    settings: Settings,
    connect_timeout: Duration,
    http: Option<Config>,
    proxy_from_environment: bool,
    names: Names,
    public_only: bool,
}

/// What a client keeps as the builder was told it.
pub(super) struct Settings {
    pub(super) model: String,
    pub(super) max_tokens: Option<u64>,
    pub(super) temperature: Option<f64>,
    pub(super) effort: Option<String>,
    pub(super) choice: Option<ToolChoice>,
    pub(super) cache: bool,
    pub(super) extra: Option<Json>,
    pub(super) timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_body_bytes: u64,
    pub(super) retries: Retries,
}

enum Key {
    FromEnvironment,
    Given(Secret),
    None,
}

impl ClientBuilder {
    pub(super) fn new(provider: Provider, model: String) -> Self {
        Self {
            provider,
            name: None,
            base_url: None,
            key: Key::FromEnvironment,
            headers: Vec::new(),
            settings: Settings {
                model,
                max_tokens: None,
                temperature: None,
                effort: None,
                choice: None,
                cache: true,
                extra: None,
                timeout: Duration::from_secs(600),
                idle_timeout: Duration::from_secs(300),
                max_body_bytes: 32 * 1024 * 1024,
                retries: Retries { most: 2, max_wait: Duration::from_secs(60), resend: true },
            },
            connect_timeout: Duration::from_secs(10),
            http: None,
            proxy_from_environment: false,
            names: Names::of_system(),
            public_only: false,
        }
    }

    /// The address of the server, up to and with the version (`https://host/v1`). A query, such as
    /// Azure's `?api-version=…`, is kept. Defaults to the provider's.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The key. Defaults to the provider's environment variable.
    pub fn api_key(mut self, key: impl Into<Secret>) -> Self {
        self.key = Key::Given(key.into());
        self
    }

    /// Sends no key, even where the environment has one.
    pub fn without_key(mut self) -> Self {
        self.key = Key::None;
        self
    }

    /// What errors call the provider. Defaults to its usual name.
    pub fn provider_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Most tokens of an answer. Defaults to the provider's limit; Anthropic, which has none, is
    /// told 8192.
    pub fn max_tokens(mut self, tokens: u64) -> Self {
        self.settings.max_tokens = Some(tokens);
        self
    }

    /// How free the choice of words is. Defaults to the provider's value.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.settings.temperature = Some(temperature);
        self
    }

    /// How much the model reasons, as the provider spells it: `low`, `medium`, `high` … Defaults to
    /// the provider's value.
    pub fn reasoning_effort(mut self, effort: impl Into<String>) -> Self {
        self.settings.effort = Some(effort.into());
        self
    }

    /// Whether the model must call a tool, for requests that don't say. Defaults to what the model
    /// finds best.
    pub fn tool_choice(mut self, choice: ToolChoice) -> Self {
        self.settings.choice = Some(choice);
        self
    }

    /// Whether the tools and the system prompt are marked for the prompt cache where the provider
    /// wants that asked for: Anthropic, and the models on Bedrock that know a cache. The others
    /// cache on their own or not at all. Defaults to yes.
    pub fn prompt_caching(mut self, cache: bool) -> Self {
        self.settings.cache = cache;
        self
    }

    /// An object that is merged into the body of each request: objects into objects, everything
    /// else in the place of what was there, `null` to take a key out. Defaults to none.
    pub fn extra(mut self, extra: Json) -> Self {
        self.settings.extra = Some(extra);
        self
    }

    /// A header of each request, in the place of one of that name. Its value is taken for a secret
    /// and never shown. Defaults to none beside those of the format.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The longest that one attempt may take, from the name's lookup to the last byte. Defaults to
    /// 600 s; the request's deadline counts if it is sooner.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// The longest that a connection may take to be made, over all addresses of the host; the
    /// lookup of its name may take as long once more. Defaults to 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest silence of a stream, also before its first byte. Defaults to 300 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// How often a request is made again whose failure may pass: 2 retries are 3 attempts. They
    /// follow after 0.5 s, 1 s, 2 s … up to 8 s, less a random part, or when the provider asks to
    /// be asked again; never past the request's deadline. Defaults to 2.
    ///
    /// Failures that may pass are a host that can't be reached, a broken connection, and the
    /// statuses 408, 409, 424, 425, 429, 500 and above but 501 and 505, unless the provider says
    /// otherwise (`x-should-retry`). Spent quotas don't pass.
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries.most = retries;
        self
    }

    /// The longest wait that a provider may ask for; when it asks for a longer one, the request
    /// fails at once and its error tells the wait. Defaults to 60 s.
    pub fn max_retry_wait(mut self, wait: Duration) -> Self {
        self.settings.retries.max_wait = wait;
        self
    }

    /// Whether a request is made again whose connection broke after it was sent. The provider may
    /// count the tokens twice, and what it runs itself, such as tools of its own, may run twice.
    /// Defaults to yes.
    pub fn resend(mut self, resend: bool) -> Self {
        self.settings.retries.resend = resend;
        self
    }

    /// Most bytes of an answer, decompressed. Defaults to 32 MiB.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_body_bytes = bytes;
        self
    }

    /// The HTTP client's own settings: TLS roots, a proxy, an address family. Timeouts of the
    /// attempt, statuses and redirects are always as this builder has them; a connect timeout, a
    /// proxy and a user agent are as the settings have them, which means that a `Config` that says
    /// nothing of proxies uses those of the environment.
    pub fn http_config(mut self, config: Config) -> Self {
        self.http = Some(config);
        self
    }

    /// Uses the proxy that `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY` name, except for hosts in
    /// `NO_PROXY`. Defaults to no, because whoever sets a program's environment would otherwise
    /// see where it connects to.
    pub fn proxy_from_environment(mut self) -> Self {
        self.proxy_from_environment = true;
        self
    }

    /// Looks host names up in another way than the system does: a service mesh, a pinned address,
    /// a test. It runs on a thread of its own and is walked away from when it takes too long.
    /// Defaults to the system's way.
    pub fn lookup(
        mut self,
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.names = Names::looked_up_by(lookup);
        self
    }

    /// Connects to public addresses only, not to this machine or a private network: for base
    /// addresses that come from somebody else. The address that was checked is the one that is
    /// dialled. It says nothing where a proxy is used. Defaults to no.
    pub fn public_addresses_only(mut self) -> Self {
        self.public_only = true;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// A key that is missing, an address or a header that is none, extras that are no object.
    pub fn build(self) -> Result<Client, Error> {
        self.build_with(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    }

    fn build_with(self, environment: impl Fn(&str) -> Option<String>) -> Result<Client, Error> {
        let provider = self.provider;
        let provider_name = self.name.unwrap_or_else(|| provider.name.to_owned());
        let base_url = match self.base_url {
            Some(url) => url,
            None => usual_address(provider, &environment)?,
        };
        check_address(&base_url)?;
        let key = match self.key {
            Key::Given(key) if key.expose().is_empty() => {
                return Err(Error::config("the key that was given is empty"));
            }
            Key::Given(key) => Some(key),
            Key::None => None,
            Key::FromEnvironment => {
                let found = provider.keys.iter().find_map(|name| environment(name));
                if found.is_none() && provider.needs_key {
                    let names = provider.keys.join(" or ");
                    return Err(Error::config(format_args!(
                        "{provider_name} needs a key: set {names}, or give it with api_key"
                    )));
                }
                found.map(Secret::from)
            }
        };
        let mut headers = Vec::new();
        if let Some(key) = &key {
            let (name, value) = match provider.auth {
                Auth::Bearer => ("authorization", format!("Bearer {}", key.expose())),
                Auth::Header(name) => (name, key.expose().to_owned()),
            };
            headers.push(header(name, &value)?);
        }
        if provider.wire == crate::turn::Wire::Anthropic {
            headers.push(header("anthropic-version", "2023-06-01")?);
        }
        for (name, value) in &self.headers {
            let (name, value) = header(name, value.expose())?;
            headers.retain(|(other, _)| *other != name);
            headers.push((name, value));
        }
        if let Some(extra) = &self.settings.extra
            && !extra.as_str().trim_start().starts_with('{')
        {
            return Err(Error::config("extra must be a JSON object"));
        }
        let http = self.http.unwrap_or_else(|| {
            let proxy = self.proxy_from_environment.then(Proxy::try_from_env).flatten();
            Config::builder()
                .proxy(proxy)
                .timeout_resolve(Some(self.connect_timeout.min(FOR_EVER)))
                .timeout_connect(Some(self.connect_timeout.min(FOR_EVER)))
                .max_idle_connections(1)
                .max_idle_connections_per_host(1)
                .user_agent(concat!("toolpool/", env!("CARGO_PKG_VERSION")))
                .build()
        });
        let in_address = secret::in_address(&base_url);
        Ok(Client {
            provider,
            provider_name,
            base_url,
            has_key: key.is_some(),
            secrets: key
                .into_iter()
                .chain(in_address)
                .chain(self.headers.into_iter().flat_map(|(_, value)| value.and_its_token()))
                .collect(),
            headers,
            settings: self.settings,
            lines: Lines::new(http, self.names.public_only(self.public_only)),
        })
    }
}

fn usual_address(
    provider: Provider,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<String, Error> {
    if !provider.base_url.contains("{region}") {
        return Ok(provider.base_url.to_owned());
    }
    let region = environment("AWS_REGION").or_else(|| environment("AWS_DEFAULT_REGION"));
    let region = region.ok_or_else(|| {
        Error::config("bedrock needs a region: set AWS_REGION, or give the address with base_url")
    })?;
    Ok(provider.base_url.replace("{region}", region.trim()))
}

/// An address holds no credentials: they would be shown wherever the address is.
fn check_address(url: &str) -> Result<(), Error> {
    let uri: Uri = url.parse().map_err(|_| Error::config("the base address is no address"))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "http" | "https") || uri.host().is_none_or(str::is_empty) {
        return Err(Error::config(
            "the base address must start with https:// or http:// and a host",
        ));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Error::config(
            "the base address holds a name or password; give them as a header",
        ));
    }
    Ok(())
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let parsed = name
        .parse::<HeaderName>()
        .map_err(|_| Error::config(format_args!("{name:?} is no name of a header")))?;
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Error::config(format_args!("what was given for {name} can't be a header")))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self.key {
            Key::FromEnvironment => "from the environment",
            Key::Given(_) => "set",
            Key::None => "not set",
        };
        f.debug_struct("ClientBuilder")
            .field("provider", &self.provider.name)
            .field("model", &self.settings.model)
            .field("key", &key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Server;

    fn build(builder: ClientBuilder, variables: &[(&str, &str)]) -> Result<Client, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        builder.build_with(find).map_err(|error| error.to_string())
    }

    fn value(client: &Client, name: &str) -> Option<String> {
        let found = client.headers.iter().find(|(known, _)| known.as_str() == name)?;
        Some(found.1.to_str().unwrap().to_owned())
    }

    #[test]
    fn keys_come_from_the_providers_variables_and_go_into_its_header() {
        let claude = build(Client::anthropic("m"), &[("ANTHROPIC_API_KEY", "sk-ant-1\n")]).unwrap();
        assert_eq!(value(&claude, "x-api-key").as_deref(), Some("sk-ant-1"));
        assert_eq!(value(&claude, "anthropic-version").as_deref(), Some("2023-06-01"));
        let gemini = build(Client::gemini("m"), &[("GOOGLE_API_KEY", "g")]).unwrap();
        assert_eq!(value(&gemini, "x-goog-api-key").as_deref(), Some("g"));
        let bedrock = [("AWS_BEARER_TOKEN_BEDROCK", "b"), ("AWS_REGION", "eu-west-1")];
        let bedrock = build(Client::bedrock("m"), &bedrock).unwrap();
        assert_eq!(value(&bedrock, "authorization").as_deref(), Some("Bearer b"));
        assert_eq!(bedrock.base_url, "https://bedrock-runtime.eu-west-1.amazonaws.com");
        let local = build(Client::compatible(Server::Vllm, "m"), &[]).unwrap();
        assert_eq!(value(&local, "authorization"), None);
        let azure = Client::openai("m").without_key().header("api-key", "az");
        let azure = build(azure.base_url("https://x/v1?api-version=2"), &[]).unwrap();
        assert_eq!(value(&azure, "api-key").as_deref(), Some("az"));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_showing_it() {
        let error = build(Client::openai("m"), &[]).unwrap_err();
        assert_eq!(error, "openai needs a key: set OPENAI_API_KEY, or give it with api_key");
        let error = build(Client::openai("m").api_key(" \n"), &[]).unwrap_err();
        assert_eq!(error, "the key that was given is empty");
        let error = build(Client::openai("m").api_key("sk-\u{1}secret"), &[]).unwrap_err();
        assert!(error.contains("authorization") && !error.contains("secret"), "{error}");
        let local = || Client::compatible(Server::Ollama, "m");
        for url in ["", "localhost:1", "ftp://a", "http://", "https://me:secret@host"] {
            let error = build(local().base_url(url), &[]).unwrap_err();
            assert!(error.contains("base address") && !error.contains("secret"), "{url}: {error}");
        }
        let extra = Json::parse("[1]").unwrap();
        assert!(build(local().extra(extra), &[]).unwrap_err().contains("object"));
        assert!(build(local().header("a b", "c"), &[]).is_err());
        assert!(build(Client::bedrock("m").api_key("k"), &[]).unwrap_err().contains("AWS_REGION"));
    }

    #[test]
    fn nothing_shows_the_key() {
        let builder = || {
            Client::openai("m")
                .api_key("sk-canary")
                .header("x-more", "canary-2")
                .base_url("https://x/v1?sig=canary-3")
        };
        let client = build(builder(), &[]).unwrap();
        let shown = format!("{:?} {client:?} {:#?}", builder(), client.headers);
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("x-more") && shown.contains(r#"key: "set""#), "{shown}");
        let versioned = "https://x/v1?api-version=2024-10-21&sig=canary-34";
        let client = build(builder().base_url(versioned), &[]).unwrap();
        let told = client.hidden("of https://x/v1?api-version=2024-10-21&sig=canary-34");
        assert_eq!(told, "of https://x/v1?api-version=2024-10-21&sig=[key]");
    }
}
