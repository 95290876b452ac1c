//! What happened in a run, line by line: two runs of a seed give the same.

use std::fmt;
use std::fs::File;
use std::io::Write as _;

use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Debug)]
pub struct Trace {
    started: Instant,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    hash: u64,
    lines: u64,
    file: Option<File>,
}

impl Trace {
    /// The text is written only if there is a file for it, the hash always.
    pub(crate) fn new(file: Option<File>) -> Self {
        let written = Written { hash: 0xcbf2_9ce4_8422_2325, lines: 0, file };
        Self { started: Instant::now(), written: Mutex::new(written) }
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let mut written = self.written.lock();
        let line = format!("{:>12} {what}\n", self.started.elapsed().as_micros());
        for byte in line.bytes() {
            // FNV-1a.
            written.hash = (written.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        written.lines += 1;
        // A run that hangs is looked at while it does, so nothing is held back.
        let is_lost = written.file.as_mut().is_some_and(|file| file.write_all(line.as_bytes()).is_err());
        if is_lost {
            written.file = None;
        }
    }

    pub fn hash(&self) -> u64 {
        self.written.lock().hash
    }

    pub fn lines(&self) -> u64 {
        self.written.lock().lines
    }
}
