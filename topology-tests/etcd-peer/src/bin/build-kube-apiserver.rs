//! Builds a kube-apiserver into `target/tools`, for the test that runs one: `cargo xtask kube-apiserver`.

use std::path::Path;

use anyhow::{Context, Result};
use etcd_peer::KubeApiserver;

#[expect(clippy::print_stdout, reason = "where it is, is the command's output")]
fn main() -> Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).context("the package lies two folders below the workspace")?;
    let built = KubeApiserver::build(workspace)?;
    println!("{}  {}", built.version, built.program.display());
    Ok(())
}
