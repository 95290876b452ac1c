//! From the stream's events to the kernel's maps, over a restart.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use agent_ebpf::{Datapath, Sizes};
use ipnet::IpNet;
use mesh_runtime::{Cause, OnExit, Readiness, Shutdown, TaskSet};
use mesh_types::view::{Cluster, Delta, Encryption, Ip, Object, Service, ServiceBackend};
use mesh_types::{
    BackendState, ClusterId, ClusterName, Frontend, NamedPort, Node as MeshNode, NodeName, Preference, Protocol,
    SecurityIdentity, ServiceName,
};
use node_agent::attach::Devices;
use node_agent::control::{Control, Event, Options, Wiring};
use node_agent::metrics::Metrics;
use node_agent::netlink::pods::PodDevice;
use node_agent::probe::paths::Interest;
use node_agent::probe::{Report, Reports, Targets};
use node_agent::status::Status;
use node_agent::underlay::State;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc, watch};

use crate::harness::{Cgroup, Node, nodes, wait_until};

const PEER_NODE: &str = "172.30.2.11";

/// The control task with all that it is wired to.
struct Running {
    events: mpsc::Sender<Event>,
    underlay: watch::Sender<State>,
    paths: watch::Sender<Reports>,
    pods: watch::Sender<Option<Arc<Vec<PodDevice>>>>,
    status: watch::Receiver<Status>,
    readiness: Readiness,
    datapath: Arc<Datapath>,
    tasks: TaskSet,
}

fn start(node: &Node, cgroup: &Cgroup) -> Running {
    let (bpffs, cgroup_root) = (node.bpffs(), cgroup.0.clone());
    node.run(async move {
        let datapath = Arc::new(Datapath::load_or_adopt(&bpffs, Sizes::SMALL).unwrap());
        let tasks = TaskSet::new(Shutdown::new());
        let readiness = Readiness::new();
        let (events, events_seen) = mpsc::channel(64);
        let (underlay, underlay_seen) = watch::channel(State::default());
        let (paths, paths_seen) = watch::channel(Reports::new());
        let (pods, pods_seen) = watch::channel(None);
        let status = watch::Sender::new(Status::default());
        let status_seen = status.subscribe();
        let wiring = Wiring {
            events: events_seen,
            pods: pods_seen,
            devices: watch::Sender::new(Devices::new()),
            attach_failures: watch::channel(std::collections::BTreeMap::new()).1,
            underlay: underlay_seen,
            paths: paths_seen,
            plan: watch::Sender::new(None),
            targets: watch::Sender::new(Targets::default()),
            status,
            missed: Arc::new(Notify::new()),
        };
        let guard = readiness.await_for("the view");
        let options = Options { cgroup_root, leaves_own_services: false, vxlan_port: 8473 };
        let metrics = Metrics::register(&mut Registry::default());
        let control = Control::new(options, Arc::clone(&datapath), wiring, metrics, guard).unwrap();
        tasks.spawn("control", OnExit::Log, control.run(tasks.shutdown().clone()));
        Running { events, underlay, paths, pods, status: status_seen, readiness, datapath, tasks }
    })
}

impl Running {
    fn send(&self, event: Event) {
        self.events.blocking_send(event).unwrap();
    }

    fn snapshot(&self, objects: Vec<Object>) {
        self.send(Event::Connected);
        self.send(Event::SnapshotBegin);
        self.send(Event::Delta(upserts(objects)));
        self.send(Event::Prune { revision: 10 });
    }

    fn stop(self, node: &Node) {
        self.tasks.shutdown().trigger(Cause::Requested("end of test".into()));
        node.run(async move { self.tasks.join(std::time::Duration::from_secs(5)).await.unwrap() });
    }

