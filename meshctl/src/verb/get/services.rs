//! Services with the backends that each cluster gives them, and which of them take new connections.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mesh_proto::convert::Error;
use mesh_proto::v1;
use serde::Serialize;

use crate::app::Run;
use crate::args::Get;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table, Tone};
use crate::wire::Port;
use crate::{age, ask, wire};

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    cluster: String,
    namespace: String,
    name: String,
    frontends: Vec<Frontend>,
    global: bool,
    shared: bool,
    affinity: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failover: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    weights: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spillover_percent: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdraw_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_after: Option<String>,
    /// Who may have it, of the own cluster's Service; not there: every joined cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    export_to: Option<Vec<String>>,
    /// Whose backends are taken, of the own cluster's Service; not there: every joined cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    import_from: Option<Vec<String>>,
    backends: Vec<Backend>,
    /// How it uses each remote cluster that has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remote: Vec<Remote>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Debug, Serialize)]
struct Remote {
    cluster: String,
    /// live; stale: used, although it is not known to be well; withdrawn: not used
    state: String,
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

#[derive(Debug, Serialize)]
struct Frontend {
    address: String,
    ports: Vec<Port>,
}

#[derive(Debug, Serialize)]
struct Backend {
    cluster: String,
    address: String,
    ports: Vec<Port>,
    state: &'static str,
    node: String,
    weight: u32,
    /// Takes new connections (before an agent masks paths that are dead for it).
    selected: bool,
    /// Its share of them, relative to the other selected ones; 0 for one that is not.
    share: u32,
}

pub(super) async fn run(run: &Run, args: &Get) -> Result<Exit, Failure> {
    let request = super::request(args);
    let answers = ask::all(&run.asked, run.timeout, move |mut admin| {
        let request = request.clone();
        async move {
            let result = admin.api.list_services(request).await;
            Ok(admin.answer("ListServices", result)?.services)
        }
    })
    .await;
    let now = Timestamp::now();
    super::show(run, super::rows(answers, "services", row), move |rows| table(rows, now))
}

fn row(context: &str, row: v1::ServiceRow) -> Result<Row, Error> {
    let service = row.service.ok_or(Error::Missing { field: "service" })?;
    let frontends = service.frontends.iter().map(|f| {
        Ok(Frontend {
            address: wire::address("frontend.address", &f.address)?,
            ports: f.ports.iter().map(Port::from).collect(),
        })
    });
    let weights = row.weights.iter().copied().chain(std::iter::repeat(1));
    let shares: BTreeMap<u32, u32> = row.selected.iter().copied().zip(weights).collect();
    let backends = row.backends.iter().zip(0_u32..).map(|(b, i)| {
        Ok(Backend {
            cluster: b.cluster.clone(),
            address: wire::address("backend.address", &b.address)?,
            ports: b.ports.iter().map(Port::from).collect(),
            state: match v1::BackendState::try_from(b.state) {
                Ok(v1::BackendState::Active) => "active",
                Ok(v1::BackendState::Terminating) => "terminating",
                Ok(v1::BackendState::NotReady) => "not ready",
                Err(_unknown) => "unknown",
            },
            node: b.node.clone(),
            weight: b.weight,
            selected: shares.contains_key(&i),
            share: shares.get(&i).copied().unwrap_or_default(),
        })
    });
    Ok(Row {
        context: context.to_owned(),
        frontends: frontends.collect::<Result<_, Error>>()?,
        backends: backends.collect::<Result<_, Error>>()?,
        affinity: match v1::Affinity::try_from(service.affinity) {
            Ok(v1::Affinity::None) => "none",
            Ok(v1::Affinity::Local) => "local",
            Ok(v1::Affinity::Remote) => "remote",
            Err(_unknown) => "unknown",
        },
        failover: service.failover,
        weights: service.weights.into_iter().map(|w| (w.cluster, w.weight)).collect(),
        spillover_percent: Some(service.spillover).filter(|percent| *percent > 0),
        cluster: service.cluster,
        namespace: service.namespace,
        name: service.name,
        global: service.global,
        shared: service.shared,
        export_to: row.export_to.map(|clusters| clusters.names),
        import_from: row.import_from.map(|clusters| clusters.names),
        error: row.error,
        withdraw_after: period(service.never_withdrawn, service.withdraw_after_seconds),
        stale_after: period(service.never_stale, service.stale_after_seconds),
        remote: row.standings.into_iter().map(Remote::from).collect(),
    })
}

/// `None`: as the mesh says.
fn period(never: bool, seconds: u32) -> Option<String> {
    match (never, seconds) {
        (true, _) => Some("never".to_owned()),
        (false, 0) => None,
        (false, seconds) => Some(format!("{seconds}s")),
    }
}

impl From<v1::ServiceStanding> for Remote {
    fn from(said: v1::ServiceStanding) -> Self {
        let since = age::timestamp(said.since_unix_nanos);
        Self { cluster: said.cluster, state: said.state, since, reason: said.reason }
    }
}

/// `cluster-b live, cluster-c withdrawn for 12s: why`; of the reason the first part, JSON has all of it.
fn remote(remotes: &[Remote], now: Timestamp) -> Cell {
    let one = |r: &Remote| match r.state.as_str() {
        "live" => format!("{} live", r.cluster),
        state => {
            let reason = r.reason.split(';').next().unwrap_or_default();
            format!("{} {state} for {}: {reason}", r.cluster, age::since(now, r.since))
        }
    };
    let is = |state: &str| remotes.iter().any(|r| r.state == state);
    let tone = match (is("withdrawn"), is("stale")) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Warn,
        (false, false) => Tone::Plain,
    };
    Cell::toned(remotes.iter().map(one).collect::<Vec<_>>().join(", "), tone)
}

