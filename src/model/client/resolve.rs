//! Names into addresses, with an end: a lookup that hangs is walked away from, counted and bounded,
//! and a cancelled request doesn't wait for it.
//!
//! The addresses that are checked here are the ones that are dialled; nothing is looked up twice.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::RecvTimeoutError;
use parking_lot::Mutex;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time;

use crate::cancel::CancelToken;

/// Most lookups at once.
const MOST_LOOKUPS: usize = 64;

/// Most addresses of a host that are tried: as many as the client beneath has room for.
const MOST_ADDRESSES: usize = 16;

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// How names are looked up; clones share the count.
#[derive(Clone)]
pub(super) struct Names {
    lookup: Arc<Lookup>,
    under_way: Arc<AtomicUsize>,
    public_only: bool,
}

impl Names {
    /// As the system does it.
    pub(super) fn of_system() -> Self {
        Self::looked_up_by(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
    }

    pub(super) fn looked_up_by(
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self { lookup: Arc::new(lookup), under_way: Arc::default(), public_only: false }
    }

    /// Addresses that aren't public are refused.
    pub(super) fn public_only(mut self, only: bool) -> Self {
        self.public_only = only;
        self
    }

    /// How many lookups haven't ended, those that were walked away from included.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }

    fn look_up(
        &self,
        host: &str,
        port: u16,
        timeout: NextTimeout,
        cancel: &CancelToken,
    ) -> Result<Vec<SocketAddr>, Error> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let counted = Counted::new(&self.under_way)
            .ok_or_else(|| io::Error::other("too many name lookups have not come back"))?;
        let (sent, got) = crossbeam_channel::bounded(2);
        let _woken = cancel.wake_on_cancel({
            let sent = sent.clone();
            move || drop(sent.try_send(None))
        });
        let lookup = Arc::clone(&self.lookup);
        let name = host.to_owned();
        let started = thread::Builder::new().name("toolpool-lookup".to_owned()).spawn(move || {
            let found = catch_unwind(AssertUnwindSafe(|| lookup(&name, port)))
                .unwrap_or_else(|_| Err(io::Error::other("the lookup panicked")));
            drop(counted);
            drop(sent.try_send(Some(found)));
        });
        started.map_err(|error| io::Error::other(format!("no thread for a lookup: {error}")))?;
        let found = match timeout.after {
            time::Duration::Exact(after) => Instant::now().checked_add(after).map_or_else(
                || got.recv().map_err(RecvTimeoutError::from),
                |end| got.recv_deadline(end),
            ),
            time::Duration::NotHappening => got.recv().map_err(RecvTimeoutError::from),
        };
        match found {
            Ok(Some(found)) => found.map_err(|error| {
                io::Error::new(io::ErrorKind::NotFound, format!("{host}: {error}")).into()
            }),
            Ok(None) => Err(io::Error::other("cancelled").into()),
            Err(RecvTimeoutError::Timeout) => Err(Error::Timeout(timeout.reason)),
            Err(RecvTimeoutError::Disconnected) => Err(Error::HostNotFound),
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}

/// One lookup, counted until it has ended.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Option<Self> {
        let counted = Self(Arc::clone(count));
        // Counted first, so that a refusal takes back what it added when it is dropped.
        (count.fetch_add(1, Ordering::AcqRel) < MOST_LOOKUPS).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The resolver of one connection's agent, whose present request may be cancelled.
#[derive(Debug)]
pub(super) struct LineResolver {
    pub(super) names: Names,
    pub(super) cancel: Arc<Mutex<CancelToken>>,
}

impl Resolver for LineResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let by_scheme = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(by_scheme);
        let cancel = self.cancel.lock().clone();
        let found = self.names.look_up(host, port, timeout, &cancel)?;
        let mut wanted: Vec<_> = config.ip_family().keep_wanted(found.into_iter()).collect();
        if wanted.is_empty() {
            return Err(Error::HostNotFound);
        }
        if self.names.public_only {
            wanted.retain(|address| is_public(address.ip()));
            if wanted.is_empty() {
                let kind = io::ErrorKind::PermissionDenied;
                return Err(io::Error::new(kind, "the host's address is not public").into());
            }
        }
        let mut addresses = self.empty();
        wanted.into_iter().take(MOST_ADDRESSES).for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

/// Whether an address is one of the internet's, not of this machine, a private network or a
/// special purpose.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240;
    !special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let s = v6.segments();
    // Forms that carry an IPv4 address lead where that one leads.
    if let Some(v4) = v6.to_ipv4() {
        return is_public_v4(v4);
    }
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, ..] | [0x100, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..] => false,
        [0x2001, second, ..] if second < 0x200 => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ureq::Timeout;
    use ureq::unversioned::transport::{Connector, Transport};

    use super::*;

    fn resolver(names: Names) -> (LineResolver, CancelToken) {
        let token = CancelToken::new();
        (LineResolver { names, cancel: Arc::new(Mutex::new(token.clone())) }, token)
    }

    fn within(after: Duration) -> NextTimeout {
        NextTimeout {
            after: time::Duration::Exact(after),
            reason: Timeout::Resolve,
            ..NextTimeout::default()
        }
    }

    fn resolve(resolver: &LineResolver, uri: &str) -> Result<Vec<SocketAddr>, Error> {
        let uri: Uri = uri.parse().unwrap();
        let config = Config::builder().proxy(None).build();
        let found = resolver.resolve(&uri, &config, within(Duration::from_secs(20)))?;
        Ok(found.iter().copied().collect())
    }

