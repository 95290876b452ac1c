//! The shipped binary against small clusters: in-process Admin servers, each on its own Unix socket.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

#[path = "against_a_cluster/certs.rs"]
mod certs;
#[path = "against_a_cluster/cluster.rs"]
mod cluster;
#[path = "against_a_cluster/store.rs"]
mod store;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cluster::Cluster;
use serde_json::Value;
use tempfile::TempDir;

/// Clusters, the configuration file that names them, and the binary.
struct Mesh {
    folder: TempDir,
}

impl Mesh {
    fn new(clusters: &[&Cluster]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mesh = Self { folder };
        let context = |c: &&Cluster| (c.name().to_owned(), c.socket());
        mesh.write(&clusters.iter().map(context).collect::<Vec<_>>());
        mesh
    }

    fn write(&self, contexts: &[(String, PathBuf)]) {
        let lines = contexts.iter().flat_map(|(name, socket)| {
            [format!("[contexts.{name}]"), format!("admin_socket = \"{}\"", socket.display())]
        });
        std::fs::write(self.config(), lines.collect::<Vec<_>>().join("\n")).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("meshctl.toml")
    }

    fn run(&self, args: &[&str]) -> Run {
        run(&self.config(), args)
    }
}

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {} / {}", self.stdout, self.stderr))
    }
}

fn run(config: &Path, args: &[&str]) -> Run {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .env("MESHCTL_CONFIG", config)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Run {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

#[test]
fn connect_joins_two_clusters_and_repeating_it_changes_nothing() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    a.can_reach(&b);
    let mesh = Mesh::new(&[&a, &b]);
    let first = mesh.run(&["connect", "cluster-a", "cluster-b", "-o", "json"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.json()["already_connected"], false);
    assert_eq!(first.json()["sides"][1]["name"], "cluster-a");
    assert!(first.stderr.contains("[3/4] exchange trust by a one-time token: ok"), "{}", first.stderr);
    assert!(!first.stderr.contains("token-for-"), "a token is never shown");
    let again = mesh.run(&["connect", "cluster-a", "cluster-b", "-o", "json"]);
    assert_eq!((again.code, &again.json()["already_connected"]), (0, &Value::Bool(true)));
    assert_eq!(b.tokens_made(), 1);

    let parted = mesh.run(&["disconnect", "cluster-a", "cluster-b"]);
    assert_eq!(parted.code, 0, "{}", parted.stderr);
    assert_eq!(parted.stdout.matches("disconnected").count(), 2);
    assert_eq!(mesh.run(&["peers", "-o", "json"]).json(), Value::Array(vec![]));
}

#[test]
fn troubleshoot_says_where_the_way_stops_and_ends_with_2_when_it_does() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    a.can_reach(&b);
    let mesh = Mesh::new(&[&a, &b]);
    let alone = mesh.run(&["troubleshoot"]);
    assert!(alone.code == 0 && alone.stderr.contains("no cluster is joined"), "{}", alone.stderr);
    assert_eq!(mesh.run(&["connect", "cluster-a", "cluster-b"]).code, 0);
    let well = mesh.run(&["-c", "cluster-a", "troubleshoot"]);
    assert!(well.code == 0 && well.stderr.contains("every step passed; --all shows them"), "{}", well.stderr);
    a.peers_become("Withdrawn", "gone");
    let lost = mesh.run(&["-c", "cluster-a", "troubleshoot", "cluster-b"]);
    assert_eq!(lost.code, 2, "{}", lost.stderr);
    assert!(lost.stderr.contains("faults: cluster-b at connect (192.0.2.1:2379)"), "{}", lost.stderr);
    let shown: Vec<&str> = lost.stdout.lines().collect();
    assert!(shown.len() == 2 && shown[1].ends_with("connect  FAIL    does not take connections"), "{shown:?}");
    let all = mesh.run(&["-c", "cluster-a", "troubleshoot", "--all"]);
    assert!(all.stdout.contains("not reached"), "{}", all.stdout);
    let json = mesh.run(&["-c", "cluster-a", "troubleshoot", "-o", "json"]).json();
    assert_eq!((json[1]["step"].as_str(), json[1]["result"].as_str()), (Some("connect"), Some("fail")));
    let unknown = mesh.run(&["-c", "cluster-a", "troubleshoot", "cluster-x"]);
    assert!(
        unknown.code != 0 && unknown.stderr.contains("has not joined a cluster \"cluster-x\""),
        "{}",
        unknown.stderr
    );
}

#[test]
fn connect_refuses_contradicting_clusters_before_any_change() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 1));
    b.declare_pods([10, 1, 128, 0], 17);
    a.can_reach(&b);
    let refused = Mesh::new(&[&a, &b]).run(&["connect", "cluster-a", "cluster-b"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (65, ""));
    for line in [
        "duplicate id: cluster-a and cluster-b both have cluster id 1",
        "overlap: pod prefix 10.1.0.0/16 of cluster-a and pod prefix 10.1.128.0/17 of cluster-b",
        "they cannot be joined; nothing was changed",
    ] {
        assert!(refused.stderr.contains(line), "{line}: {}", refused.stderr);
    }
    assert_eq!(b.tokens_made(), 0);
}

