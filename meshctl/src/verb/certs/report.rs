//! A cluster's certificates as data and as text.

use jiff::Timestamp;
use mesh_proto::v1;
use serde::Serialize;

use crate::age;
use crate::table::{Cell, Table, Tone, paint};

/// Whether a certificate can be used, and for how long by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    /// It should have been renewed: a third of a leaf's life is left, or 90 days of a CA's.
    Due,
    Expired,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) holder: String,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// Hash of the CA's key; of a leaf, that of the CA which signed it.
    pub(crate) ca: String,
    pub(crate) state: State,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) renewed_from: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Party {
    pub(crate) party: String,
    pub(crate) what: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rotation {
    pub(crate) stage: String,
    pub(crate) is_over: bool,
    pub(crate) old_ca: String,
    pub(crate) new_ca: String,
    pub(crate) started: Option<Timestamp>,
    /// When its stage was entered.
    pub(crate) since: Option<Timestamp>,
    /// Who has not acknowledged the stage, and why.
    pub(crate) awaited: Vec<Party>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) context: String,
    pub(crate) certificates: Vec<Row>,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) leaves_awaited: Vec<Party>,
    pub(crate) silent: Vec<Party>,
    pub(crate) old_clients: Vec<String>,
    /// What is not well; empty is what "well" means.
    pub(crate) problems: Vec<String>,
    /// By the server's clock.
    now: Timestamp,
}

/// A CA's successor takes some time to plan.
const CA_DUE_DAYS: i64 = 90;

impl From<v1::MissingParty> for Party {
    fn from(missing: v1::MissingParty) -> Self {
        Self { party: missing.party, what: missing.what }
    }
}

impl From<v1::CaRotation> for Rotation {
    fn from(rotation: v1::CaRotation) -> Self {
        Self {
            stage: rotation.stage,
            is_over: rotation.is_over,
            old_ca: rotation.old_ca,
            new_ca: rotation.new_ca,
            started: age::timestamp(rotation.started_unix_nanos),
            since: age::timestamp(rotation.since_unix_nanos),
            awaited: rotation.awaited.into_iter().map(Party::from).collect(),
        }
    }
}

impl Row {
    pub(crate) fn new(row: v1::Certificate, now: Timestamp) -> Self {
        let [not_before, not_after, renewed_from] =
            [row.not_before_unix_nanos, row.not_after_unix_nanos, row.renew_unix_nanos].map(age::timestamp);
        let ca_due = not_after.map(|end| end.saturating_sub(jiff::SignedDuration::from_hours(24 * CA_DUE_DAYS)));
        let due = if row.is_ca { ca_due.and_then(Result::ok) } else { renewed_from };
        let state = match (not_after, due) {
            (None, _) => State::Expired,
            (Some(end), _) if end <= now => State::Expired,
            (_, Some(due)) if due <= now => State::Due,
            _ => State::Ok,
        };
        let kind = if row.is_ca { "ca" } else { "leaf" };
        Self { holder: row.holder, name: row.name, kind, ca: row.ca, state, not_before, not_after, renewed_from }
    }
}

impl Report {
    /// `here` stands in for a server that does not tell its time.
    pub(crate) fn new(context: &str, found: v1::GetCertificatesResponse, here: Timestamp) -> Self {
        let now = age::timestamp(found.now_unix_nanos).unwrap_or(here);
        let parties = |list: Vec<v1::MissingParty>| list.into_iter().map(Party::from).collect::<Vec<_>>();
        let mut report = Self {
            context: context.to_owned(),
            certificates: found.certificates.into_iter().map(|row| Row::new(row, now)).collect(),
            rotation: found.rotation.map(Rotation::from),
            leaves_awaited: parties(found.leaves_awaited),
            silent: parties(found.silent),
            old_clients: found.old_clients,
            problems: Vec::new(),
            now,
        };
        report.problems = report.problems();
        report
    }

    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        for row in &self.certificates {
            let of = format!("{} {} of {}", row.kind, row.name, row.holder);
            let ago = age::since(self.now, row.not_after);
            match row.state {
                State::Ok => {}
                State::Expired if row.holder.starts_with("peer ") => {
                    found.push(format!("{of} expired {ago} ago: rotate it there, or connect the cluster again"));
                }
                State::Expired => {
                    found.push(format!("{of} expired {ago} ago: `meshctl certs rotate --leaf={}` renews it", row.name));
                }
                State::Due if row.kind == "ca" && row.holder.starts_with("peer ") => {
                    found.push(format!("{of} expires {}: it is to be rotated there", end(row)));
                }
                State::Due if row.kind == "ca" => {
                    found.push(format!("{of} expires {}: `meshctl certs rotate --ca` goes over to another", end(row)));
                }
                State::Due => found.push(format!("{of} expires {} and was not renewed by itself", end(row))),
            }
            if row.kind == "leaf" && row.ca.is_empty() {
                found.push(format!("{of} is signed by none of the CAs that its holder trusts"));
            }
        }
        if let Some(rotation) = self.rotation.as_ref().filter(|rotation| !rotation.is_over) {
            let since = age::since(self.now, rotation.since);
            let started = age::since(self.now, rotation.started);
            found.push(format!(
                "a rotation of the CA is unfinished: begun {started} ago, at stage {} for {since}",
                rotation.stage
            ));
            found.extend(rotation.awaited.iter().map(|one| format!("rotation waits: {} {}", one.party, one.what)));
        }
        found.extend(self.leaves_awaited.iter().map(|one| format!("renewal: {} {}", one.party, one.what)));
        found.extend(self.silent.iter().map(|one| format!("{} {}", one.party, one.what)));
        found
    }
}

