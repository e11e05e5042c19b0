//! What one failed call does to the others, on real threads.

use toolpool::{Tool, ToolSet};

use super::harness::{Case, names, turn};

#[test]
fn fault_068_failures_go_back_inline_in_their_places() {
    let tools = ToolSet::new()
        .with(Tool::new("works", "", || Ok("fine")))
        .with(Tool::new("fails", "", || Err::<(), _>("broken".into())))
        .with(Tool::new("panics", "", || -> Result<(), _> { panic!("oh") }));
    Case::new(tools).check(|case| {
        let order = ["fails", "works", "panics", "works", "none", "fails"];
        let report = case.run(&turn(order.map(|name| (name, ""))));
        let expected = ["failed", "succeeded", "panicked", "succeeded", "unknown_tool", "failed"];
        assert_eq!(names(&report), expected);
        assert!(report.aborted().is_none());
    });
}
