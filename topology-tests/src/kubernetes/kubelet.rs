//! A node's kubelet.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::component::Component;
use super::containerd::ENDPOINT;
use crate::place::Place;

const READY: Duration = Duration::from_mins(1);
const HEALTH_PORT: u16 = 10248;

/// What a kubelet is told.
pub struct Options {
    pub program: PathBuf,
    pub node: String,
    pub ip: Ipv4Addr,
    pub kubeconfig: PathBuf,
    pub client_ca: PathBuf,
    /// `.crt` and `.key` of what it serves.
    pub serving: (PathBuf, PathBuf),
    pub dns: Ipv4Addr,
    /// Parent of all its pods' cgroups, below the root of each hierarchy.
    pub cgroup: PathBuf,
}

/// Starts it. `folder` takes its configuration.
pub fn start(place: &Place, options: &Options, folder: &Path, logs: &Path) -> Result<Component> {
    let (config, resolv) = (folder.join("kubelet.json"), folder.join("resolv.conf"));
    // Nothing answers there: names that the cluster does not know are known nowhere.
    write(&resolv, "nameserver 127.0.0.1\n")?;
    write(&config, &configuration(options, &resolv).to_string())?;
    let node = place.clone();
    let (program, name, ip) = (options.program.clone(), options.node.clone(), options.ip.to_string());
    let kubeconfig = options.kubeconfig.clone();
    Component::start("kubelet", logs, move || {
        let mut command = node.command(&program);
        command.arg("--config").arg(&config).arg("--kubeconfig").arg(&kubeconfig);
        command.args(["--hostname-override", &name, "--node-ip", &ip]);
        command
    })
}

/// Waits until it says that it is well.
pub fn wait_ready(component: &Component, namespace: &str) -> Result<()> {
    let address = (Ipv4Addr::LOCALHOST, HEALTH_PORT).into();
    component.wait_ready("the kubelet to be well", READY, || crate::probe::answers_ok(namespace, address, "/healthz"))
}

fn configuration(options: &Options, resolv: &Path) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authorization": { "mode": "Webhook" },
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": options.client_ca },
        },
        "tlsCertFile": options.serving.0,
        "tlsPrivateKeyFile": options.serving.1,
        "containerRuntimeEndpoint": ENDPOINT,
        "clusterDomain": "cluster.local",
        "clusterDNS": [options.dns],
        "resolvConf": resolv,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": Path::new("/").join(&options.cgroup),
        "enforceNodeAllocatable": [],
        // Machines with the older hierarchies are as good for tests.
        "failCgroupV1": false,
        // Lower ones need CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "5s",
        // The machine's memory and disk are not the node's own.
        "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        "imageGCHighThresholdPercent": 100,
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
