//! Builds what is missing of Kubernetes' programs and says where each is: `cargo xtask k8s-tools`.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_tools::{PROGRAMS, Tools};

#[expect(clippy::print_stdout, reason = "where they are, is the command's output")]
fn main() -> Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).context("the package lies two folders below the workspace")?;
    let tools = Tools::build(workspace)?;
    for program in PROGRAMS {
        println!("{:<24} {:<10} {}", program.name, program.version()?, tools.program(program.name)?.display());
    }
    Ok(())
}
