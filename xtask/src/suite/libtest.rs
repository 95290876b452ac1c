//! Runs a test program and reads what libtest prints. A test that says `skipped: why` has not passed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stage::Outcome;

/// Runs the program, keeps all it prints in `log`, and counts. One that outlives the deadline is killed and has failed.
pub(super) fn run(mut command: Command, label: &str, log: &Path, deadline: Duration) -> Result<Outcome> {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let lines = collect(&mut child);
    let mut text = String::new();
    let mut is_hung = false;
    // The channel ends when the program, and every child that kept its output open, has closed it.
    loop {
        match lines.recv_timeout(deadline.saturating_sub(start.elapsed())) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().context("kill a test that hangs")?;
                is_hung = true;
                break;
            }
        }
    }
    let status = child.wait().context("wait for a test")?;
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(log, &text).with_context(|| format!("cannot write {}", log.display()))?;
    let mut outcome = parse(&text, label, status.success() && !is_hung);
    if is_hung {
        outcome.failed.push(format!("{label}: hung, killed after {} s", deadline.as_secs()));
    }
    let (passed, failed, skipped) = (outcome.passed, outcome.failed.len(), outcome.skipped.len());
    let took = start.elapsed().as_secs_f64();
    eprintln!("  {label}: {passed} passed, {failed} failed, {skipped} skipped, {took:.1} s");
    if failed > 0 {
        eprintln!("{text}\n  (all of it: {})", log.display());
    }
    Ok(outcome)
}

/// Both streams of the child, line by line.
fn collect(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
    }
    lines
}

/// Counts by libtest's summary line; names and reasons by the lines above it.
fn parse(text: &str, label: &str, is_success: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut summary = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("test result: ") {
            summary = Some((count(rest, "passed"), count(rest, "failed")));
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            if result == "FAILED" {
                outcome.failed.push(format!("{label}: {name}"));
            } else if let Some(why) = result.strip_prefix("ignored") {
                let why = why.trim_start_matches(", ");
                outcome.skipped.push(format!("{label}: {name}: {}", if why.is_empty() { "ignored" } else { why }));
            }
        }
    }
    let ignored = outcome.skipped.len();
    let (mut section, mut seen) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            name.clone_into(&mut section);
        } else if let Some(why) = line.trim_start().strip_prefix("skipped: ")
            && !seen.contains(&section)
        {
            seen.push(section.clone());
            outcome.skipped.push(format!("{label}: {section}: {why}"));
        }
    }
    let said = outcome.skipped.len() - ignored;
    match summary {
        Some((passed, failed)) => {
            outcome.passed = passed.saturating_sub(said);
            while outcome.failed.len() < failed {
                outcome.failed.push(format!("{label}: a test whose name was not printed"));
            }
        }
        // A program that is not libtest's, or one that died.
        None if is_success => outcome.passed = 1,
        None => {}
    }
    if !is_success && outcome.failed.is_empty() {
        outcome.failed.push(format!("{label}: ended with an error"));
    }
    outcome
}

/// The number before a word: `ok. 23 passed; 0 failed; ...`.
fn count(summary: &str, word: &str) -> usize {
    let part = summary.split([';', '.']).find_map(|part| part.trim().strip_suffix(word));
    part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test a::works ... ok
test needs_root ... ok
test needs_a_disk ... ignored, takes an hour
test breaks ... FAILED

successes:

---- needs_root stdout ----
skipped: not root
skipped: said twice

failures:

---- breaks stdout ----
thread 'breaks' panicked

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn a_test_that_says_skipped_has_not_passed() {
        let outcome = parse(OUTPUT, "crate", false);
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.failed, ["crate: breaks"]);
        assert_eq!(outcome.skipped, ["crate: needs_a_disk: takes an hour", "crate: needs_root: not root"]);
    }

    #[test]
    fn a_program_that_dies_has_failed() {
        assert_eq!(parse("running 2 tests\n", "crate", false).failed, ["crate: ended with an error"]);
        assert_eq!(parse("", "crate", true).passed, 1);
    }

    #[test]
    fn a_test_that_hangs_is_killed_and_has_failed() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let log = std::env::temp_dir().join(format!("xtask-hang-{}.log", std::process::id()));
        let outcome = run(command, "sleeper", &log, Duration::from_millis(50)).unwrap();
        fs::remove_file(&log).unwrap();
        assert_eq!(outcome.failed.last().unwrap(), "sleeper: hung, killed after 0 s");
    }
}
