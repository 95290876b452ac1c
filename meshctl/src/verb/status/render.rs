//! A cluster's status as text of at most 100 columns.

use jiff::Timestamp;

use super::report::{Agent, ClusterReport};
use crate::age;
use crate::table::{Cell, Table, Tone, paint};

/// Width that the text keeps to.
pub(super) const WIDTH: usize = 100;

pub(super) fn cluster(c: &ClusterReport, now: Timestamp, colour: bool) -> String {
    let mut out = String::new();
    let (word, tone) = if c.problems.is_empty() { ("ok", Tone::Good) } else { ("degraded", Tone::Warn) };
    line(
        &mut out,
        &format!(
            "{} (id {})  {}  version {}, encryption {}",
            c.cluster,
            c.cluster_id,
            paint(word, tone, colour),
            c.version,
            c.encryption
        ),
    );
    let s = &c.store;
    let replicas = format!("{}/{} replicas ready", s.ready_replicas, s.replicas);
    line(&mut out, &format!("  store   revision {}, {} keys, {replicas}", s.revision, s.keys));
    let rejected = c.source.errors.len();
    let source = format!("  source  {} objects, {rejected} left out, {} ", c.source.objects, c.source.kind);
    line(&mut out, &format!("{source}{}", tail(&c.source.location, WIDTH.saturating_sub(source.chars().count()))));
    line(
        &mut out,
        &format!(
            "  view    {} services ({} global), {} endpoints, {} identities",
            c.services, c.global_services, c.endpoints, c.identities
        ),
    );
    if let Some(first) = &c.first_to_expire {
        let end = first.not_after.map_or_else(|| "unknown".to_owned(), |end| end.to_string());
        let stage = c.rotation.as_ref().filter(|rotation| !rotation.is_over);
        let stage = stage.map_or_else(String::new, |rotation| format!("; CA rotation at stage {}", rotation.stage));
        line(&mut out, &format!("  certs   {} of {} ends first, {end}{stage}", first.name, first.holder));
    }
    if c.peers.is_empty() {
        line(&mut out, "  no cluster is joined");
    } else {
        out.push('\n');
        out.push_str(&peers(c, now).render(colour));
    }
    if c.agents.is_empty() {
        line(&mut out, "  no agent has registered");
    } else {
        out.push('\n');
        out.push_str(&agents(c, now).render(colour));
    }
    if !c.problems.is_empty() {
        out.push('\n');
        for p in &c.problems {
            wrap(&mut out, &format!("{}: {}", p.object, p.problem));
        }
    }
    out
}

fn peers(c: &ClusterReport, now: Timestamp) -> Table {
    let mut table = Table::new([
        "PEER",
        "ID",
        "STATE",
        "FOR",
        "HEARTBEAT",
        "PATHS",
        "SYNCED",
        "KEYS",
        "REJECTED",
        "NOT IMPORTED",
        "RECONNECTS",
        "RELISTS",
    ]);
    for p in &c.peers {
        let rejected = p.rejected();
        table.row([
            p.name.as_str().into(),
            p.id.to_string().into(),
            p.state_cell(),
            age::since(now, p.since).into(),
            age::since(now, p.last_heartbeat).into(),
            p.paths.cell(),
            p.synced().into(),
            p.resources.iter().map(|r| u64::from(r.keys)).sum::<u64>().to_string().into(),
            Cell::toned(rejected.to_string(), if rejected > 0 { Tone::Warn } else { Tone::Plain }),
            p.not_imported().to_string().into(),
            p.reconnects.to_string().into(),
            p.relists.to_string().into(),
        ]);
    }
    // Only where there are import rules.
    let table = if c.peers.iter().all(|p| p.not_imported() == 0) { table.without("NOT IMPORTED") } else { table };
    table.indent(2).fit(WIDTH)
}

fn agents(c: &ClusterReport, now: Timestamp) -> Table {
    let mut table = Table::new([
        "AGENT",
        "CONNECTED",
        "FOR",
        "TUNNEL",
        "PATHS",
        "REVISION",
        "PODS",
        "SERVICES",
        "DRIFT",
        "DROPPED",
    ]);
    for a in &c.agents {
        let connected = if a.connected { Cell::toned("yes", Tone::Good) } else { Cell::toned("no", Tone::Bad) };
        let r = a.realized.clone().unwrap_or_default();
        let count = |n: u64| if a.realized.is_some() { n.to_string() } else { String::new() };
        let up = r.paths.iter().filter(|p| p.up).count();
        let paths = if a.realized.is_some() { format!("{up}/{} up", r.paths.len()) } else { String::new() };
        table.row([
            a.node.as_str().into(),
            connected,
            age::since(now, a.since).into(),
            tunnel(a),
            if up == r.paths.len() { paths.into() } else { Cell::toned(paths, Tone::Warn) },
            count(r.revision.unsigned_abs()).into(),
            count(u64::from(r.endpoints)).into(),
            count(u64::from(r.services)).into(),
            count(r.drift_total).into(),
            count(r.dropped_packets).into(),
        ]);
    }
    table.indent(2).fit(WIDTH)
}

fn tunnel(agent: &Agent) -> Cell {
    let Some(realized) = &agent.realized else { return "".into() };
    match (agent.wireguard_backend.as_str(), realized.tunnel_up) {
        ("" | "none", _) => "clear".into(),
        (backend, true) => Cell::toned(format!("up ({backend})"), Tone::Good),
        (backend, false) => Cell::toned(format!("down ({backend})"), Tone::Bad),
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

/// The end of a path says more than its start.
fn tail(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        text.to_owned()
    } else {
        std::iter::once('…').chain(text.chars().skip(len + 1 - width)).collect()
    }
}

/// `  ! text`, continued under itself.
fn wrap(out: &mut String, text: &str) {
    let mut text_line = String::from("  !");
    for word in text.split_whitespace() {
        if text_line.chars().count() + 1 + word.chars().count() > WIDTH && text_line.trim().chars().count() > 1 {
            line(out, &text_line);
            text_line = String::from("   ");
        }
        text_line.push(' ');
        text_line.push_str(word);
    }
    line(out, &text_line);
}

#[cfg(test)]
mod tests;
