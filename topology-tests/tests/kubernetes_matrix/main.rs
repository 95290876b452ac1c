//! Every network (CNI) with every mode of kube-proxy: pod to pod, pod to Service and host to Service of the other cluster, both
//! ways, over TCP and UDP, with the client's own address. Each pair of clusters is one run; together they have each
//! combination once. Longer than every run should be: `make test-k8s-matrix`. Says `skipped: why` where it cannot run.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod cell;
mod workloads;

use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use topology_tests::bench::report::Report;
use topology_tests::binaries::Binaries;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::release::{Images, Release, install_and_connect, missing};
use topology_tests::provider::{ClusterOptions, Plan};

use crate::cell::{Cell, Side};

/// Until the first answer of each kind, after the clusters are joined.
pub(crate) const ANSWERED: Duration = Duration::from_secs(20);

type Kind = (Cni, ProxyMode);

const PAIRS: [[Kind; 2]; 3] = [
    [(Cni::Bridge, ProxyMode::Nftables), (Cni::Ptp, ProxyMode::Iptables)],
    [(Cni::Ptp, ProxyMode::Nftables), (Cni::Flannel, ProxyMode::Iptables)],
    [(Cni::Flannel, ProxyMode::Nftables), (Cni::Bridge, ProxyMode::Iptables)],
];

/// Clients of one cluster, servers of another.
#[derive(Debug, Serialize)]
struct Row {
    clients: String,
    servers: String,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Matrix<'a> {
    rows: &'a [Row],
    /// Why kube-proxy's mode of that name is not in it.
    ipvs: Option<String>,
}

#[test]
fn every_network_with_every_kube_proxy_reaches_the_other_cluster_by_its_clients_own_address() {
    let images = match missing() {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let mut rows = Vec::new();
    for (n, pair) in PAIRS.into_iter().enumerate() {
        rows.extend(run(n, pair, &images));
        println!("{}", table(&rows));
    }
    let ipvs = ProxyMode::Ipvs.check().err().map(|why| why.to_string());
    println!("kube-proxy in ipvs mode: {}", ipvs.as_deref().unwrap_or("this kernel has it, and no pair of this test"));
    let file = Binaries::beside_this_one().unwrap().target_dir().join("bench/kubernetes-matrix.json");
    Report::new(Matrix { rows: &rows, ipvs }).write(&file).unwrap();
    let failed: Vec<_> = rows.iter().flat_map(|row| &row.cells).filter(|cell| cell.is_failure()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn run(n: usize, pair: [Kind; 2], images: &Images) -> Vec<Row> {
    let clusters = pair.map(|(cni, proxy)| ClusterOptions { cni, proxy, masquerade: true }).to_vec();
    let plan = Plan { name: format!("k8smatrix{n}").parse().unwrap(), clusters, nodes: 1 };
    let run = Kubernetes::up(&plan).unwrap();
    images.load(&run).unwrap();
    let [a, b] = ["cluster-a", "cluster-b"].map(|name| Release::new(&run, name).unwrap());
    for release in [&a, &b] {
        release.kubectl().apply(&workloads::of(release.name())).unwrap();
    }
    install_and_connect([&a, &b], images, [1, 1]).unwrap();
    let sides = [&a, &b].map(|release| Side::of(&run, release).unwrap());
    let name = |(cni, proxy): Kind| format!("{cni}, {proxy}");
    let mut rows = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        let cells = sides[from].ask(&sides[to]).unwrap();
        rows.push(Row { clients: name(pair[from]), servers: name(pair[to]), cells });
    }
    // Whatever had no answer had none because it was held back, and not because it went astray.
    assert_eq!(run.wan.counters().unwrap().clear, 0, "in clear between the clusters: {:?}", run.wan.clear_seen());
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
    rows
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let Some(first) = rows.first() else { return table };
    let titles = first.cells.iter().map(|cell| cell.way.clone());
    table.set_header(["clients".to_owned(), "servers".to_owned()].into_iter().chain(titles));
    for row in rows {
        let results = row.cells.iter().map(|cell| cell.result.clone());
        table.add_row([row.clients.clone(), row.servers.clone()].into_iter().chain(results));
    }
    table
}
