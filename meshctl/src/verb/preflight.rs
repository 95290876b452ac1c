//! `meshctl preflight A B`: what would keep two clusters apart, as each side finds it. Changes nothing.

use std::time::{Duration, Instant};

use mesh_proto::v1;
use serde::Serialize;

use crate::admin::Admin;
use crate::app::Run;
use crate::args::Preflight;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::pair::Named;
use crate::table::{Cell, Table, Tone};

/// Clocks that differ by more are a fault; by half of it, a warning. As the servers judge certificates and tokens.
const MAX_SKEW: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Pass,
    Warn,
    Fail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Who found it: a context, or both.
    seen_by: String,
    severity: Severity,
    check: String,
    text: String,
}

/// A reached cluster and what it says of itself.
struct Side {
    admin: Admin,
    declared: v1::ClusterDeclaration,
}

/// A side's answer, and when it was asked and answered by our clock.
struct Looked {
    context: String,
    response: v1::PreflightResponse,
    asked: Instant,
    answered: Instant,
}

pub(crate) async fn run(run: &Run, args: &Preflight) -> Result<Exit, Failure> {
    let named = Named {
        a: args.a.as_deref(),
        b: args.b.as_deref(),
        contexts: &run.named,
        destination: args.destination_context.as_deref(),
    };
    let (name_a, name_b) = named.both()?;
    if name_a == name_b {
        return Err(Failure::said(Exit::Usage, name_a, "a cluster is not joined to itself"));
    }
    let (a, b) = tokio::join!(reach(run, name_a), reach(run, name_b));
    let (a, b) = (a?, b?);
    let (of_a, of_b) = (a.declared.clone(), b.declared.clone());
    output::note(format!("asking {name_a} and {name_b} about each other; unreachable addresses take 3 s"));
    let (a, b) = tokio::join!(look(a, of_b), look(b, of_a));
    let (a, b) = (a?, b?);
    let mut findings = merged(&a, &b);
    findings.push(of_clocks(&a, &b));
    findings.extend(of_mtu(&a, &b));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Pass);
    run.output.data(&findings, |findings, colour| table(findings).render(colour))?;
    let said = match worst {
        Severity::Fail => format!("do not connect them yet: {} faults", count(&findings, Severity::Fail)),
        Severity::Warn => format!("they can be connected; {} warnings", count(&findings, Severity::Warn)),
        Severity::Pass => format!("they can be connected: meshctl connect {name_a} {name_b}"),
    };
    output::note(said);
    Ok(if worst == Severity::Fail { Exit::Degraded } else { Exit::Ok })
}

/// What both servers find of each other, for `meshctl check`: severity, check and text of each finding.
pub(crate) async fn between(run: &Run, a: &str, b: &str) -> Result<Vec<(Severity, String, String)>, Failure> {
    let (a, b) = tokio::join!(reach(run, a), reach(run, b));
    let (a, b) = (a?, b?);
    let (of_a, of_b) = (a.declared.clone(), b.declared.clone());
    let (a, b) = tokio::join!(look(a, of_b), look(b, of_a));
    let (a, b) = (a?, b?);
    let mut findings = merged(&a, &b);
    findings.push(of_clocks(&a, &b));
    findings.extend(of_mtu(&a, &b));
    Ok(findings.into_iter().map(|found| (found.severity, found.check, found.text)).collect())
}

async fn reach(run: &Run, name: &str) -> Result<Side, Failure> {
    let mut admin = Admin::connect(&run.context(name)?, run.timeout).await?;
    let result = admin.api.get_declaration(v1::GetDeclarationRequest {}).await;
    let declared = admin.answer("GetDeclaration", result)?;
    Ok(Side { admin, declared })
}

async fn look(side: Side, other: v1::ClusterDeclaration) -> Result<Looked, Failure> {
    let Side { mut admin, .. } = side;
    let asked = Instant::now();
    let result = admin.api.preflight(v1::PreflightRequest { other: Some(other) }).await;
    let answered = Instant::now();
    let response = admin.answer("Preflight", result)?;
    Ok(Looked { context: admin.context, response, asked, answered })
}

/// What both sides found, each once: most of it is seen from either.
fn merged(a: &Looked, b: &Looked) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for side in [a, b] {
        for finding in &side.response.findings {
            let severity = match v1::Severity::try_from(finding.severity) {
                Ok(v1::Severity::Pass) => Severity::Pass,
                Ok(v1::Severity::Warn) => Severity::Warn,
                Ok(v1::Severity::Fail) | Err(_) => Severity::Fail,
            };
            match found.iter_mut().find(|known| known.text == finding.text) {
                Some(known) if known.seen_by == side.context => {}
                Some(known) => "both".clone_into(&mut known.seen_by),
                None => found.push(Finding {
                    seen_by: side.context.clone(),
                    severity,
                    check: finding.check.clone(),
                    text: finding.text.clone(),
                }),
            }
        }
    }
    found
}

