//! Devices, rules and routes of a plan, and their repair.

use std::net::Ipv4Addr;
use std::sync::Arc;

use agent_ebpf::{Datapath, Sizes};
use mesh_runtime::{OnExit, Shutdown, TaskSet};
use mesh_types::view::Encryption;
use node_agent::cleanup;
use node_agent::compile::plan::{Peer, Plan};
use node_agent::netlink::Netlink;
use node_agent::netlink::watch::Watch;
use node_agent::tunnel::PrivateKey;
use node_agent::underlay::{Choice, Options, State, Underlay};
use tokio::sync::watch;

use crate::harness::{Node, nodes, wait_until};

pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 11);
pub(crate) const THERE: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 12);

/// The underlay's task on a node.
pub(crate) struct Running {
    pub(crate) plan: watch::Sender<Option<Arc<Plan>>>,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) tasks: TaskSet,
}

pub(crate) fn plan(key: Option<[u8; 32]>, peer: Ipv4Addr, encryption: Encryption) -> Arc<Plan> {
    let peer_node = Peer { cluster: "b".into(), node: "b1".into(), key, endpoint: (peer, 51881).into() };
    let prefixes = ["10.2.0.0/16".parse().unwrap()].into();
    Arc::new(Plan { encryption, peers: [(peer, peer_node)].into(), prefixes })
}

pub(crate) fn start(node: &Node, key: &PrivateKey) -> Running {
    let (bpffs, key) = (node.bpffs(), key.clone());
    node.run(async move {
        let tasks = TaskSet::new(Shutdown::new());
        let datapath = Arc::new(Datapath::load_or_adopt(&bpffs, Sizes::SMALL).unwrap());
        let netlink = Netlink::open(&tasks).unwrap();
        let watch_all = Arc::new(Watch::default());
        let (plan, plan_seen) = watch::channel(None);
        let options = Options {
            uplink: None,
            node_ip: None,
            vxlan_port: 8473,
            wireguard_port: 51881,
            probe_port: 4250,
            wireguard: Choice::Userspace,
            key,
        };
        let underlay = Underlay::new(options, netlink, datapath, plan_seen, watch_all.subscribe());
        let state = underlay.subscribe();
        let shutdown = tasks.shutdown().clone();
        let watching = {
            let shutdown = shutdown.clone();
            async move { watch_all.run(&shutdown).await }
        };
        tasks.spawn("watch", OnExit::Log, watching);
        tasks.spawn("underlay", OnExit::Log, underlay.run(shutdown));
        Running { plan, state, tasks }
    })
}

fn routes(node: &Node) -> (String, String, String) {
    (node.ip("route show table 4242"), node.ip("route show"), node.ip("rule show"))
}

#[test]
fn guards_stand_before_there_is_a_tunnel_and_everything_is_mended_and_removed() {
    let Some([node, other]) = nodes() else { return };
    node.connect(&other, HERE, THERE);
    let key = PrivateKey::generate().unwrap();
    let running = start(&node, &key);
    wait_until("the uplink is known", || running.state.borrow().uplink.is_some());
    assert!(running.state.borrow().vxlan.is_none(), "without a plan nothing is touched");

    running.plan.send_replace(Some(plan(Some([7; 32]), THERE, Encryption::Wireguard)));
    wait_until("the node is guarded", || running.state.borrow().guarded.contains(&THERE.into()));
    let (table, main, rules) = routes(&node);
    assert!(table.contains("unreachable 172.30.1.12") && table.contains("metric 9999"), "{table}");
    assert!(main.contains("10.2.0.0/16 dev isthmus_vx") && main.contains("mtu lock 1370"), "{main}");
    for rule in ["dport 8473", "sport 8473", "dport 4250", "sport 4250"] {
        assert!(rules.contains(&format!("ipproto udp {rule} lookup 4242")), "{rules}");
    }
    let (sent, why) = node.try_ip("route get 172.30.1.12 ipproto udp dport 8473");
    assert!(!sent && why.contains("No route to host"), "{why}");
    assert!(node.ip("route get 172.30.1.12 ipproto udp dport 51881").contains("dev eth0"), "WireGuard's own go out");
    let link = node.ip("-d link show isthmus_vx");
    assert!(link.contains("mtu 1370") && link.contains("external") && link.contains("dstport 8473"), "{link}");

    for damage in ["rule del pref 51 ipproto udp sport 8473", "route flush table 4242", "link del isthmus_vx"] {
        node.ip(damage);
        let is_mended = || {
            let (table, main, rules) = routes(&node);
            table.contains("unreachable 172.30.1.12")
                && main.contains("10.2.0.0/16 dev isthmus_vx")
                && rules.contains("sport 8473")
        };
        let took = wait_until(damage, is_mended);
        println!("mended after {took:?}: {damage}");
    }

    running.plan.send_replace(Some(plan(None, THERE, Encryption::None)));
    wait_until("rules are gone", || !routes(&node).2.contains("4242"));
    wait_until("the node is open", || running.state.borrow().guarded.contains(&THERE.into()));
    assert!(node.ip("-d link show isthmus_vx").contains("mtu 1450"));

    running.tasks.shutdown().trigger(mesh_runtime::Cause::Requested("end of test".into()));
    let (tasks, bpffs) = (running.tasks, node.bpffs());
    node.run(async move {
        tasks.join(std::time::Duration::from_secs(5)).await.unwrap();
        cleanup::run(&bpffs, &cleanup::Options::default()).await.unwrap();
        cleanup::run(&bpffs, &cleanup::Options::default()).await.unwrap();
        assert!(!bpffs.join("isthmus").exists(), "pins are left");
    });
    let (table, main, rules) = routes(&node);
    assert!(!main.contains("10.2.0.0") && !rules.contains("4242") && table.trim().is_empty(), "{table}{main}{rules}");
    assert!(!node.try_ip("link show isthmus_vx").0);
}
