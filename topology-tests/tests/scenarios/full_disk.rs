//! Disks that are full to the last block: what needs room is refused as etcd refuses it, everything else goes on, and there
//! is the way back that `docs/store-operations.md` describes.

use std::path::Path;
use std::time::{Duration, Instant};

use etcd_client::{Client, Error, EventType, GetOptions, WatchOptions};
use etcd_peer::EtcdPeer;
use topology_tests::components::{APISERVER_METRICS_PORT, ETCD_PORT};
use topology_tests::deadline::{wait_for, wait_until};
use topology_tests::etcd_access::Access;
use topology_tests::mesh::apiservers::state_dir;
use topology_tests::scenario::{Scenario, Setup};

use crate::store_clients::{Clients, in_network_of, numbers};

const CLUSTER: &str = "cluster-a";
const SOON: Duration = Duration::from_secs(30);
/// Room for what the store wants free, and for some log.
const DISK_MIB: u32 = 320;
const REFUSED: (i32, &str) = (8, "etcdserver: mvcc: database space exceeded");

/// Asks in the network of the first node, with a client of one replica.
fn ask<T: Send + 'static>(
    s: &Scenario,
    replica: u64,
    question: impl AsyncFnOnce(Client) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let access = Access::of(&s.lab, CLUSTER)?;
    let (answer, answered) = std::sync::mpsc::channel();
    let asking = in_network_of(s, "a1", async move || {
        let asked = async {
            let client = access.client_of(replica).await?;
            Some(question(client).await)
        };
        drop(answer.send(tokio::time::timeout(SOON / 3, asked).await));
    });
    let answer = answered.recv();
    asking.join().unwrap();
    anyhow::Context::context(answer??, "it takes no connection")
}

/// The gRPC code and text of a put's refusal.
fn put(s: &Scenario, replica: u64) -> anyhow::Result<Option<(i32, String)>> {
    let put = ask(s, replica, async |mut etcd| etcd.put("disk/put", "x", None).await)?;
    match put {
        Ok(_) => Ok(None),
        Err(Error::GRpcStatus(status)) => Ok(Some((status.code() as i32, status.message().to_owned()))),
        Err(other) => Err(other.into()),
    }
}

fn wait_refused(s: &Scenario, replica: u64) {
    wait_for("a put to be refused", SOON, || {
        let refusal = put(s, replica)?;
        anyhow::ensure!(refusal == Some((REFUSED.0, REFUSED.1.to_owned())), "{refusal:?}");
        Ok(Some(()))
    })
    .unwrap();
}

fn etcdctl(s: &Scenario, args: &[&str]) -> anyhow::Result<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let program = EtcdPeer::obtain(workspace)?.etcdctl;
    let plan = s.lab.cluster_plan(CLUSTER)?;
    let endpoints: Vec<String> =
        plan.replicas.iter().map(|replica| format!("https://{}:{ETCD_PORT}", replica.ip)).collect();
    let state = state_dir(&s.lab, CLUSTER, 1);
    let file = |name: &str| state.join(name).to_string_lossy().into_owned();
    let (ca, cert, key, endpoints) = (file("ca.crt"), file("admin.crt"), file("admin.key"), endpoints.join(","));
    let mut all =
        vec!["--endpoints", &endpoints, "--cacert", &ca, "--cert", &cert, "--key", &key, "--command-timeout", "10s"];
    all.extend(args);
    s.lab.run_in(&s.lab.node("a1")?.place, &program.to_string_lossy(), &all)
}

