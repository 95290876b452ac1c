//! The run's record: runs stages, measures them, and prints the table, the reasons and the counts at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::stage::{Outcome, Stage};

#[derive(Debug)]
struct Row {
    stage: Stage,
    took: Duration,
    result: String,
}

/// All that was run.
#[derive(Debug)]
pub(super) struct Report {
    start: Instant,
    left_out: Vec<String>,
    rows: Vec<Row>,
    total: Outcome,
    notes: Vec<String>,
}

impl Report {
    pub(super) fn new(left_out: &[String]) -> Self {
        let (start, left_out) = (Instant::now(), left_out.to_vec());
        Self { start, left_out, rows: Vec::new(), total: Outcome::default(), notes: Vec::new() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Runs a stage that is one check: it passes or fails as a whole. Whether the run may go on as if it had passed.
    pub(super) fn gate(&mut self, stage: Stage, check: impl FnOnce() -> Result<bool>) -> bool {
        let outcome = self.run(stage, || {
            Ok(if check()? {
                Outcome { passed: 1, ..Outcome::default() }
            } else {
                Outcome { failed: vec![stage.name.to_owned()], ..Outcome::default() }
            })
        });
        outcome.failed.is_empty()
    }

    /// Runs a stage of many tests.
    pub(super) fn tests(&mut self, stage: Stage, run: impl FnOnce() -> Result<Outcome>) {
        self.run(stage, run);
    }

    fn run(&mut self, stage: Stage, run: impl FnOnce() -> Result<Outcome>) -> Outcome {
        if self.left_out.iter().any(|word| stage.name.contains(word.as_str())) {
            let outcome =
                Outcome { skipped: vec![format!("{}: left out by --skip", stage.name)], ..Outcome::default() };
            self.total.add(outcome.clone());
            self.rows.push(Row { stage, took: Duration::ZERO, result: "left out".to_owned() });
            return outcome;
        }
        eprintln!("\n== {}", stage.name);
        let start = Instant::now();
        let outcome = run().unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", stage.name);
            Outcome { failed: vec![format!("{}: {error:#}", stage.name)], ..Outcome::default() }
        });
        let result = match (outcome.passed, outcome.failed.len(), outcome.skipped.len()) {
            (1, 0, 0) => "ok".to_owned(),
            (0, 0, 0) => "nothing to do".to_owned(),
            (passed, failed, skipped) => format!("{passed} passed, {failed} failed, {skipped} skipped"),
        };
        let took = start.elapsed();
        eprintln!("== {}: {result}, {:.1} s", stage.name, took.as_secs_f64());
        self.rows.push(Row { stage, took, result });
        self.total.add(outcome.clone());
        outcome
    }

    pub(super) fn skip(&mut self, what: &str, why: &str) {
        self.total.skipped.push(format!("{what}: {why}"));
    }

    pub(super) fn note(&mut self, what: &str, text: &str) {
        self.notes.push(format!("{what}: {text}"));
    }

    /// Prints everything; whether nothing failed. The last line is the counts and nothing else.
    #[expect(clippy::print_stdout, reason = "the table is the command's output")]
    pub(super) fn print(&self) -> bool {
        println!("{}", self.text(self.start.elapsed()));
        self.total.failed.is_empty()
    }

    fn text(&self, took: Duration) -> String {
        let mut lines = vec![format!("\n{:<18} {:>9} {:>9}  result", "stage", "time", "budget")];
        let budget = |row: &Row| if row.took > row.stage.budget { "  over budget" } else { "" };
        lines.extend(self.rows.iter().map(|row| {
            let (took, limit) = (row.took.as_secs_f64(), row.stage.budget.as_secs());
            format!("{:<18} {took:>7.1} s {limit:>7} s  {}{}", row.stage.name, row.result, budget(row))
        }));
        let limit: u64 = self.rows.iter().map(|row| row.stage.budget.as_secs()).sum();
        lines.push(format!("{:<18} {:>7.1} s {limit:>7} s", "total", took.as_secs_f64()));
        for (title, list) in [("notes", &self.notes), ("skipped", &self.total.skipped), ("failed", &self.total.failed)]
        {
            if !list.is_empty() {
                lines.push(format!("\n{title}:"));
                lines.extend(list.iter().map(|line| format!("  {line}")));
            }
        }
        let Outcome { passed, failed, skipped } = &self.total;
        lines.push(format!("\n{passed} passed, {} failed, {} skipped", failed.len(), skipped.len()));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_counts_and_reasons_stand_above() {
        let stage = |name| Stage { name, budget: Duration::from_secs(5) };
        let mut report = Report::new(&["slow".to_owned()]);
        assert!(report.gate(stage("fmt"), || Ok(true)));
        assert!(!report.gate(stage("clippy"), || anyhow::bail!("no compiler")));
        assert!(report.gate(stage("slow one"), || Ok(false)), "a stage that was left out stops nothing");
        report.tests(stage("unit tests"), || {
            Ok(Outcome { passed: 7, failed: vec![], skipped: vec!["x: not root".to_owned()] })
        });
        let text = report.text(Duration::from_secs(9));
        assert_eq!(text.lines().last(), Some("8 passed, 1 failed, 2 skipped"));
        assert!(text.contains("  x: not root\n") && text.contains("  clippy: no compiler\n"), "{text}");
        assert!(text.contains("7 passed, 0 failed, 1 skipped"), "{text}");
    }
}