/// `cluster-a 2/2, cluster-b 0/1`: selected of known, by cluster; where shares differ also each cluster's.
fn by_cluster(backends: &[Backend]) -> String {
    let mut counts: BTreeMap<&str, (usize, usize, u64)> = BTreeMap::new();
    for b in backends {
        let (selected, known, share) = counts.entry(&b.cluster).or_default();
        *selected += usize::from(b.selected);
        *known += 1;
        *share += u64::from(b.share);
    }
    let total: u64 = counts.values().map(|(_, _, share)| share).sum();
    let mut shares = backends.iter().filter(|b| b.selected).map(|b| b.share);
    let is_even = shares.next().is_none_or(|first| shares.all(|share| share == first));
    let cluster = |(cluster, (selected, known, share)): (&&str, &(usize, usize, u64))| {
        let share = if is_even || *share == 0 {
            String::new()
        } else {
            format!(" {}%", (share * 200 / total.max(1)).div_ceil(2))
        };
        format!("{cluster} {selected}/{known}{share}")
    };
    counts.iter().map(cluster).collect::<Vec<_>>().join(", ")
}

/// What of the settings orders or shares: `local`, `failover cluster-b, cluster-c`, `weights cluster-a=80, cluster-b=20`.
fn preference(row: &Row) -> String {
    let mut words = Vec::new();
    if !row.weights.is_empty() {
        let list: Vec<String> = row.weights.iter().map(|(cluster, weight)| format!("{cluster}={weight}")).collect();
        words.push(format!("weights {}", list.join(", ")));
    }
    if !row.failover.is_empty() {
        words.push(format!("failover {}", row.failover.join(", ")));
    }
    if words.is_empty() || row.affinity != "none" {
        words.insert(0, row.affinity.to_owned());
    }
    if let Some(percent) = row.spillover_percent {
        words.push(format!("spillover {percent}%"));
    }
    if let Some(period) = &row.withdraw_after {
        words.push(format!("withdraw-after {period}"));
    }
    if let Some(period) = &row.stale_after {
        words.push(format!("stale-after {period}"));
    }
    words.join("; ")
}

fn table(rows: &[Row], now: Timestamp) -> Table {
    let mut table = Table::new([
        "SEEN BY",
        "CLUSTER",
        "NAMESPACE",
        "NAME",
        "ADDRESS",
        "PORTS",
        "GLOBAL",
        "PREFERS",
        "EXPORT TO",
        "IMPORT FROM",
        "BACKENDS",
        "REMOTE",
        "ERROR",
    ]);
    for r in rows {
        let global = match (r.global, r.shared) {
            (false, _) => "no",
            (true, true) => "yes",
            (true, false) => "not shared",
        };
        let used = r.backends.iter().any(|b| b.selected);
        let ports = r.frontends.first().map_or_else(String::new, |f| wire::port_list(&f.ports));
        table.row([
            r.context.as_str().into(),
            r.cluster.as_str().into(),
            r.namespace.as_str().into(),
            r.name.as_str().into(),
            r.frontends.iter().map(|f| f.address.as_str()).collect::<Vec<_>>().join(",").into(),
            ports.into(),
            global.into(),
            preference(r).into(),
            clusters(r.export_to.as_deref()).into(),
            clusters(r.import_from.as_deref()).into(),
            if r.backends.is_empty() {
                Cell::toned("none", Tone::Warn)
            } else {
                Cell::toned(by_cluster(&r.backends), if used { Tone::Plain } else { Tone::Warn })
            },
            remote(&r.remote, now),
            Cell::toned(&r.error, Tone::Bad),
        ]);
    }
    let is_empty = [
        ("ERROR", rows.iter().all(|r| r.error.is_empty())),
        ("REMOTE", rows.iter().all(|r| r.remote.is_empty())),
        ("EXPORT TO", rows.iter().all(|r| r.export_to.is_none())),
        ("IMPORT FROM", rows.iter().all(|r| r.import_from.is_none())),
    ];
    let empty = is_empty.into_iter().filter(|(_, is_empty)| *is_empty);
    empty.fold(table, |table, (column, _)| table.without(column))
}

