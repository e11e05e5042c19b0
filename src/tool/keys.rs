//! Which things a call reads and writes.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::ToolError;
use crate::tool::handler::decode;

/// Whether a call reads or writes what a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Read,
    Write,
}

/// One key of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyUse {
    pub(crate) key: Arc<str>,
    pub(crate) access: Access,
}

/// What the key function of [`reads`](crate::Tool::reads) and [`writes`](crate::Tool::writes) may
/// return: one key, several, or none.
///
/// Keys are plain strings, shared by all tools of an executor: two tools that name the same thing
/// wait for each other if they write its key in the same way, and two things of one number don't
/// if their keys say what they are, as `account/7` and `order/7` do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the keys of a call",
    label = "not keys",
    note = "return owned keys: `a.account.clone()`, `a.id.to_string()`; several in a `Vec` or an array, and an `Option` where there may be none"
)]
pub trait IntoKeys {
    /// The keys.
    fn into_keys(self) -> Vec<String>;
}

impl IntoKeys for String {
    fn into_keys(self) -> Vec<String> {
        vec![self]
    }
}

impl IntoKeys for &str {
    fn into_keys(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl<T: Into<String>> IntoKeys for Vec<T> {
    fn into_keys(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<String>, const N: usize> IntoKeys for [T; N] {
    fn into_keys(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<String>> IntoKeys for Option<T> {
    fn into_keys(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

/// A tool's key function with its argument type erased: user code, run on a worker.
pub(crate) type KeyFn = dyn Fn(&str) -> Result<Vec<KeyUse>, ToolError> + Send + Sync;

pub(crate) fn key_fn<A, K>(
    access: Access,
    keys: impl Fn(&A) -> K + Send + Sync + 'static,
) -> Arc<KeyFn>
where
    A: DeserializeOwned + 'static,
    K: IntoKeys,
{
    Arc::new(move |arguments| {
        let arguments: A = decode(arguments)?;
        let keys = keys(&arguments).into_keys();
        Ok(keys.into_iter().map(|key| KeyUse { key: key.into(), access }).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_several_or_none() {
        fn keys(keys: impl IntoKeys) -> Vec<String> {
            keys.into_keys()
        }
        assert_eq!(keys("a"), ["a"]);
        assert_eq!(keys("a".to_owned()), ["a"]);
        assert_eq!(keys(["a", "b"]), ["a", "b"]);
        assert_eq!(keys(vec!["a".to_owned(), "a".to_owned()]), ["a", "a"]);
        assert_eq!(keys(Some("a")), ["a"]);
        assert!(keys(None::<String>).is_empty());
        assert!(keys(Vec::<&str>::new()).is_empty());
    }

    #[test]
    fn keys_come_of_decoded_arguments() {
        #[derive(serde::Deserialize)]
        struct ById {
            id: u64,
        }
        let function = key_fn(Access::Write, |args: &ById| format!("order/{}", args.id));
        let key = KeyUse { key: "order/7".into(), access: Access::Write };
        assert_eq!(function(r#"{"id":7}"#), Ok(vec![key]));
        assert!(function(r#"{"id":"x"}"#).unwrap_err().model_text().contains("id"));
    }
}
