//! Builds what is missing of Kubernetes' programs and says where each is: `cargo xtask k8s-tools`. `--missing` only says what
//! is not built; `--within SECONDS` leaves what is not built by then.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_tools::{PROGRAMS, Tools, missing};

#[expect(clippy::print_stdout, reason = "where they are, is the command's output")]
fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let deadline = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--missing"] => {
            missing()?.iter().for_each(|name| println!("{name}"));
            return Ok(());
        }
        ["--within", seconds] => {
            let seconds = seconds.parse().with_context(|| format!("--within {seconds} is no number of seconds"))?;
            Some(Instant::now() + Duration::from_secs(seconds))
        }
        _ => bail!("there is no {}: use --missing, --within SECONDS, or nothing", words.join(" ")),
    };
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).context("the package lies two folders below the workspace")?;
    let tools = Tools::build(workspace, deadline)?;
    for program in PROGRAMS {
        println!("{:<24} {:<10} {}", program.name, program.version()?, tools.program(program.name)?.display());
    }
    Ok(())
}
