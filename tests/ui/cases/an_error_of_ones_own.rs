use toolpool::Tool;

#[derive(Debug)]
struct Broken;

fn customer() -> Result<String, Broken> {
    Err(Broken)
}

fn main() {
    let _ = Tool::new("customer", "", customer);
}
