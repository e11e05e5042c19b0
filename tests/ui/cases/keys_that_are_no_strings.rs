#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Entry {
    account: u64,
}

fn main() {
    let book = toolpool::Tool::new("book", "", |entry: Entry| Ok(entry.account));
    let _ = book.writes(|entry| entry.account);
}
