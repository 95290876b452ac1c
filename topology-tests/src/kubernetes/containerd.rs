//! A node's containerd: its configuration, its start, and images that are put into it. It keeps to its usual places, which
//! are each node's own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::component::Component;
use super::images::PAUSE;
use crate::place::Place;
use crate::proc;

const SOCKET: &str = "/run/containerd/containerd.sock";
pub const ENDPOINT: &str = "unix:///run/containerd/containerd.sock";
const READY: Duration = Duration::from_secs(30);
/// The namespace of containerd's in which the kubelet looks for images.
const KUBERNETES: &str = "k8s.io";

/// Starts it and waits until it answers. `folder` takes its configuration.
pub fn start(place: &Place, folder: &Path, logs: &Path) -> Result<Component> {
    let config = folder.join("containerd.toml");
    std::fs::write(&config, configuration()).with_context(|| format!("write {}", config.display()))?;
    let node = place.clone();
    let component = Component::start("containerd", logs, move || {
        let mut command = node.command("containerd");
        command.arg("--config").arg(&config).args(["--log-level", "warn"]);
        command
    })?;
    wait_ready(&component, place)?;
    Ok(component)
}

/// Waits until it answers.
pub fn wait_ready(component: &Component, place: &Place) -> Result<()> {
    component.wait_ready("containerd to answer", READY, || ctr(place, &["version"]).is_ok())
}

/// Puts an archive's images where the kubelet finds them.
pub fn load_image(place: &Place, archive: &Path) -> Result<()> {
    let archive = archive.to_str().context("the archive's name is not text")?;
    ctr(place, &["--namespace", KUBERNETES, "images", "import", archive]).map(drop)
}

fn ctr(place: &Place, args: &[&str]) -> Result<String> {
    let mut command = place.command("ctr");
    command.args(["--address", SOCKET]).args(args);
    proc::output("ctr", command)
}

fn configuration() -> String {
    // Scores below the lab's own need CAP_SYS_RESOURCE, which a container's root may lack. AppArmor is the machine's.
    format!(
        r#"version = 2
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{}"
    conf_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        crate::cni::PLUGIN_DIR,
        super::cni::FOLDER,
    )
}
