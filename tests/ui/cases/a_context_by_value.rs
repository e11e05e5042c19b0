use toolpool::{CallContext, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct ById {
    id: u64,
}

fn main() {
    let _ = Tool::new("customer", "", |args: ById, cx: CallContext| Ok(args.id));
}
