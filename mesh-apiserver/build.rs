//! Tells the program which commit it is built from, for `meshctl version`. Never fails a build: without git it is "unknown".

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=ISTHMUS_COMMIT");
    let commit = std::env::var("ISTHMUS_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    // A commit moves the branch's log, which exists in every kind of checkout that has commits.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rustc-env=ISTHMUS_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
