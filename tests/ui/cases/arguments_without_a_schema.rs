use toolpool::Tool;

#[derive(serde::Deserialize)]
struct ById {
    id: u64,
}

fn main() {
    let _ = Tool::new("customer", "", |args: ById| Ok(args.id));
}