/// A rule of the exchange: `cluster-b, cluster-c`, `nobody`, or nothing where there is none.
fn clusters(names: Option<&[String]>) -> String {
    match names {
        None => String::new(),
        Some([]) => "nobody".to_owned(),
        Some(names) => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> v1::ServiceRow {
        let port = v1::NamedPort { name: "http".into(), protocol: 6, port: 80 };
        let backend = |cluster: &str, last| v1::Backend {
            cluster: cluster.into(),
            address: vec![10, 2, 1, last].into(),
            ports: vec![port.clone()],
            ..Default::default()
        };
        v1::ServiceRow {
            service: Some(v1::Service {
                cluster: "cluster-a".into(),
                namespace: "shop".into(),
                name: "cart".into(),
                frontends: vec![v1::Frontend { address: vec![10, 101, 0, 7].into(), ports: vec![port.clone()] }],
                global: true,
                shared: true,
                affinity: 1,
                ..Default::default()
            }),
            backends: vec![backend("cluster-b", 3), backend("cluster-a", 4), backend("cluster-b", 5)],
            selected: vec![1],
            ..Default::default()
        }
    }

    #[test]
    fn a_service_shows_selected_of_known_backends_by_cluster() {
        let table = table(&[row("a", message()).unwrap()], Timestamp::UNIX_EPOCH).render(false);
        assert_eq!(
            table,
            "SEEN BY  CLUSTER    NAMESPACE  NAME  ADDRESS     PORTS   GLOBAL  PREFERS  BACKENDS\n\
             a        cluster-a  shop       cart  10.101.0.7  80/TCP  yes     local    cluster-a 1/1, cluster-b 0/2\n"
        );
    }

    #[test]
    fn shares_and_the_settings_they_follow_from_are_shown() {
        let mut message = message();
        let service = message.service.as_mut().unwrap();
        service.affinity = 0;
        let weight = |cluster: &str, weight| v1::ClusterWeight { cluster: cluster.into(), weight };
        service.weights = vec![weight("cluster-a", 80), weight("cluster-b", 20)];
        (message.selected, message.weights) = (vec![0, 1, 2], vec![1_250, 10_000, 1_250]);
        let shown = row("a", message.clone()).unwrap();
        assert_eq!(preference(&shown), "weights cluster-a=80, cluster-b=20");
        assert_eq!(by_cluster(&shown.backends), "cluster-a 1/1 80%, cluster-b 2/2 20%");
        let service = message.service.as_mut().unwrap();
        service.weights.clear();
        (service.failover, service.spillover) = (vec!["cluster-b".into(), "cluster-c".into()], 50);
        let shown = row("a", message).unwrap();
        assert_eq!(preference(&shown), "failover cluster-b, cluster-c; spillover 50%");
    }

    #[test]
    fn each_remote_cluster_shows_since_when_it_is_not_used_and_why() {
        let standing = |cluster: &str, state: &str, seconds: u64, reason: &str| v1::ServiceStanding {
            cluster: cluster.into(),
            state: state.into(),
            since_unix_nanos: seconds * 1_000_000_000,
            reason: reason.into(),
        };
        let mut message = message();
        message.standings = vec![
            standing("cluster-b", "live", 1, ""),
            standing("cluster-c", "withdrawn", 88, "no path to it; no control"),
        ];
        let service = message.service.as_mut().unwrap();
        (service.withdraw_after_seconds, service.stale_after_seconds) = (60, 20);
        let row = row("a", message).unwrap();
        assert_eq!(preference(&row), "local; withdraw-after 60s; stale-after 20s");
        let now = Timestamp::from_second(100).unwrap();
        let text = table(&[row], now).render(false);
        assert!(text.contains("cluster-b live, cluster-c withdrawn for 12s: no path to it\n"), "{text}");
    }

    #[test]
    fn who_may_have_it_is_shown_where_that_is_not_everyone() {
        let mut restricted = message();
        restricted.export_to = Some(v1::ClusterNames { names: vec!["cluster-b".into(), "cluster-c".into()] });
        let rows = [row("a", restricted.clone()).unwrap(), row("a", message()).unwrap()];
        let shown = table(&rows, Timestamp::UNIX_EPOCH).render(false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].contains("EXPORT TO") && !lines[0].contains("IMPORT FROM"), "{shown}");
        assert!(lines[1].contains("cluster-b, cluster-c") && !lines[2].contains("cluster-c"), "{shown}");
        restricted.import_from = Some(v1::ClusterNames::default());
        let row = row("a", restricted).unwrap();
        assert!(table(std::slice::from_ref(&row), Timestamp::UNIX_EPOCH).render(false).contains("nobody"));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["export_to"], serde_json::json!(["cluster-b", "cluster-c"]));
        assert_eq!(json["import_from"], serde_json::json!([]));
    }

    #[test]
    fn a_row_that_can_not_be_read_names_its_field() {
        let mut bad = message();
        bad.backends[0].address = vec![1, 2, 3].into();
        assert_eq!(row("a", bad).unwrap_err().to_string(), "backend.address: an address of 3 bytes (want 4 or 16)");
    }
}
