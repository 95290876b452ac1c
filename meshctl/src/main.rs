//! The command for people: join clusters, see what is live, look into a node
fn main() {}
