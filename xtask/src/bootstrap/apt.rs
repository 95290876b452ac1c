//! apt-get, quietly: a line when it starts and one when it ends, its own words only when it fails.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

pub(super) fn install(packages: &[&str]) -> Result<()> {
    apt("update the package lists", &["update"])?;
    let what = format!("install {}", packages.join(" "));
    apt(&what, &[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn apt(what: &str, args: &[&str]) -> Result<()> {
    let start = Instant::now();
    eprint!("bootstrap: {what} ...");
    std::io::stderr().flush().context("stderr")?;
    let output = Command::new("apt-get")
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot run apt-get")?;
    eprintln!(" {:.0} s", start.elapsed().as_secs_f64());
    if !output.status.success() {
        bail!(
            "apt-get {} failed ({})\n{}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
