//! A key that is never shown.

use std::fmt;
use std::sync::Arc;

/// What is shorter is no key.
const SHORTEST: usize = 8;

/// A key. `Debug` says only whether there is one; nothing prints it.
///
/// ```
/// let key = toolpool::model::Secret::from("sk-12345");
/// assert_eq!(format!("{key:?}"), "set");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A header's value, and the token in it, as in `Bearer sk-12345`.
    pub(super) fn and_its_token(self) -> impl Iterator<Item = Self> {
        let token = self.0.split_once(' ').map(|(_, token)| Self::from(token));
        std::iter::once(self).chain(token)
    }

    /// `text` with the key made unreadable, should it stand in it. What is too short to be a key
    /// stays, because it would be found in any text.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        if self.0.len() < SHORTEST {
            return text.to_owned();
        }
        text.replace(&*self.0, "[key]")
    }
}

/// What may stand for a key in an address: the values of its query, but for the API's version.
pub(super) fn in_address(url: &str) -> Vec<Secret> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('#').next().unwrap_or_default().split('&');
    let secrets = pairs.filter_map(|pair| pair.split_once('='));
    secrets.filter(|(name, _)| *name != "api-version").map(|(_, value)| value.into()).collect()
}

/// White space around it, which a file or an environment variable may have brought along, is
/// taken off.
impl<T: AsRef<str>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.as_ref().trim().into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "not set" } else { "set" })
    }
}