#[test]
fn a_cluster_that_does_not_answer_does_not_hide_the_others() {
    let a = Cluster::start("cluster-a", 1);
    let mesh = Mesh::new(&[&a]);
    mesh.write(&[("cluster-a".into(), a.socket()), ("cluster-z".into(), "no-such.sock".into())]);
    let version = mesh.run(&["version"]);
    assert_eq!(version.code, 2);
    assert!(version.stdout.contains("cluster-a"), "{}", version.stdout);
    assert!(version.stderr.contains("meshctl: cluster-z: cannot reach it at "), "{}", version.stderr);
    assert!(version.stderr.contains("hint: is its mesh-apiserver running"), "{}", version.stderr);
    let alone = mesh.run(&["status", "-c", "cluster-z"]);
    assert_eq!((alone.code, alone.stdout.as_str()), (69, ""));
    let json = mesh.run(&["status", "-o", "json"]).json();
    assert_eq!(json["unreachable"][0]["context"], "cluster-z");
    assert_eq!(json["clusters"][0]["cluster"], "cluster-a");
}

#[test]
fn status_is_degraded_when_something_is_not_well() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    a.can_reach(&b);
    let mesh = Mesh::new(&[&a, &b]);
    assert_eq!(mesh.run(&["status"]).code, 0);
    mesh.run(&["connect", "cluster-a", "cluster-b"]);
    a.peers_become("Stale", "no heartbeat");
    let status = mesh.run(&["status"]);
    assert_eq!(status.code, 2, "{}", status.stdout);
    assert!(status.stdout.contains("! peer cluster-b: Stale for "), "{}", status.stdout);
    assert!(status.stdout.lines().all(|l| l.chars().count() <= 100), "{}", status.stdout);
    assert!(!status.stdout.contains('\x1b'), "no colour where no terminal is");
}

#[test]
fn a_token_is_all_that_stdout_gets() {
    let b = Cluster::start("cluster-b", 2);
    let mesh = Mesh::new(&[&b]);
    let token = mesh.run(&["token", "create", "--peer", "cluster-a", "--peer-id", "1"]);
    assert_eq!((token.code, token.stdout.as_str()), (0, "token-for-cluster-a\n"));
    assert!(token.stderr.contains("only cluster-a (id 1) can use it"), "{}", token.stderr);
    assert!(!token.stderr.contains("token-for"), "{}", token.stderr);
    let node = mesh.run(&["token", "create", "--node", "b1", "-o", "json"]);
    assert_eq!(node.json()["token"], "token-for-b1");
}

