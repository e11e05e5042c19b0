use toolpool::{CallContext, Tool};

fn main() {
    let _ = Tool::new("place", "", |cx: &CallContext| Ok(cx.index()));
}
