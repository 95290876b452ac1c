//! What the chart lets the agent do on its node is enough to bring the datapath up and to take it down, and none of it is
//! too much.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::harness::{Cgroup, Node, SOON, nodes};

/// Where the agent waits for its token, the datapath being up.
const ATTACHED: &str = "connect4-";

/// The capabilities of a container in what the chart renders to.
fn capabilities(container: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/isthmus/tests/golden/default.yaml");
    let text = std::fs::read_to_string(&path).expect("the chart's golden render");
    let (_, container) = text.split_once(&format!("- name: {container}\n")).expect("the container");
    let (_, added) = container.split_once("              add:\n").expect("added capabilities");
    let lines = added.lines().map_while(|line| line.strip_prefix("                - "));
    lines.map(|name| name.to_ascii_lowercase()).collect()
}

/// Root's number with these capabilities and no way to others, as the container runtime starts it.
fn with(capabilities: &[String], args: &[String]) -> Command {
    let bounding: String = capabilities.iter().fold("-all".to_owned(), |all, one| format!("{all},+{one}"));
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--pdeathsig", "KILL", "--inh-caps=-all", "--bounding-set"]).arg(bounding);
    command.arg(env!("CARGO_BIN_EXE_node-agent")).args(args).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn is_attached(bpffs: &Path) -> bool {
    let folders = std::fs::read_dir(bpffs.join("isthmus")).into_iter().flatten().filter_map(Result::ok);
    let links = folders.filter_map(|folder| std::fs::read_dir(folder.path().join("links")).ok()).flatten();
    links.filter_map(Result::ok).any(|link| link.file_name().to_string_lossy().starts_with(ATTACHED))
}

/// Whether the datapath comes up with these capabilities before the agent ends; else what it said.
fn comes_up(node: &Node, cgroup: &Cgroup, state: PathBuf, capabilities: Vec<String>) -> Result<(), String> {
    let (bpffs, cgroup) = (node.bpffs(), cgroup.0.clone());
    node.run(async move {
        let text = |path: &Path| path.display().to_string();
        let args = [
            ["--node-name", "n1"],
            ["--cluster-name", "a"],
            ["--apiserver", "127.0.0.1:1"],
            ["--listen-metrics", "127.0.0.1:0"],
            ["--cgroup-root", &text(&cgroup)],
            ["--state-dir", &text(&state)],
            ["--enrol-token-file", &text(&state.join("no-token-yet"))],
            ["--bpffs", &text(&bpffs)],
        ];
        let args: Vec<String> = args.concat().into_iter().map(str::to_owned).collect();
        let mut agent = with(&capabilities, &args).spawn().map_err(|error| error.to_string())?;
        let deadline = tokio::time::Instant::now() + SOON;
        while tokio::time::Instant::now() < deadline {
            if is_attached(&bpffs) {
                agent.kill().await.map_err(|error| error.to_string())?;
                return Ok(());
            }
            if agent.try_wait().map_err(|error| error.to_string())?.is_some() {
                let said = agent.wait_with_output().await.map_err(|error| error.to_string())?;
                return Err(String::from_utf8_lossy(&said.stderr).into_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("neither up nor ended within {SOON:?}"))
    })
}

/// Runs the cleanup with the chart's capabilities for it.
fn clean(node: &Node, state: PathBuf) -> Result<(), String> {
    let (bpffs, capabilities) = (node.bpffs(), capabilities("cleanup"));
    node.run(async move {
        let args = ["cleanup", "--state", &state.display().to_string(), "--bpffs", &bpffs.display().to_string()];
        let said = with(&capabilities, &args.map(str::to_owned)).output().await.map_err(|error| error.to_string())?;
        if !said.status.success() {
            return Err(String::from_utf8_lossy(&said.stderr).into_owned());
        }
        if bpffs.join("isthmus").exists() { Err("pins are left".to_owned()) } else { Ok(()) }
    })
}

#[test]
fn the_charts_capabilities_are_enough_and_without_any_of_them_the_datapath_stays_down() {
    let Some([node]) = nodes() else { return };
    let cgroup = match Cgroup::new("rights") {
        Ok(cgroup) => cgroup,
        Err(why) => return println!("skipped: {why}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_owned();
    let all = capabilities("node-agent");
    assert_eq!(all, ["bpf", "net_admin", "perfmon"]);
    // The least first: what comes up is adopted by the next.
    for one in &all {
        let rest: Vec<String> = all.iter().filter(|other| *other != one).cloned().collect();
        let said = comes_up(&node, &cgroup, state.clone(), rest).expect_err(one);
        assert!(said.contains("node-agent:"), "without {one}: {said}");
    }
    comes_up(&node, &cgroup, state.clone(), all).unwrap();
    assert!(state.join("wireguard.key").exists());
    clean(&node, state.clone()).unwrap();
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "keys are left");
}
