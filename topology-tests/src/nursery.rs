//! One thread that starts the lab's processes. A process that asks to die with its starter dies with the starting *thread*
//! (prctl(2), PR_SET_PDEATHSIG): this one lives as long as the program.

use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};
use parking_lot::Mutex;

struct Birth {
    command: Command,
    answer: Sender<std::io::Result<Child>>,
}

static NURSERY: OnceLock<Mutex<Sender<Birth>>> = OnceLock::new();

/// Starts a process whose life is bound to this program's, not to the calling thread's.
pub fn spawn(command: Command) -> Result<Child> {
    let program = command.get_args().last().unwrap_or(command.get_program()).to_owned();
    let (answer, answered) = channel();
    let nursery = NURSERY.get_or_init(open);
    nursery.lock().send(Birth { command, answer }).context("the nursery is closed")?;
    answered.recv().context("the nursery ended")?.with_context(|| format!("start {}", program.display()))
}

fn open() -> Mutex<Sender<Birth>> {
    let (requests, births) = channel::<Birth>();
    // Never joined: it must outlive every process that it started, and ends with the program.
    std::thread::spawn(move || {
        for mut birth in births {
            // A caller that went away leaves a child that nobody waits for; it still dies with the program.
            drop(birth.answer.send(birth.command.spawn()));
        }
    });
    Mutex::new(requests)
}
