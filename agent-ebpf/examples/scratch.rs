#[path = "datapath_bench/fixture.rs"]
mod fixture;
use std::time::Duration;
fn best(mut run: impl FnMut() -> Duration) -> Duration { (0..15).map(|_| run()).min().unwrap() }
fn main() {
    let mut f = fixture::Fixture::new(1000).unwrap();
    let n = 200_000;
    println!("empty {:?}", best(|| f.empty(n).unwrap()));
    f.use_headers(&f.misses()).unwrap();
    println!("replay empty {:?}", best(|| f.replay("empty", false, n, -1).unwrap()));
    println!("from_tunnel {:?}", best(|| f.replay("from_tunnel", false, n, -1).unwrap()));
    println!("to_pod miss {:?}", best(|| f.replay("to_pod", false, n, -1).unwrap()));
    println!("to_wan miss {:?}", best(|| f.replay("to_wan", false, n, -1).unwrap()));
    println!("from_pod miss {:?}", best(|| f.replay("from_pod", false, n, -1).unwrap()));
    f.use_headers(&f.established()).unwrap();
    f.replay("from_pod", false, 5000, -1).unwrap();
    println!("from_pod est {:?}", best(|| f.replay("from_pod", false, n, -1).unwrap()));
    f.use_headers(&f.established()[..64]).unwrap();
    println!("from_pod est 64 flows {:?}", best(|| f.replay("from_pod", false, n, -1).unwrap()));
    println!("from_pod syn 64 flows {:?}", best(|| f.replay("from_pod", true, n, -1).unwrap()));
    f.use_headers(&f.established()[..4000]).unwrap();
    println!("from_pod syn 4000 flows {:?}", best(|| f.replay("from_pod", true, n, -1).unwrap()));
}