#[test]
fn preflight_asks_both_sides_and_says_what_to_do_next() {
    let (a, b, twin) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2), Cluster::start("cluster-c", 1));
    let mesh = Mesh::new(&[&a, &b, &twin]);
    let fits = mesh.run(&["preflight", "cluster-a", "cluster-b"]);
    assert_eq!(fits.code, 0, "{}", fits.stderr);
    assert!(fits.stdout.contains("both") && fits.stdout.contains("cluster-b reaches cluster-a"), "{}", fits.stdout);
    assert!(fits.stderr.contains("they can be connected: meshctl connect cluster-a cluster-b"), "{}", fits.stderr);
    let clash = mesh.run(&["preflight", "cluster-a", "cluster-c", "-o", "json"]);
    assert_eq!((clash.code, clash.json()[0]["severity"].as_str()), (2, Some("fail")), "{}", clash.stdout);
    assert!(clash.stderr.contains("do not connect them yet: 1 faults"), "{}", clash.stderr);
    assert_eq!(a.tokens_made() + twin.tokens_made(), 0, "nothing is changed");
}

#[test]
fn tokens_are_listed_and_revoked_and_a_used_ones_work_is_named() {
    let a = Cluster::start("cluster-a", 1);
    let mesh = Mesh::new(&[&a]);
    let listed = mesh.run(&["token", "list", "-o", "json"]);
    assert_eq!((listed.json()[0]["id"].as_str(), listed.json()[0]["state"].as_str()), (Some("t1"), Some("used")));
    let revoked = mesh.run(&["token", "revoke", "t1"]);
    assert_eq!((revoked.code, revoked.stdout.as_str()), (0, "token t1 for cluster west (id 2) is revoked\n"));
    assert!(
        revoked.stderr.contains("cluster west (id 2) stays joined until `meshctl peers revoke`"),
        "{}",
        revoked.stderr
    );
    let unknown = mesh.run(&["token", "revoke", "t9"]);
    assert_ne!(unknown.code, 0);
    assert!(unknown.stderr.contains("there is no token \"t9\" here"), "{}", unknown.stderr);
    let peer = mesh.run(&["peers", "revoke", "west"]);
    assert_eq!((peer.code, peer.stdout.as_str()), (0, "west was not joined by cluster-a\n"));
}

#[test]
fn a_token_comes_from_a_file() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    a.can_reach(&b);
    let mesh = Mesh::new(&[&a]);
    let file = mesh.folder.path().join("token");
    std::fs::write(&file, "token-for-cluster-a\n").unwrap();
    let joined = mesh.run(&["connect", "cluster-a", "--token-file", file.to_str().unwrap()]);
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    assert!(joined.stdout.contains("cluster-b"), "{}", joined.stdout);
    std::fs::write(&file, "\n").unwrap();
    let empty = mesh.run(&["connect", "cluster-a", "--token-file", file.to_str().unwrap()]);
    assert_eq!(empty.code, 64);
    assert!(empty.stderr.contains("there is no token in it"), "{}", empty.stderr);
}

