//! Goes through the pages command by command, says how far it is, and gathers what is not as a page says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use topology_tests::deadline::wait_for;
use topology_tests::docs::markdown::Marks;
use topology_tests::docs::output;
use topology_tests::docs::pages::Page;
use topology_tests::docs::steps::Step;

use crate::terminal::{Came, Terminal};

/// How long a block that settles may take for it. Pods that do not listen to their end are terminating for half of it.
const SETTLES: Duration = Duration::from_mins(1);
/// Goes on after a command that failed: for whoever writes pages.
const GO_ON: &str = "ISTHMUS_DOCS_GO_ON";
/// Of a command, in a line of progress.
const WIDTH: usize = 100;
/// Of what came, in a fault.
const MOST_LINES: usize = 60;

/// What a reading came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) commands: usize,
    pub(crate) blocks: usize,
    pub(crate) faults: Vec<String>,
    not_run: Vec<String>,
    by_page: BTreeMap<String, Duration>,
}

pub(crate) struct Reading<'a> {
    terminal: &'a Terminal,
    report: Report,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(terminal: &'a Terminal) -> Self {
        Self { terminal, report: Report::default() }
    }

    pub(crate) fn has_faults(&self) -> bool {
        !self.report.faults.is_empty()
    }

    /// Reads all pages, or until a command fails: what comes after it would fail for that reason alone.
    pub(crate) fn all(&mut self, pages: &[Page]) {
        for page in pages {
            println!("{}", page.name);
            let begun = Instant::now();
            let goes_on = self.page(page);
            self.report.by_page.insert(page.name.clone(), begun.elapsed());
            if !goes_on {
                println!("the rest is not run");
                return;
            }
        }
    }

    fn page(&mut self, page: &Page) -> bool {
        for (block, steps) in &page.blocks {
            if let Some(why) = &block.marks.not_run {
                println!("  {:>4}  not run: {why}", block.line);
                self.report.not_run.push(format!("{}:{}: {why}", page.name, block.line));
                continue;
            }
            self.report.blocks += 1;
            for step in steps {
                let begun = Instant::now();
                let done = self.step(&block.marks, step);
                let first: String = step.command.lines().next().unwrap_or_default().chars().take(WIDTH).collect();
                println!("  {:>4}  {:5.1} s  {first}", step.line, begun.elapsed().as_secs_f64());
                self.report.commands += 1;
                let Err(fault) = done else { continue };
                let text = format!("{}:{}: {:#}", page.name, step.line, fault.error);
                println!("{text}");
                self.report.faults.push(text);
                if fault.is_failure && std::env::var_os(GO_ON).is_none() {
                    return false;
                }
            }
        }
        true
    }

    fn step(&self, marks: &Marks, step: &Step) -> Result<(), Fault> {
        let mut last = None;
        let mut attempt = || -> Result<()> {
            let came = self.terminal.run(&step.command)?;
            let wrong = difference(marks, step, &came);
            last = Some(came);
            wrong.map_or(Ok(()), |wrong| bail!("{}", describe(step, &wrong, last.as_ref())))
        };
        let done = if marks.settles { wait_for("it to settle", SETTLES, || attempt().map(Some)) } else { attempt() };
        let is_failure = last.is_none_or(|came| came.code != marks.exits);
        done.map_err(|error| Fault { error, is_failure })
    }

    pub(crate) fn end(self) -> Report {
        let report = self.report;
        for (page, time) in &report.by_page {
            println!("{page}: {:.1} s", time.as_secs_f64());
        }
        println!(
            "{} commands in {} blocks were run; not run: {}",
            report.commands,
            report.blocks,
            report.not_run.len()
        );
        for why in &report.not_run {
            println!("  {why}");
        }
        report
    }
}

struct Fault {
    error: anyhow::Error,
    /// The command failed, or did not fail where it should; otherwise it showed something else.
    is_failure: bool,
}

fn difference(marks: &Marks, step: &Step, came: &Came) -> Option<String> {
    if came.code != marks.exits {
        return Some(format!("it exits with {}, and not with {}", came.code, marks.exits));
    }
    // A page that shows no output says nothing of it.
    if step.output.is_empty() { None } else { output::difference(&step.output, &came.output) }
}

fn describe(step: &Step, wrong: &str, came: Option<&Came>) -> String {
    let indented = |text: &str| {
        text.trim_end().lines().take(MOST_LINES).map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat()
    };
    let (came, took) = came.map_or(("", Duration::ZERO), |came| (came.output.as_str(), came.took));
    format!(
        "{wrong}\n  command:\n{}  the page shows:\n{}  came, after {:.1} s:\n{}",
        indented(&step.command),
        indented(&step.output.join("\n")),
        took.as_secs_f64(),
        indented(came),
    )
}