fn store_status(s: &Scenario) -> String {
    let program = s.lab.binaries.find("meshctl").unwrap();
    let args = ["--context", CLUSTER, "store", "status", "-o", "json"];
    let output = topology_tests::components::meshctl(&program, s.mesh.config(), &args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What a replica says at `/readyz`.
fn readyz(s: &Scenario, replica: u64) -> String {
    let plan = s.lab.cluster_plan(CLUSTER).unwrap();
    let plan = plan.replicas.iter().find(|plan| plan.id == replica).unwrap();
    let address = format!("http://{}:{APISERVER_METRICS_PORT}/readyz", plan.ip);
    let place = &s.lab.node(&plan.node).unwrap().place;
    s.lab.run_in(place, "curl", &["--silent", "--max-time", "5", &address]).unwrap_or_default()
}

/// All that the store holds of the writer's numbers, from 1 on.
fn stored(s: &Scenario, clients: &Clients) -> Vec<u64> {
    let access = std::sync::Arc::clone(&clients.access);
    let (into, found) = std::sync::mpsc::channel();
    let never = std::sync::atomic::AtomicBool::new(false);
    in_network_of(s, "a1", async move || into.send(numbers(&access, &never).await).unwrap()).join().unwrap();
    found.recv().unwrap()
}

fn assert_nothing_lost(s: &Scenario, clients: &mut Clients) -> usize {
    let written = clients.written();
    wait_until("the writer to go on", SOON, || clients.written() > written).unwrap();
    let total = clients.end(SOON);
    let wanted: Vec<u64> = (1..=total as u64).collect();
    assert_eq!(stored(s, clients)[..total], wanted, "an acknowledged write is gone");
    total
}

#[test]
fn full_disks_refuse_what_needs_room_serve_the_rest_and_have_a_way_back() {
    let Some(s) = Setup::stores("fulldisks", DISK_MIB).start().unwrap() else { return };
    let mut clients = Clients::start(&s, CLUSTER);
    wait_until("the first writes", SOON, || clients.written() > 20).unwrap();
    ask(&s, 1, async |mut etcd| etcd.put("disk/kept", "x", None).await).unwrap().unwrap();

    let full = Instant::now();
    for disk in s.disks.values() {
        disk.fill().unwrap();
    }
    wait_for("every replica's alarm", SOON, || {
        let listed = etcdctl(&s, &["alarm", "list"])?;
        anyhow::ensure!(listed.matches("alarm:NOSPACE").count() == s.disks.len(), "{listed:?}");
        Ok(Some(()))
    })
    .unwrap();
    println!("alarms of all replicas {:?} after the disks were full", full.elapsed());
    for replica in s.disks.keys() {
        wait_refused(&s, *replica);
    }
    let status = store_status(&s);
    assert!(status.contains("NOSPACE of "), "{status}");

    // Reads, watches and deletions are served; and a vote can still be cast, by one that starts on a full disk, too.
    let leader = s.mesh.controller(&s.lab, CLUSTER).unwrap();
    s.mesh.kill_apiserver(CLUSTER, leader).unwrap();
    // The next leader cannot take the role that exports: nobody has it.
    wait_for("the role to be nobody's", SOON, || {
        let holder = etcdctl(&s, &["get", "isthmus/v1/election/controller", "--keys-only"])?;
        anyhow::ensure!(holder.trim().is_empty(), "{holder}");
        Ok(Some(()))
    })
    .unwrap();
    s.mesh.start_apiserver(&s.lab, CLUSTER, leader).unwrap();
    s.mesh.wait_apiserver_ready(&s.lab, CLUSTER, leader).unwrap();
    for replica in s.disks.keys() {
        let (local, read) = ask(&s, *replica, async |mut etcd| {
            let local = etcd.get("disk/kept", Some(GetOptions::new().with_serializable())).await;
            (local.unwrap().count(), etcd.get("disk/kept", None).await.unwrap().count())
        })
        .unwrap();
        assert_eq!((local, read), (1, 1));
    }
    let seen = ask(&s, 1, async |mut etcd| {
        let mut watch = etcd.watch("disk/kept", Some(WatchOptions::new())).await.unwrap();
        while !watch.message().await.unwrap().unwrap().created() {}
        etcd.delete("disk/kept", None).await.unwrap();
        watch.message().await.unwrap().unwrap().events()[0].event_type()
    });
    assert_eq!(seen.unwrap(), EventType::Delete);
    wait_refused(&s, leader);
    assert_eq!(s.mesh.restart_ended(&s.lab, CLUSTER).unwrap(), [0_u64; 0], "a replica has ended on its full disk");

    for disk in s.disks.values() {
        disk.make_room().unwrap();
    }
    // An alarm that was under way may come after the first disarming.
    wait_for("the alarms to be disarmed", SOON, || {
        etcdctl(&s, &["alarm", "disarm"])?;
        let refusal = put(&s, 1)?;
        anyhow::ensure!(refusal.is_none(), "{refusal:?}");
        let status = store_status(&s);
        anyhow::ensure!(!status.contains("NOSPACE"), "{status}");
        Ok(Some(()))
    })
    .unwrap();
    let total = assert_nothing_lost(&s, &mut clients);
    println!("{total} writes over full disks and back, none lost");
    s.end().unwrap();
}

#[test]
fn a_replica_whose_log_finds_no_room_says_so_the_others_go_on_and_it_comes_back_whole() {
    let Some(s) = Setup::stores("fulldisk", DISK_MIB).start().unwrap() else { return };
    let mut clients = Clients::start(&s, CLUSTER);
    wait_until("the first writes", SOON, || clients.written() > 20).unwrap();
    let leader = s.mesh.controller(&s.lab, CLUSTER).unwrap();
    let victim = s.disks.keys().copied().find(|replica| *replica != leader).unwrap();

    s.disks[&victim].fill().unwrap();
    wait_until("the others to be told", SOON, || store_status(&s).contains("LOWDISK of ")).unwrap();
    let before = clients.written();
    wait_until("writes all the same", SOON, || clients.written() > before + 20).unwrap();
    assert_eq!(etcdctl(&s, &["alarm", "list"]).unwrap().trim(), "", "two of three are a quorum");
    // What adds nothing to the state is logged all the same: until the victim's log has no place left.
    wait_for("the victim to say what it lacks", SOON * 2, || {
        let deleted = ask(&s, leader, async |mut etcd| etcd.delete("k".repeat(1 << 20), None).await)?;
        deleted?;
        let said = readyz(&s, victim);
        anyhow::ensure!(said.contains("room for the store, which has failed"), "{said}");
        Ok(Some(()))
    })
    .unwrap();
    let log = std::fs::read_to_string(s.lab.logs().join(format!("mesh-apiserver-{CLUSTER}-{victim}.log"))).unwrap();
    assert!(log.contains("No space left on device") && log.contains("make room"), "{log}");
    let before = clients.written();
    wait_until("writes without the victim", SOON, || clients.written() > before + 20).unwrap();
    assert_eq!(s.mesh.restart_ended(&s.lab, CLUSTER).unwrap(), [0_u64; 0], "it does not end before there is room");

    s.disks[&victim].make_room().unwrap();
    let again = wait_for("the victim to end, to be started again", SOON, || {
        Ok(Some(s.mesh.restart_ended(&s.lab, CLUSTER)?).filter(|ended| !ended.is_empty()))
    });
    assert_eq!(again.unwrap(), [victim]);
    s.mesh.wait_apiserver_ready(&s.lab, CLUSTER, victim).unwrap();
    wait_until("the note to be taken back", SOON, || !store_status(&s).contains("LOWDISK")).unwrap();
    let total = assert_nothing_lost(&s, &mut clients);
    s.meshctl(&["--context", CLUSTER, "store", "check"]).unwrap();
    println!("{total} writes, none lost; replica {victim} is back and has the same history as the others");
    s.end().unwrap();
}