    /// Addresses of the backends behind the one frontend; `None` without one.
    fn backends(&self, frontend: &str) -> Option<Vec<String>> {
        let maps = &self.datapath.maps;
        let wanted: IpAddr = frontend.parse().unwrap();
        let entries = maps.services.entries().unwrap();
        let (_, service) = entries.into_iter().find(|(key, _)| IpAddr::from(key.addr) == wanted)?;
        let mut numbers = match service.table_len {
            0 if service.backends == 1 => vec![service.backend],
            0 => Vec::new(),
            len => maps.maglev.read(service.table_offset, len).unwrap(),
        };
        numbers.sort_unstable();
        numbers.dedup();
        let address = |n: u32| IpAddr::from(maps.backends.get(n).unwrap().unwrap().addr).to_string();
        let mut out: Vec<String> = numbers.into_iter().map(address).collect();
        out.sort();
        Some(out)
    }

    fn is_dropped(&self, address: &str) -> Option<bool> {
        let found = self.datapath.maps.ipcache.lookup(address.parse().unwrap()).unwrap();
        found.map(|entry| entry.is_dropped())
    }

    fn guard_peer(&self) {
        self.underlay.send_modify(|state| {
            state.is_planned = true;
            state.is_encrypted = true;
            state.guarded.insert(PEER_NODE.parse().unwrap());
        });
    }

    fn path(&self, is_up: bool) {
        let report = Report {
            cluster: "b".into(),
            node: "b1".into(),
            interest: Interest::Used,
            is_up,
            rtt_micros: 100,
            since_unix_nanos: 0,
        };
        self.paths.send_replace(Reports::from([(PEER_NODE.parse().unwrap(), report)]));
    }
}

fn upserts(upserts: Vec<Object>) -> Delta {
    Delta { upserts, revision: 11, ..Delta::default() }
}

fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

fn clusters() -> Vec<Object> {
    let cluster = |text: &str, id: u32| {
        Object::Cluster(Cluster {
            name: name(text),
            id: ClusterId::new(id).unwrap(),
            is_local: id == 1,
            pod_prefixes: vec![format!("10.{id}.0.0/16").parse().unwrap()],
            encryption: Encryption::Wireguard,
        })
    };
    let node = Object::Node(MeshNode {
        cluster: name("b"),
        cluster_id: ClusterId::new(2).unwrap(),
        name: NodeName("b1".into()),
        internal_ips: vec![PEER_NODE.parse().unwrap()],
        pod_cidrs: vec!["10.2.1.0/24".parse().unwrap()],
        wireguard_key: Some([7; 32]),
        wireguard_port: 51881,
        vxlan_port: 8473,
    });
    vec![cluster("a", 1), cluster("b", 2), node]
}

fn service(of: &str, service: &str, address: &str) -> Object {
    let ports = vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port: 80 }];
    Object::Service(Service {
        cluster: name(of),
        name: ServiceName::new("shop", service),
        frontends: vec![Frontend { address: address.parse().unwrap(), ports }],
        global: true,
        shared: true,
        prefers: Preference::default(),
    })
}

