//! What became of each case: for people, and as JSON.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use topology_tests::binaries::Binaries;

use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Required,
    Optional,
}

pub(crate) struct Case {
    pub(crate) number: u32,
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    pub(crate) run: fn(&World<'_>, &str) -> Result<()>,
}

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    number: u32,
    level: Level,
    name: &'static str,
    took: Duration,
    error: Option<String>,
}

impl Table {
    /// Runs a case, and says at once what became of it.
    pub(crate) fn add(&mut self, case: &Case, run: impl FnOnce() -> Result<()>) {
        let begun = Instant::now();
        let error = run().err().map(|error| format!("{error:#}"));
        let row = Row { number: case.number, level: case.level, name: case.name, took: begun.elapsed(), error };
        println!("{row}");
        self.rows.push(row);
    }

    /// Numbers of the cases that did not hold.
    pub(crate) fn failed(&self) -> Vec<u32> {
        self.rows.iter().filter(|row| row.error.is_some()).map(|row| row.number).collect()
    }

    /// Writes `target/mcs.json`.
    pub(crate) fn write(&self) -> Result<()> {
        let path = Binaries::beside_this_one()?.target_dir().join("mcs.json");
        let cases: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let passed = self.rows.iter().filter(|row| row.error.is_none()).count();
        let text = serde_json::to_string_pretty(&json!({ "cases": cases, "passed": passed, "of": self.rows.len() }))?;
        std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        if self.error.is_none() { "pass" } else { "fail" }
    }

    fn json(&self) -> Value {
        json!({
            "number": self.number,
            "case": self.name,
            "level": format!("{:?}", self.level),
            "verdict": self.verdict(),
            "seconds": (self.took.as_secs_f64() * 10.0).round() / 10.0,
            "error": self.error,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, level, name, took, error } = self;
        write!(f, "{number:>2} | {name:<52} | {level:?} | {} | {:.1} s", self.verdict(), took.as_secs_f64())?;
        error.as_ref().map_or(Ok(()), |error| write!(f, " | {error}"))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, " # | case | level | pass/fail | time")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        let passed = self.rows.len() - self.failed().len();
        write!(f, "{passed} of {} cases hold", self.rows.len())
    }
}
