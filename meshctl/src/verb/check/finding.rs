//! One line of a check: what was looked at, how it is, and what to do where it is not well.

use serde::Serialize;

use crate::table::{Tone, paint};
use crate::verb::preflight::Severity;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) context: String,
    /// A stable word for scripts.
    pub(crate) check: String,
    pub(crate) severity: Severity,
    pub(crate) text: String,
    /// What to do; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

/// Gathers the findings of one cluster.
#[derive(Debug)]
pub(crate) struct Findings {
    context: String,
    pub(crate) all: Vec<Finding>,
}

impl Findings {
    pub(crate) fn of(context: &str) -> Self {
        Self { context: context.to_owned(), all: Vec::new() }
    }

    pub(crate) fn pass(&mut self, check: &str, text: impl Into<String>) {
        self.add(Severity::Pass, check, text.into(), String::new());
    }

    pub(crate) fn warn(&mut self, check: &str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warn, check, text.into(), remedy.into());
    }

    pub(crate) fn fail(&mut self, check: &str, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Fail, check, text.into(), remedy.into());
    }

    pub(crate) fn add(&mut self, severity: Severity, check: &str, text: String, remedy: String) {
        let context = self.context.clone();
        self.all.push(Finding { context, check: check.to_owned(), severity, text, remedy });
    }

    /// Passes where no line of this check was written.
    pub(crate) fn well_unless_said(&mut self, check: &str, text: impl Into<String>) {
        if !self.all.iter().any(|finding| finding.check == check) {
            self.pass(check, text);
        }
    }
}

/// The lines of one cluster; what to do stands below what it is about.
pub(crate) fn render(findings: &[Finding], colour: bool) -> String {
    let mut out = String::new();
    let mut context = "";
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    for finding in findings {
        if finding.context != context {
            if !out.is_empty() {
                out.push('\n');
            }
            context = &finding.context;
            out.push_str(context);
            out.push('\n');
        }
        let (word, tone) = match finding.severity {
            Severity::Pass => ("pass", Tone::Good),
            Severity::Warn => ("warn", Tone::Warn),
            Severity::Fail => ("FAIL", Tone::Bad),
        };
        let padding = " ".repeat(width - finding.check.chars().count());
        let line = format!("  {}  {}{padding}  {}\n", paint(word, tone, colour), finding.check, finding.text);
        out.push_str(&line);
        if !finding.remedy.is_empty() {
            let line = format!("{}do: {}\n", " ".repeat(width + 10), finding.remedy);
            out.push_str(&line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_below_what_it_is_for() {
        let mut found = Findings::of("kind-a");
        found.pass("api", "it answers");
        found.fail("cgroup2", "node a1 has none", "boot it so");
        found.well_unless_said("cgroup2", "all have it");
        assert_eq!(
            render(&found.all, false),
            "kind-a\n  pass  api      it answers\n  FAIL  cgroup2  node a1 has none\n                 do: boot it so\n"
        );
        let json = serde_json::to_value(&found.all).unwrap();
        assert_eq!((json[0]["severity"].as_str(), json[0].get("remedy")), (Some("pass"), None));
    }
}