fn backend(of: &str, service: &str, address: &str) -> Object {
    Object::Backend(ServiceBackend {
        cluster: name(of),
        service: ServiceName::new("shop", service),
        address: address.parse().unwrap(),
        ports: vec![NamedPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
        state: BackendState::Active,
        node: None,
        zone: None,
        weight: 1,
    })
}

fn ip(of: &str, address: &str, host: &str) -> Object {
    Object::Ip(Ip {
        cluster: name(of),
        prefix: IpNet::from(address.parse::<IpAddr>().unwrap()),
        identity: SecurityIdentity(0x2_0101),
        host: Some(host.parse().unwrap()),
        namespace: None,
        pod: None,
    })
}

fn prepared(test: &str) -> Option<(Node, Cgroup)> {
    let [node] = nodes()?;
    match Cgroup::new(test) {
        Ok(cgroup) => Some((node, cgroup)),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

#[test]
fn changes_reach_the_maps_in_milliseconds_and_a_dead_path_masks_its_backends() {
    let Some((node, cgroup)) = prepared("changes") else { return };
    let running = start(&node, &cgroup);
    let mut objects = clusters();
    objects.extend([service("a", "cart", "10.101.0.9"), backend("a", "cart", "10.1.1.5")]);
    running.snapshot(objects);
    wait_until("the view is realized", || running.readiness.is_ready());
    assert_eq!(running.backends("10.101.0.9").unwrap(), ["10.1.1.5"]);
    assert_eq!(running.is_dropped("10.2.1.5"), Some(true), "a peer's prefixes are closed");
    assert_eq!(running.is_dropped("10.1.1.5"), Some(false));

    running.guard_peer();
    running.path(true);
    running.send(Event::Delta(upserts(vec![
        service("b", "cart", "10.102.0.9"),
        ip("b", "10.2.1.5", PEER_NODE),
        backend("b", "cart", "10.2.1.5"),
    ])));
    wait_until("the remote backend is used", || running.backends("10.101.0.9").unwrap().len() == 2);
    assert_eq!(running.is_dropped("10.2.1.5"), Some(false));
    running.path(false);
    wait_until("a dead path masks it", || running.backends("10.101.0.9").unwrap() == ["10.1.1.5"]);
    running.path(true);
    wait_until("it is back", || running.backends("10.101.0.9").unwrap().len() == 2);

    let mut times: Vec<_> = (0..200_u8)
        .map(|n| {
            let address = format!("10.1.2.{n}");
            let began = Instant::now();
            running.send(Event::Delta(upserts(vec![backend("a", "cart", &address)])));
            while !running
                .datapath
                .maps
                .backends
                .entries()
                .unwrap()
                .iter()
                .any(|(_, b)| IpAddr::from(b.addr).to_string() == address)
            {}
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("event to map: p50 {:?}, p99 {:?}", times[100], times[198]);
    wait_until("the status says so", || running.status.borrow().backends >= 202);
    running.stop(&node);
}

#[test]
fn a_restart_touches_nothing_until_the_whole_view_is_known_and_then_only_what_differs() {
    let Some((node, cgroup)) = prepared("restart") else { return };
    let running = start(&node, &cgroup);
    let mut objects = clusters();
    objects.extend([
        service("a", "cart", "10.101.0.9"),
        service("a", "old", "10.101.0.10"),
        backend("a", "cart", "10.1.1.5"),
        backend("a", "cart", "10.1.1.6"),
        service("b", "cart", "10.102.0.9"),
        ip("b", "10.2.1.5", PEER_NODE),
        backend("b", "cart", "10.2.1.5"),
    ]);
    running.guard_peer();
    running.path(true);
    running.snapshot(objects.clone());
    let all = ["10.1.1.5", "10.1.1.6", "10.2.1.5"];
    wait_until("the view is realized", || running.backends("10.101.0.9").is_some_and(|b| b == all));
    running.underlay.send_modify(|state| {
        state.vxlan = Some(1);
        state.sizes = Some(node_agent::mtu::Sizes::of(1500, true));
    });
    wait_until("the programs are configured", || running.datapath.maps.config.get().unwrap().is_set());
    running.stop(&node);

    let running = start(&node, &cgroup);
    let entry = |running: &Running| running.datapath.maps.services.entries().unwrap();
    let before = entry(&running);
    assert_eq!(before.len(), 2);
    running.send(Event::Connected);
    running.send(Event::SnapshotBegin);
    running.send(Event::Delta(upserts(clusters())));
    // The underlay has found the uplink, and has no plan yet.
    running.underlay.send_modify(|state| state.is_encrypted = false);
    wait_until("the task has seen it", || running.events.capacity() == running.events.max_capacity());
    assert_eq!(entry(&running), before, "half a snapshot takes nothing away");
    assert_eq!(running.is_dropped("10.2.1.5"), Some(false));
    objects.remove(4);
    running.send(Event::Delta(upserts(objects)));
    running.send(Event::Prune { revision: 12 });
    wait_until("the whole view is realized", || running.readiness.is_ready());
    assert_eq!(running.backends("10.101.0.10"), None, "what is not in the view has gone");
    assert_eq!(running.backends("10.101.0.9").unwrap(), all);
    let kept = entry(&running);
    assert!(before.contains(&kept[0]), "the same entry, table and numbers");
    assert_eq!(running.is_dropped("10.2.1.5"), Some(false), "an open node stays open until the underlay has looked");
    running.pods.send_replace(Some(Arc::new(Vec::new())));
    running.stop(&node);
}
