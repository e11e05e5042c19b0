//! Reports drawn as text.

use serde_json::{Value, json};
use toolpool::Report;

/// A call of `name` that was handed in at 0, with times in milliseconds.
fn call(name: &str, started: Option<u64>, ended: u64, outcome: Value) -> Value {
    json!({
        "call": { "id": "call", "name": name, "arguments": "{}" },
        "outcome": outcome,
        "effect": "mutating",
        "lane": "blocking",
        "attempts": started.map_or(0, |_| 1),
        "submitted": ms(0),
        "started": started.map(ms),
        "ended": ms(ended),
    })
}

fn ms(ms: u64) -> Value {
    json!({ "secs": ms / 1000, "nanos": ms % 1000 * 1_000_000 })
}

fn done() -> Value {
    json!({ "kind": "succeeded", "detail": { "type": "text", "text": "done" } })
}

fn timed_out(after: u64) -> Value {
    json!({
        "kind": "timed_out",
        "detail": { "limit": "timeout", "after": ms(after), "still_running": true },
    })
}

fn report(wall: u64, calls: &[Value]) -> Report {
    serde_json::from_value(json!({ "wall": ms(wall), "calls": calls })).unwrap()
}

#[track_caller]
fn check(actual: impl ToString, expected: &str) {
    let actual = actual.to_string();
    assert_eq!(actual, expected, "\n{actual}");
}

#[test]
fn calls_stand_in_call_order_where_they_ran() {
    let report = report(
        602,
        &[
            call("get_tickets", Some(0), 600, done()),
            call("get_customer", Some(0), 400, done()),
            call("get_orders", Some(100), 602, done()),
        ],
    );
    check(
        report.timeline(),
        "\
3 calls: wall 602 ms, sequential 1.5 s, saved 900 ms, speed-up 2.5×
get_tickets  ████████████████████████████████████████████████████████████████ 600 ms
get_customer ███████████████████████████████████████████                      400 ms
get_orders   ░░░░░░░░░░░█████████████████████████████████████████████████████ 502 ms (waited 100 ms)
",
    );
    check(
        report.timeline().ascii().columns(60),
        "\
3 calls: wall 602 ms, sequential 1.5 s, saved 900 ms,
speed-up 2.5x
get_tickets  ######################## 600 ms
get_customer ################         400 ms
get_orders   ....#################### 502 ms (waited 100 ms)
",
    );
}

#[test]
fn failures_are_marked_with_their_names() {
    let mut retried = call("retried", Some(0), 90, done());
    retried["attempts"] = json!(3);
    let aborted = json!({
        "kind": "not_started",
        "detail": { "reason": "aborted", "detail": { "index": 1, "cause": "hangs" } },
    });
    let unknown = json!({
        "kind": "rejected",
        "detail": {
            "reason": "unknown_tool",
            "detail": { "nearest": null, "available": [], "more": 0 },
        },
    });
    let calls = [
        retried,
        call("hangs", Some(0), 100, timed_out(100)),
        call("panics", Some(50), 51, json!({ "kind": "panicked", "detail": "oh" })),
        call("refund", None, 100, aborted),
        call("no_such_tool", None, 0, unknown),
    ];
    let report: Report = serde_json::from_value(json!({
        "wall": ms(100),
        "calls": calls,
        "aborted": { "index": 1, "cause": "hangs" },
    }))
    .unwrap();
    check(
        report.timeline().columns(80),
        "\
5 calls, 4 failed: wall 100 ms, sequential 191 ms, saved 91 ms, speed-up 1.9×
aborted: call 2 (hangs) failed
retried      ██████████████████████████████    90 ms, 3 attempts
hangs        █████████████████████████████████ 100 ms ✗ timed_out, still running
panics       ░░░░░░░░░░░░░░░░░█                1 ms ✗ panicked (waited 50 ms)
refund       ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ not run ✗ aborted (waited 100 ms)
no_such_tool                                   not run ✗ unknown_tool
",
    );
}

#[test]
fn fault_024_names_that_act_on_a_terminal_are_escaped() {
    let report = report(
        10,
        &[
            call("\u{1b}[2J\u{202e}evil", Some(0), 10, done()),
            call("two\nlines", Some(0), 10, done()),
            call("a_name_that_is_much_longer_than_its_column", Some(0), 10, done()),
            call("", Some(0), 10, done()),
            call("名前", Some(0), 10, done()),
        ],
    );
    check(
        report.timeline().columns(72),
        "\
5 calls: wall 10 ms, sequential 50 ms, saved 40 ms, speed-up 5.0×
\\u{1b}[2J\\u{202e}… ███████████████████████████████████████████████ 10 ms
two\\nlines         ███████████████████████████████████████████████ 10 ms
a_name_that_is_mu… ███████████████████████████████████████████████ 10 ms
                   ███████████████████████████████████████████████ 10 ms
名前                 ███████████████████████████████████████████████ 10 ms
",
    );
    assert!(report.timeline().ascii().to_string().is_ascii());
}

#[test]
fn any_batch_fits_its_columns() {
    let shapes = [
        report(0, &[]),
        report(0, &[call("instant", Some(0), 0, done())]),
        report(5, &[call("late", Some(5), 5, done()), call("queued", None, 5, timed_out(0))]),
        report(1, &[call("longer_than_the_batch", Some(0), 86_400_000, timed_out(86_400_000))]),
        report(
            12_800,
            &(0..128)
                .map(|n| call(&format!("tool_{n}"), Some(n * 100), n * 100 + 100, done()))
                .collect::<Vec<_>>(),
        ),
    ];
    for report in shapes {
        for columns in [0, 40, 73, 100, 1000] {
            for timeline in [report.timeline(), report.timeline().ascii()] {
                let text = timeline.columns(columns).to_string();
                let least = columns.max(40);
                assert!(text.lines().all(|line| line.chars().count() <= least), "\n{text}");
                assert!(text.lines().count() > report.calls().len());
            }
        }
    }
    check(
        report(0, &[]).timeline(),
        "\
0 calls: wall 0 ms, sequential 0 ms, saved 0 ms, speed-up 1.0×
",
    );
}

#[test]
fn a_bar_is_as_long_as_its_time() {
    let calls: Vec<_> =
        (0..4).map(|n| call("step", Some(n * 250), n * 250 + 250, done())).collect();
    let text = report(1000, &calls).timeline().to_string();
    let bars: Vec<_> = text.lines().skip(1).map(|line| line.matches('█').count()).collect();
    assert!(bars.windows(2).all(|pair| pair[0].abs_diff(pair[1]) <= 1), "{text}");
    let waits: Vec<_> = text.lines().skip(1).map(|line| line.matches('░').count()).collect();
    assert!(waits.windows(2).all(|pair| pair[1] >= pair[0] + bars[0] - 1), "{text}");
}