#[test]
fn a_cilium_cluster_is_joined_by_a_file_and_what_is_wrong_in_it_is_named() {
    let a = Cluster::start("a", 1);
    let mesh = Mesh::new(&[&a]);
    let file = mesh.folder.path().join("cluster-c.yaml");
    let path = file.display().to_string();
    let text = "endpoints: ['https://c.mesh.cilium.io:2379']\ntrusted-ca-file: /c/ca.crt\ncert-file: /c/tls.crt\n\
                key-file: /c/tls.key\nid: 3\npod-prefixes: [10.3.0.0/16]\nnode-prefixes: [172.30.3.0/24]\n";
    std::fs::write(&file, text).unwrap();
    let done = mesh.run(&["connect", "a", "--cilium", &path, "-o", "json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let sides = done.json()["sides"].clone();
    assert_eq!((&sides[0]["name"], &sides[0]["is_cilium"]), (&Value::from("cluster-c"), &Value::from(true)));
    let table = mesh.run(&["peers"]);
    assert!(table.stdout.contains("cluster-c (Cilium)"), "{}", table.stdout);

    std::fs::write(&file, text.replace("id: 3\n", "")).unwrap();
    let refused = mesh.run(&["connect", "a", "--cilium", &path]);
    assert_eq!(refused.code, 64);
    assert!(refused.stderr.contains("cluster-c.yaml") && refused.stderr.contains("id"), "{}", refused.stderr);
}

#[test]
fn ciliums_folder_has_a_file_for_each_peer_and_keeps_its_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let (a, b) = (Cluster::start("a", 1), Cluster::start("b", 2));
    a.can_reach(&b);
    let mesh = Mesh::new(&[&a, &b]);
    assert_eq!(mesh.run(&["connect", "a", "b"]).code, 0);
    let folder = mesh.folder.path().join("clustermesh");
    let out = folder.display().to_string();
    let write = || mesh.run(&["cilium", "config", "-c", "a", "--for", "local", "--out", &out, "-o", "json"]);
    let done = |run: &Run, file: &str| {
        let files = run.json()["files"].as_array().unwrap().clone();
        files.iter().find(|f| f["file"] == file).map(|f| f["done"].as_str().unwrap().to_owned())
    };
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();

    let first = write();
    assert_eq!((first.code, done(&first, "b").as_deref()), (0, Some("written")), "{}", first.stderr);
    let (text, key) = (read("b"), read("local-etcd-client.key"));
    assert!(text.contains("key-file: /var/lib/cilium/clustermesh/local-etcd-client.key\n"), "{text}");
    assert!(text.contains("- https://a.mesh.cilium.io:2379\n"), "{text}");
    let mode = |file: &str| std::fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("local-etcd-client.key"), mode("b")), (0o600, 0o644));
    assert!(!first.stdout.contains("PRIVATE") && !first.stderr.contains("PRIVATE"));

    let second = write();
    assert_eq!(done(&second, "b").as_deref(), Some("unchanged"), "Cilium would take a new file for a change");
    assert_eq!(read("local-etcd-client.key"), key);
    assert_eq!(mesh.run(&["disconnect", "a", "b"]).code, 0);
    let third = write();
    assert_eq!(done(&third, "b").as_deref(), Some("removed"));
    assert!(!folder.join("b").exists());

    let remote = mesh.run(&["cilium", "config", "-c", "a", "--for", "remote", "--out", &out]);
    assert_eq!(remote.code, 0, "{}", remote.stderr);
    assert!(read("a").contains("cert-file: /var/lib/cilium/clustermesh/common-etcd-client.crt\n"));
}

#[test]
fn a_refused_call_says_who_refused_what() {
    let a = Cluster::start("cluster-a", 1);
    let mesh = Mesh::new(&[&a]);
    let file = mesh.folder.path().join("token");
    std::fs::write(&file, "tampered").unwrap();
    let refused = mesh.run(&["connect", "cluster-a", "--token-file", file.to_str().unwrap()]);
    assert_eq!(refused.code, 77);
    assert!(
        refused
            .stderr
            .contains("meshctl: cluster-a: ConnectPeer was refused (PermissionDenied): the token is not valid"),
        "{}",
        refused.stderr
    );
}

#[test]
fn get_shows_rows_and_passes_its_filters_on() {
    let (a, b) = (Cluster::start("cluster-a", 1), Cluster::start("cluster-b", 2));
    let mesh = Mesh::new(&[&a, &b]);
    let all = mesh.run(&["get", "endpoints"]);
    assert_eq!(all.code, 0, "{}", all.stderr);
    assert!(all.stdout.starts_with("SEEN BY    CLUSTER    ADDRESS"), "{}", all.stdout);
    assert_eq!(all.stdout.lines().count(), 3);
    let one = mesh.run(&["get", "endpoints", "-c", "cluster-a", "-n", "shop", "-o", "json"]).json();
    assert_eq!(one[0]["namespace"], "shop");
    assert_eq!(one[0]["prefix"], "10.1.0.7/32");
}

#[test]
fn usage_and_configuration_mistakes_have_their_own_codes() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("meshctl.toml");
    let missing = run(&config, &["status"]);
    assert_eq!(missing.code, 78);
    assert!(missing.stderr.contains("caused by: No such file or directory"), "{}", missing.stderr);
    std::fs::write(&config, "[contexts.a]\nadmin_socket = \"x\"\n").unwrap();
    assert_eq!(run(&config, &["status", "-c", "b"]).code, 64);
    assert_eq!(run(&config, &["stat"]).code, 64);
    assert_eq!(run(&config, &["bpf", "dump", "ipcache", "--node", "a1"]).code, 64);
    let help = run(&config, &["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Exit codes:"), "{}", help.stdout);
}
