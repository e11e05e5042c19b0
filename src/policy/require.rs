//! Tools whose calls must succeed.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::policy::failure::{Decision, Settled};

/// Aborts when a call of one of these tools has failed.
#[derive(Clone)]
pub(super) struct Require {
    tools: Arc<[String]>,
}

impl Require {
    pub(super) fn new(tools: impl Iterator<Item = String>) -> Self {
        Self { tools: tools.collect() }
    }

    pub(super) fn decide(&self, settled: &Settled<'_>) -> Decision {
        let required = self.tools.iter().any(|tool| tool == settled.name);
        if required && !settled.outcome.is_success() { Decision::Abort } else { Decision::Continue }
    }

    pub(super) fn check<'a>(
        &self,
        find: impl Fn(&str) -> Result<usize, Option<&'a str>>,
    ) -> Result<(), Error> {
        let missing = self.tools.iter().find_map(|name| Some((name, find(name).err()?)));
        let Some((name, nearest)) = missing else { return Ok(()) };
        let hint = nearest.map(|nearest| format!("; did you mean {nearest:?}?"));
        Err(Error::config(format_args!(
            "the failure policy requires the tool {name:?}, which doesn't exist{}",
            hint.unwrap_or_default()
        )))
    }
}

impl fmt::Debug for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("require([")?;
        for (n, name) in self.tools.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{name:?}")?;
        }
        f.write_str("])")
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Abort, Continue};
    use crate::outcome::{Limit, Outcome};
    use crate::policy::failure::FailurePolicy;
    use crate::policy::failure::tests::{decisions, failure, success};
    use std::time::Duration;

    #[test]
    fn fault_074_only_a_required_calls_failure_aborts() {
        let timed_out = Outcome::TimedOut {
            limit: Limit::Timeout,
            after: Duration::from_secs(3),
            still_running: true,
        };
        let calls = [
            ("optional", failure()),
            ("required", success()),
            ("Required", failure()),
            ("required", timed_out),
        ];
        let policy = FailurePolicy::require(["required", "not_called"]);
        assert_eq!(decisions(&policy, &calls), [Continue, Continue, Continue, Abort]);
    }

    #[test]
    fn requiring_a_tool_that_does_not_exist_is_a_mistake() {
        let find = |name: &str| match name {
            "orders" => Ok(0),
            "order" => Err(Some("orders")),
            _ => Err(None),
        };
        assert!(FailurePolicy::require(["orders"]).check(find).is_ok());
        let error = FailurePolicy::require(["orders", "order"]).check(find).unwrap_err();
        assert!(error.is_config());
        assert_eq!(
            error.to_string(),
            r#"the failure policy requires the tool "order", which doesn't exist; did you mean "orders"?"#
        );
        let error = FailurePolicy::require(["weather"]).check(find).unwrap_err();
        assert!(error.to_string().ends_with(r#"the tool "weather", which doesn't exist"#));
        assert!(FailurePolicy::require(Vec::<String>::new()).check(find).is_ok());
    }
}
