//! Ctrl-C and SIGTERM for a process that owns a lab: the lab goes first, then the process; its guard has the last look.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::names::LabName;
use crate::teardown;

/// From now on an interrupt takes the lab down and ends the process with `code`. Call before any thread is started: a
/// signal is delivered to a thread that does not block it.
pub(super) fn takes_down(lab: &LabName, code: i32) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block().context("block the signals that end the lab")?;
    let lab = lab.clone();
    let watch = move || {
        if signals.wait().is_ok() {
            if let Err(error) = teardown::sweep(&lab) {
                eprintln!("lab: {error:#}");
            }
            std::process::exit(code);
        }
    };
    std::thread::Builder::new().name("interrupt".into()).spawn(watch).context("start the watch over signals")?;
    Ok(())
}
