//! What a test comes to: a table for people, JSON, or JUnit's XML for what collects tests.

use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::Answer;
use super::cell::Cell;
use super::diagnose::Diagnosis;
use crate::app::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::table::{Cell as TableCell, Table, Tone};

/// All cells, in order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
}

/// One cell, as it is told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    from: String,
    to: String,
    way: String,
    client_pod: String,
    client_node: String,
    passed: bool,
    /// Until the first right answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<u128>,
    /// The client's address as the server saw it.
    #[serde(skip_serializing_if = "String::is_empty")]
    seen_as: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    #[serde(flatten)]
    diagnosis: Option<Diagnosis>,
}

impl Row {
    pub(super) fn passed(from: &str, to: &str, cell: &Cell, answer: &Answer, after: Duration) -> Self {
        Self {
            passed: true,
            after_ms: Some(after.as_millis()),
            seen_as: answer.peer.clone(),
            ..Self::of(from, to, cell)
        }
    }

    pub(super) fn failed(from: &str, to: &str, cell: &Cell, why: &str, diagnosis: Diagnosis) -> Self {
        Self { why: why.to_owned(), diagnosis: Some(diagnosis), ..Self::of(from, to, cell) }
    }

    fn is_not_served(&self) -> bool {
        self.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.not_served)
    }

    fn of(from: &str, to: &str, cell: &Cell) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            way: cell.way(),
            client_pod: cell.pod.clone(),
            client_node: cell.node.clone(),
            passed: false,
            after_ms: None,
            seen_as: String::new(),
            why: String::new(),
            diagnosis: None,
        }
    }
}

impl Report {
    pub(super) fn failed(&self) -> usize {
        self.rows.iter().filter(|row| !row.passed && !row.is_not_served()).count()
    }

    fn not_served(&self) -> usize {
        self.rows.iter().filter(|row| row.is_not_served()).count()
    }

    /// Each fault once, with what to do, in the order in which they came.
    fn faults(&self) -> Vec<(&Diagnosis, usize)> {
        let mut faults: Vec<(&Diagnosis, usize)> = Vec::new();
        for diagnosis in self.rows.iter().filter_map(|row| row.diagnosis.as_ref()) {
            match faults.iter_mut().find(|(known, _)| *known == diagnosis) {
                Some((_, count)) => *count += 1,
                None => faults.push((diagnosis, 1)),
            }
        }
        faults
    }

    fn table(&self, colour: bool) -> String {
        let mut table = Table::new(["RESULT", "FROM", "NODE", "TO", "WAY", "AFTER", "SEEN AS"]);
        for row in &self.rows {
            let result = match row.passed {
                true => TableCell::toned("pass", Tone::Good),
                false if row.is_not_served() => TableCell::toned("n/a", Tone::Warn),
                false => TableCell::toned("FAIL", Tone::Bad),
            };
            table.row([
                result,
                row.from.as_str().into(),
                row.client_node.as_str().into(),
                row.to.as_str().into(),
                row.way.as_str().into(),
                row.after_ms.map(|ms| format!("{ms} ms")).unwrap_or_default().into(),
                row.seen_as.as_str().into(),
            ]);
        }
        let mut text = table.render(colour);
        for (fault, count) in self.faults() {
            let told = format!("\n{} ({count} ways)\n  do: {}\n", fault.fault, fault.next);
            text.push_str(&told);
        }
        text
    }

    fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut suite = TestSuite::new("connectivity");
        for row in &self.rows {
            let mut status = TestCaseStatus::success();
            if let Some(diagnosis) = &row.diagnosis {
                status = if diagnosis.not_served {
                    TestCaseStatus::skipped()
                } else {
                    TestCaseStatus::non_success(NonSuccessKind::Failure)
                };
                status.set_message(&diagnosis.fault).set_type("unreached");
                status.set_description(format!("{}\ndo: {}", row.why, diagnosis.next));
            }
            let mut case = TestCase::new(format!("{} on {} {}", row.client_pod, row.client_node, row.way), status);
            case.set_classname(format!("{} to {}", row.from, row.to));
            if let Some(after) = row.after_ms {
                case.set_time(Duration::from_millis(u64::try_from(after).unwrap_or(u64::MAX)));
            }
            suite.add_test_case(case);
        }
        let mut report = quick_junit::Report::new("meshctl connectivity test");
        report.add_test_suite(suite);
        report.to_string()
    }
}

pub(super) fn show(run: &Run, report: &Report) -> Result<(), Failure> {
    if run.format == Format::Junit {
        let text = report.junit().map_err(|error| Failure::new(Exit::Failed, "JUnit", &error))?;
        output::line(text.trim_end())?;
    } else {
        run.output.data(report, Report::table)?;
    }
    let (all, failed, not_served) = (report.rows.len(), report.failed(), report.not_served());
    let rest = if not_served > 0 { format!(", {not_served} are not served in this version") } else { String::new() };
    output::note(format!("{} of {all} ways pass{rest}", all - failed - not_served));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::kubernetes::Protocol;
    use crate::verb::connectivity::cell::{From, To};

    fn report() -> Report {
        let cell = |to| Cell {
            from: 0,
            client: From::Pod,
            pod: "client-0".to_owned(),
            node: "a1".to_owned(),
            address: "10.1.1.2".to_owned(),
            to,
            target: To::Service,
            protocol: Protocol::Tcp,
        };
        let answer = Answer { cluster: "a".into(), pod: "server".into(), peer: "10.1.1.2".into() };
        let diagnosis = Diagnosis {
            fault: "ka is <not> joined to kb".into(),
            next: "meshctl connect ka kb".into(),
            not_served: false,
        };
        let rows = vec![
            Row::passed("ka", "ka", &cell(0), &answer, Duration::from_millis(7)),
            Row::failed("ka", "kb", &cell(1), "no answer", diagnosis.clone()),
            Row::failed("ka", "kb", &cell(1), "no answer", diagnosis),
        ];
        Report { rows }
    }

    #[test]
    fn a_fault_is_told_once_with_the_next_command() {
        let text = report().table(false);
        assert!(text.contains("pass    ka    a1    ka  pod -> service, tcp  7 ms   10.1.1.2\n"), "{text}");
        assert!(text.ends_with("\nka is <not> joined to kb (2 ways)\n  do: meshctl connect ka kb\n"), "{text}");
        assert_eq!(report().failed(), 2);
    }

    #[test]
    fn what_this_version_does_not_carry_is_neither_passed_nor_a_failure() {
        let mut report = report();
        let none = Diagnosis { fault: "hosts".into(), next: "use a pod".into(), not_served: true };
        for row in &mut report.rows[1..] {
            row.diagnosis = Some(none.clone());
        }
        assert_eq!((report.failed(), report.not_served()), (0, 2));
        assert!(report.table(false).contains("n/a     ka    a1    kb"), "{}", report.table(false));
        let xml = report.junit().unwrap();
        assert!(xml.contains("failures=\"0\"") && xml.contains("<skipped"), "{xml}");
        assert_eq!(serde_json::to_value(&report).unwrap()["rows"][1]["not_served"], true);
    }

    #[test]
    fn junit_has_a_case_for_each_way_and_json_too() {
        let xml = report().junit().unwrap();
        assert!(xml.contains("tests=\"3\"") && xml.contains("failures=\"2\""), "{xml}");
        assert!(xml.contains("ka is &lt;not&gt; joined to kb") && xml.contains("do: meshctl connect ka kb"), "{xml}");
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["rows"][1]["next"], "meshctl connect ka kb");
        assert_eq!(json["rows"][0].get("fault"), None);
    }
}
