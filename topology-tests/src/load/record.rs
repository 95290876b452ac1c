//! One line of JSON per request, per long-lived connection that opened and per long-lived connection that failed.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::traffic::Answer;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A new connection with one request.
    Request,
    /// A long-lived connection that was opened (or could not be).
    Open,
    /// A long-lived connection that failed; `start` is when it was opened.
    Broken,
    /// A long-lived connection that lived until the end of the load.
    Lived,
}

/// What happened, on the monotonic clock that all processes of the machine share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub kind: Kind,
    pub target: String,
    pub start_ns: u64,
    pub end_ns: u64,
    pub bytes: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Messages that a long-lived connection exchanged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pings: u64,
    #[serde(flatten)]
    pub answer: Answer,
}

impl Record {
    pub fn is_failure(&self) -> bool {
        self.error.is_some()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes records, each line at once: a reader follows while the load runs.
#[derive(Debug)]
pub struct Writer(Mutex<File>);

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(Mutex::new(file)))
    }

    pub fn write(&self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).context("encode a record")?;
        line.push(b'\n');
        self.0.lock().write_all(&line).context("write a record")
    }
}

/// Reads what was added to a file of records since the last time.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
}

impl Follower {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0 }
    }

    /// The whole lines that are new. A file that is not there yet has none.
    pub fn read_new(&mut self) -> Result<Vec<Record>> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.offset)).context("seek in the records")?;
        let mut reader = BufReader::new(file);
        let mut records = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).context("read the records")? > 0 {
            if !line.ends_with('\n') {
                break;
            }
            self.offset += line.len() as u64;
            let record = serde_json::from_str(&line);
            records.push(record.with_context(|| format!("a record of {}", self.path.display()))?);
            line.clear();
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sees_every_whole_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let mut follower = Follower::new(&path);
        assert!(follower.read_new().unwrap().is_empty());
        let writer = Writer::create(&path).unwrap();
        let record = Record {
            kind: Kind::Request,
            target: "catalog".into(),
            start_ns: 1,
            end_ns: 2,
            bytes: 100,
            error: None,
            pings: 0,
            answer: Answer { pod: "catalog-0".into(), ..Answer::default() },
        };
        writer.write(&record).unwrap();
        writer.0.lock().write_all(b"{\"kind\":").unwrap();
        let seen = follower.read_new().unwrap();
        assert_eq!((seen.len(), seen[0].answer.pod.as_str()), (1, "catalog-0"));
        assert!(follower.read_new().unwrap().is_empty());
    }
}