    #[test]
    fn fault_100_a_lookup_that_hangs_is_left_in_time_counted_and_bounded() {
        let (release, wait) = crossbeam_channel::bounded::<()>(0);
        let names = Names::looked_up_by(move |_, _| {
            let _ = wait.recv();
            Ok(Vec::new())
        });
        let (resolver, token) = resolver(names.clone());
        let uri: Uri = "https://slow.example/".parse().unwrap();
        let config = Config::builder().proxy(None).build();
        let began = Instant::now();
        let error = resolver.resolve(&uri, &config, within(Duration::from_millis(5))).unwrap_err();
        assert!(matches!(error, Error::Timeout(Timeout::Resolve)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(names.under_way(), 1);
        for _ in 1..MOST_LOOKUPS {
            assert!(resolver.resolve(&uri, &config, within(Duration::ZERO)).is_err());
        }
        assert_eq!(names.under_way(), MOST_LOOKUPS);
        let error = resolve(&resolver, "https://slow.example/").unwrap_err();
        assert!(error.to_string().contains("too many name lookups"), "{error}");
        assert_eq!(names.under_way(), MOST_LOOKUPS);
        assert!(resolve(&resolver, "https://192.0.2.1/").is_ok(), "an address needs no lookup");

        drop(release);
        let end = Instant::now() + Duration::from_secs(10);
        while names.under_way() > 0 && Instant::now() < end {
            thread::yield_now();
        }
        assert_eq!(names.under_way(), 0);
        token.cancel();
    }

    #[test]
    fn fault_100_a_cancelled_request_leaves_its_lookup_at_once() {
        let (release, wait) = crossbeam_channel::bounded::<()>(0);
        let (resolver, token) = resolver(Names::looked_up_by(move |_, _| {
            let _ = wait.recv();
            Ok(Vec::new())
        }));
        let canceller = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            token.cancel();
        });
        let uri: Uri = "https://slow.example/".parse().unwrap();
        let config = Config::builder().proxy(None).build();
        let began = Instant::now();
        let error = resolver.resolve(&uri, &config, within(Duration::from_secs(60))).unwrap_err();
        assert!(error.to_string().contains("cancelled"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(release);
        canceller.join().unwrap();
    }

    #[test]
    fn a_lookup_that_panics_or_finds_nothing_is_an_error() {
        let (broken, _) = resolver(Names::looked_up_by(|_, _| panic!("of the lookup")));
        let error = resolve(&broken, "https://a/").unwrap_err().to_string();
        assert!(error.contains("the lookup panicked"), "{error}");
        let (empty, _) = resolver(Names::looked_up_by(|_, _| Ok(Vec::new())));
        assert!(matches!(resolve(&empty, "https://a/").unwrap_err(), Error::HostNotFound));
    }

    /// Takes down which addresses it is told to dial, and dials none.
    #[derive(Debug, Clone, Default)]
    struct Dialled(Arc<Mutex<Vec<SocketAddr>>>);

    impl Connector<()> for Dialled {
        type Out = Box<dyn Transport>;

        fn connect(
            &self,
            details: &ureq::unversioned::transport::ConnectionDetails,
            _: Option<()>,
        ) -> Result<Option<Box<dyn Transport>>, Error> {
            self.0.lock().extend(details.addrs.iter().copied());
            Err(Error::ConnectionFailed)
        }
    }

    #[test]
    fn fault_107_the_address_that_was_checked_is_the_one_dialled() {
        let answers = Arc::new(Mutex::new(vec!["127.0.0.1:443", "203.0.114.7:443"]));
        let names = Names::looked_up_by(move |_, _| {
            let next = answers.lock().pop().unwrap_or("127.0.0.1:443");
            Ok(vec![next.parse().unwrap()])
        });
        let (resolver, _token) = resolver(names.public_only(true));
        let dialled = Dialled::default();
        let config = Config::builder().proxy(None).build();
        let agent = ureq::Agent::with_parts(config, dialled.clone(), resolver);
        let ask = || agent.get("https://rebinding.example/").call().unwrap_err().to_string();
        ask();
        assert_eq!(*dialled.0.lock(), ["203.0.114.7:443".parse().unwrap()]);
        let refused = ask();
        assert!(refused.contains("not public"), "{refused}");
        assert_eq!(dialled.0.lock().len(), 1, "the second answer was never dialled");
    }

    #[test]
    fn fault_106_addresses_that_are_not_of_the_internet_are_known_in_every_form() {
        for address in [
            "127.0.0.1",
            "127.255.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "203.0.114.7", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn fault_106_a_host_is_refused_by_its_address_however_it_is_spelled() {
        let names = Names::of_system().public_only(true);
        let (resolver, _token) = resolver(names);
        for uri in [
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost/",
            "http://169.254.169.254/latest/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://localhost./",
        ] {
            let error = resolve(&resolver, uri).unwrap_err();
            // Spelled in a way that the system's lookup doesn't know, it isn't found at all.
            let text = error.to_string();
            let unknown = matches!(&error, Error::Io(e) if e.kind() != io::ErrorKind::PermissionDenied)
                || matches!(error, Error::HostNotFound | Error::Timeout(_));
            assert!(text.contains("not public") || unknown, "{uri}: {text}");
        }
    }
}
