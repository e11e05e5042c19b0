use toolpool::Tool;

fn main() {
    let _ = Tool::new("length", "", |path: &str| Ok(path.len()));
}
