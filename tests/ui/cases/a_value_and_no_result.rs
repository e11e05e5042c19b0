use toolpool::Tool;

fn main() {
    let _ = Tool::new("now", "", || "noon");
}