fn end(row: &Row) -> String {
    row.not_after.map_or_else(|| "at an unknown time".to_owned(), |end| format!("at {end}"))
}

/// The first digits of a hash tell CAs apart.
pub(crate) fn short(hash: &str) -> &str {
    let digits = hash.strip_prefix("sha256:").unwrap_or(hash);
    digits.get(..12).unwrap_or(digits)
}

pub(crate) fn render(report: &Report, colour: bool) -> String {
    let (word, tone) = if report.problems.is_empty() { ("ok", Tone::Good) } else { ("not well", Tone::Warn) };
    let mut out = format!("{}  {}\n", report.context, paint(word, tone, colour));
    let mut table = Table::new(["HOLDER", "NAME", "KIND", "CA", "STATE", "EXPIRES"]).indent(2);
    for row in &report.certificates {
        let state = match row.state {
            State::Ok => Cell::toned("ok", Tone::Good),
            State::Due => Cell::toned("due", Tone::Warn),
            State::Expired => Cell::toned("expired", Tone::Bad),
        };
        table.row([
            row.holder.as_str().into(),
            row.name.as_str().into(),
            row.kind.into(),
            short(&row.ca).into(),
            state,
            row.not_after.map_or_else(String::new, |end| end.to_string()).into(),
        ]);
    }
    out.push_str(&table.render(colour));
    let rotation = report.rotation.iter().map(|rotation| {
        let (old, new) = (short(&rotation.old_ca), short(&rotation.new_ca));
        let since = age::since(report.now, rotation.since);
        format!("  rotation  {} for {since}, CA {old} -> {new}\n", rotation.stage)
    });
    let clients = report.old_clients.iter();
    let clients = clients
        .map(|client| format!("  client    {client} is connected by a leaf of the CA that goes: give it a new one\n"));
    let problems = report.problems.iter().map(|problem| format!("  ! {problem}\n"));
    out.extend(rotation.chain(clients).chain(problems));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(holder: &str, is_ca: bool, renew: u64, end: u64) -> v1::Certificate {
        let nanos = |seconds: u64| seconds * 1_000_000_000;
        v1::Certificate {
            holder: holder.into(),
            name: if is_ca { "isthmus-ca-east".into() } else { "agent-n1".into() },
            is_ca,
            ca: "sha256:0123456789abcdef".into(),
            not_before_unix_nanos: nanos(1),
            not_after_unix_nanos: nanos(end),
            renew_unix_nanos: nanos(renew),
        }
    }

    fn report(certificates: Vec<v1::Certificate>, rotation: Option<v1::CaRotation>) -> Report {
        let found = v1::GetCertificatesResponse {
            certificates,
            rotation,
            now_unix_nanos: 100_000_000_000_000,
            ..Default::default()
        };
        Report::new("east", found, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_certificate_is_ok_then_due_then_expired_by_the_servers_clock() {
        let year = 365 * 24 * 3600;
        let found = report(
            vec![
                row("agent n1", false, 100_001, 200_000),
                row("agent n2", false, 100_000, 200_000),
                row("agent n3", false, 90_000, 100_000),
                row("this cluster", true, 0, 100_000 + year),
                row("this cluster", true, 0, 200_000),
            ],
            None,
        );
        let states: Vec<State> = found.certificates.iter().map(|row| row.state).collect();
        assert_eq!(states, [State::Ok, State::Due, State::Expired, State::Ok, State::Due]);
        assert_eq!(found.problems.len(), 3, "{:?}", found.problems);
        assert!(found.problems[1].contains("expired 0ms ago: `meshctl certs rotate --leaf=agent-n1` renews it"));
    }

    #[test]
    fn an_unfinished_rotation_says_since_when_and_for_whom_it_waits() {
        let rotation = |is_over| v1::CaRotation {
            stage: if is_over { "done".into() } else { "distribute".into() },
            old_ca: "sha256:aaaaaaaaaaaaaaaa".into(),
            new_ca: "sha256:bbbbbbbbbbbbbbbb".into(),
            started_unix_nanos: 99_000_000_000_000,
            since_unix_nanos: 99_940_000_000_000,
            awaited: vec![v1::MissingParty { party: "peer west".into(), what: "does not trust the new CA yet".into() }],
            is_over,
        };
        let text = render(&report(Vec::new(), Some(rotation(false))), false);
        assert_eq!(
            text,
            "east  not well\n  HOLDER  NAME  KIND  CA  STATE  EXPIRES\n  \
             rotation  distribute for 1m00s, CA aaaaaaaaaaaa -> bbbbbbbbbbbb\n  \
             ! a rotation of the CA is unfinished: begun 16m40s ago, at stage distribute for 1m00s\n  \
             ! rotation waits: peer west does not trust the new CA yet\n"
        );
        assert!(report(Vec::new(), Some(rotation(true))).problems.is_empty());
    }
}
