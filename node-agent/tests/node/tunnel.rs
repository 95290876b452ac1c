//! Two nodes, each with a `mesh-tunnel` process: peers, handshakes, what happens when a process or a path dies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mesh_runtime::OnExit;
use mesh_types::view::Encryption;
use node_agent::probe::paths::Interest;
use node_agent::probe::{Options, Prober, Reports, Target, Targets};
use node_agent::tunnel::{Backend, PrivateKey, WireGuard as _, control, wireguard};
use node_agent::underlay::device;
use tokio::sync::watch;

use crate::harness::{Node, Process, nodes, wait_until};
use crate::underlay::{HERE, Running, THERE, plan, start};

const TUNNEL: &str = env!("CARGO_BIN_EXE_mesh-tunnel");
const ARGS: &[&str] = &["--device", "isthmus_wg", "--log", "warn"];

struct Side {
    node: Node,
    running: Running,
    tunnel: Option<Process>,
    reports: watch::Receiver<Reports>,
    peer: Ipv4Addr,
    _targets: watch::Sender<Targets>,
}

impl Side {
    fn is_up(&self) -> bool {
        self.reports.borrow().get(&IpAddr::V4(self.peer)).is_some_and(|report| report.is_up)
    }

    fn tunnel_is_ready(&self) -> bool {
        self.running.state.borrow().tunnel.is_some()
    }
}

/// Two nodes that are each other's peers, with their tunnels up and their paths proved.
fn pair() -> Option<[Side; 2]> {
    let [a, b] = nodes()?;
    a.connect(&b, HERE, THERE);
    let keys = [(); 2].map(|()| PrivateKey::generate().unwrap());
    let sides = [(a, HERE, THERE), (b, THERE, HERE)];
    let mut both = Vec::new();
    for (index, (node, _own, peer)) in sides.into_iter().enumerate() {
        let tunnel = Some(node.spawn(TUNNEL, ARGS));
        let running = start(&node, &keys[index]);
        let plan = plan(Some(keys[1 - index].public().0), peer, Encryption::Wireguard);
        let target = Target {
            cluster: "b".into(),
            node: "b1".into(),
            interest: Interest::Used,
            peer: device::peer(peer, &plan.peers[&peer]),
        };
        running.plan.send_replace(Some(plan));
        let targets = Targets { nodes: BTreeMap::from([(peer, target)]), presume_up: false };
        let (targets, targets_seen) = watch::channel(targets);
        let mut prober = Prober::new(Options { port: 4250 }, targets_seen, running.state.clone());
        let reports = prober.subscribe();
        let tasks = running.tasks.clone();
        node.run(async move {
            let shutdown = tasks.shutdown().clone();
            tasks.spawn("probe", OnExit::Log, async move { prober.run(&shutdown).await });
        });
        both.push(Side { node, running, tunnel, reports, peer, _targets: targets });
    }
    let both: [Side; 2] = both.try_into().ok()?;
    let took = wait_until("both paths are up", || both.iter().all(Side::is_up));
    println!("both paths up after {took:?}");
    Some(both)
}

#[test]
fn a_killed_tunnel_fails_closed_and_is_back_at_once_when_started_again() {
    let Some([mut a, b]) = pair() else { return };
    let dump = a.node.ip("route show table 4242");
    assert!(dump.contains("172.30.1.12 dev isthmus_wg") && dump.contains("src 172.30.1.11"), "{dump}");

    a.tunnel.take().unwrap().kill();
    wait_until("the loss is seen", || !a.tunnel_is_ready());
    let (sent, why) = a.node.try_ip("route get 172.30.1.12 ipproto udp dport 8473");
    assert!(!sent && why.contains("No route to host"), "{why}");
    wait_until("both sides lose the path", || !a.is_up() && !b.is_up());

    a.tunnel = Some(a.node.spawn(TUNNEL, ARGS));
    let ready = wait_until("the device is configured again", || a.tunnel_is_ready());
    let up = wait_until("both paths are up again", || a.is_up() && b.is_up());
    println!("tunnel restarted: configured after {ready:?}, paths up {up:?} later");
    assert!(up < Duration::from_secs(5), "{up:?}");
}

#[test]
fn a_cut_path_is_noticed_and_its_return_is_not_waited_for() {
    let Some([a, b]) = pair() else { return };
    a.node.ip("link set eth0 down");
    let down = wait_until("both sides see the cut", || !a.is_up() && !b.is_up());
    a.node.ip("link set eth0 up");
    a.node.ip("route add default via 172.30.1.12");
    let up = wait_until("both paths are up again", || a.is_up() && b.is_up());
    println!("cut seen after {down:?}, back after {up:?}");
    assert!(up < Duration::from_secs(4), "{up:?}");
}

#[test]
fn peers_are_set_by_difference_and_a_handshake_can_be_forced() {
    let Some([a, _b]) = pair() else { return };
    let (peers, key) = {
        let plan = a.running.plan.borrow().clone().unwrap();
        (
            plan.peers.iter().filter_map(|(at, peer)| device::peer(*at, peer)).collect::<BTreeMap<_, _>>(),
            PrivateKey::generate().unwrap(),
        )
    };
    a.node.run(async move {
        let work = tokio::task::spawn_blocking(move || {
            let device = wireguard::Device::new("isthmus_wg", Backend::Userspace).unwrap();
            let stats = device.stats().unwrap();
            assert!(stats.len() == 1 && stats[0].last_handshake.is_some() && stats[0].received_bytes > 0, "{stats:?}");
            let (peer, wanted) = peers.first_key_value().unwrap();
            device.force_handshake(peer, wanted).unwrap();
            control::ask("isthmus_wg", &control::Request::Handshake(*peer)).unwrap().unwrap();
            let unknown = control::ask("isthmus_wg", &control::Request::Handshake(key.public())).unwrap();
            assert!(unknown.is_err());
        });
        work.await.unwrap();
    });
    assert!(a.is_up());
}

#[test]
fn a_tunnel_whose_device_is_deleted_ends_and_says_so() {
    let Some([node]) = nodes() else { return };
    let mut tunnel = node.spawn(TUNNEL, ARGS);
    wait_until("the device is there", || node.try_ip("link show isthmus_wg").0);
    wait_until("it takes configuration", || {
        node.run(async { std::os::unix::net::UnixStream::connect(control::control_socket("isthmus_wg")).is_ok() })
    });
    node.ip("link del isthmus_wg");
    wait_until("the process ends", || !tunnel.is_running());
}