/// Each server told its time as it answered. The difference that remains when ours is taken out is theirs; what the answers
/// took is not held against them.
fn of_clocks(a: &Looked, b: &Looked) -> Finding {
    let nanos = |looked: &Looked| i128::from(looked.response.now_unix_nanos);
    let between = |from: Instant, to: Instant| {
        let ahead = to.saturating_duration_since(from).as_nanos();
        let behind = from.saturating_duration_since(to).as_nanos();
        i128::try_from(ahead).unwrap_or(i128::MAX) - i128::try_from(behind).unwrap_or(i128::MAX)
    };
    let difference = (nanos(b) - nanos(a) - between(a.answered, b.answered)).unsigned_abs();
    let slack = (a.answered - a.asked).max(b.answered - b.asked).as_nanos();
    let skew = Duration::from_nanos(u64::try_from(difference.saturating_sub(slack)).unwrap_or(u64::MAX));
    let text = format!("the clocks of {} and {} differ by {} ms", a.context, b.context, skew.as_millis());
    let (severity, text) = match skew {
        skew if skew > MAX_SKEW => (Severity::Fail, format!("{text}: synchronise both with NTP")),
        skew if skew > MAX_SKEW / 2 => (Severity::Warn, format!("{text}: synchronise both with NTP")),
        _ => (Severity::Pass, text),
    };
    Finding { seen_by: "meshctl".to_owned(), severity, check: "clock".to_owned(), text }
}

/// `None` where an agent's word is missing on either side.
fn of_mtu(a: &Looked, b: &Looked) -> Option<Finding> {
    let (of_a, of_b) = (a.response.inner_mtu, b.response.inner_mtu);
    if of_a == 0 || of_b == 0 || of_a == of_b {
        return None;
    }
    let text = format!(
        "{} sends packets of up to {of_a} bytes and {} of up to {of_b}: TCP follows the smaller, larger UDP is answered with \
         \"too big\"; give the uplinks of both one MTU",
        a.context, b.context
    );
    Some(Finding { seen_by: "meshctl".to_owned(), severity: Severity::Warn, check: "mtu".to_owned(), text })
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(["RESULT", "CHECK", "SEEN BY", "WHAT"]);
    for finding in findings {
        let result = match finding.severity {
            Severity::Pass => Cell::toned("pass", Tone::Plain),
            Severity::Warn => Cell::toned("warn", Tone::Warn),
            Severity::Fail => Cell::toned("FAIL", Tone::Bad),
        };
        table.row([
            result,
            finding.check.as_str().into(),
            finding.seen_by.as_str().into(),
            finding.text.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(context: &str, texts: &[(v1::Severity, &str)], now_unix_nanos: u64) -> Looked {
        let findings = texts.iter().map(|(severity, text)| v1::Finding {
            severity: (*severity).into(),
            check: "reach".into(),
            text: (*text).to_owned(),
        });
        let asked = Instant::now();
        let response = v1::PreflightResponse { findings: findings.collect(), now_unix_nanos, inner_mtu: 0 };
        Looked { context: context.to_owned(), response, asked, answered: asked }
    }

    #[test]
    fn what_both_sides_see_is_said_once() {
        let a = looked("a", &[(v1::Severity::Fail, "same id"), (v1::Severity::Pass, "a reaches b")], 0);
        let b = looked("b", &[(v1::Severity::Fail, "same id"), (v1::Severity::Fail, "b does not reach a")], 0);
        let said: Vec<(String, String)> =
            merged(&a, &b).into_iter().map(|finding| (finding.seen_by, finding.text)).collect();
        let want = [("both", "same id"), ("a", "a reaches b"), ("b", "b does not reach a")];
        assert_eq!(said, want.map(|(who, text)| (who.to_owned(), text.to_owned())));
    }

    #[test]
    fn clusters_whose_packets_differ_in_size_are_told_once_both_are_known() {
        let sized = |context: &str, inner_mtu: u32| {
            let mut looked = looked(context, &[], 0);
            looked.response.inner_mtu = inner_mtu;
            looked
        };
        let found = of_mtu(&sized("a", 1370), &sized("b", 8871)).unwrap();
        assert!(found.text.contains("a sends packets of up to 1370 bytes and b of up to 8871"), "{}", found.text);
        assert_eq!(of_mtu(&sized("a", 1370), &sized("b", 1370)), None);
        assert_eq!(of_mtu(&sized("a", 1370), &sized("b", 0)), None);
    }

    #[test]
    fn clocks_are_compared_without_the_time_that_answers_took() {
        const MINUTE: u64 = 60_000_000_000;
        let severity = |skew: u64| of_clocks(&looked("a", &[], MINUTE), &looked("b", &[], MINUTE + skew)).severity;
        assert_eq!(
            [0, MINUTE / 2 + 1_000_000_000, 2 * MINUTE].map(severity),
            [Severity::Pass, Severity::Warn, Severity::Fail]
        );
        let mut slow = looked("b", &[], 3 * MINUTE);
        slow.answered = slow.asked + Duration::from_mins(2);
        assert_eq!(of_clocks(&looked("a", &[], MINUTE), &slow).severity, Severity::Pass);
    }
}
