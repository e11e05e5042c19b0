//! What several benches use.
#![allow(dead_code, reason = "each bench uses its part")]

use std::time::Duration;

use criterion::Criterion;
use toolpool::{ToolCall, Turn};

/// Criterion as it is set for all: a bench with its tables ends within a minute.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        // From one run to the next a machine that does other work changes them by as much.
        .noise_threshold(0.05)
}

/// How often a table's figures are measured: `TOOLPOOL_ROUNDS`, where it is set.
pub(crate) fn rounds(default: usize) -> usize {
    let rounds = std::env::var("TOOLPOOL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    rounds.unwrap_or(default).max(1)
}

/// A turn of `n` calls without arguments.
pub(crate) fn calls(tool: &str, n: usize) -> Turn {
    Turn::from_calls((0..n).map(|at| ToolCall::new(format!("call_{at}"), tool, "{}")))
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
