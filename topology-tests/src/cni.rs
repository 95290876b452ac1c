//! Attaches pods by real CNI plugins through the CNI protocol (version 1.0.0): a plugin is a program, its parameters are
//! environment variables, its configuration is standard input, its result is standard output. Knows nothing of the mesh.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::place::Place;
use crate::topology::{Cni, MTU};

/// Where Debian's package `containernetworking-plugins` puts them.
pub const PLUGIN_DIR: &str = "/usr/lib/cni";
const VERSION: &str = "1.0.0";
const IFNAME: &str = "eth0";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("run the CNI plugin {plugin}")]
    Run { plugin: String, source: std::io::Error },
    #[error("the CNI plugin {plugin} refused {command} for {container}: {message}")]
    Refused { plugin: String, command: &'static str, container: String, message: String },
    #[error("the CNI plugin {plugin} gave a result that cannot be read")]
    Result { plugin: String, source: serde_json::Error },
    #[error("the CNI plugin {plugin} gave {container} no IPv4 address")]
    NoAddress { plugin: String, container: String },
}

/// The network of one node.
#[derive(Debug, Clone)]
pub struct Network {
    pub cni: Cni,
    pub pod_cidr: Ipv4Net,
    /// Where host-local keeps the addresses it gave away.
    pub data_dir: PathBuf,
    /// The node: plugins run in its namespaces.
    pub node: Place,
}

/// A pod that was attached: what DEL needs to undo it.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub ip: Ipv4Addr,
    result: Value,
}

#[derive(Deserialize)]
struct AddResult {
    #[serde(default)]
    ips: Vec<AddedAddress>,
}

#[derive(Deserialize)]
struct AddedAddress {
    address: Ipv4Net,
}

#[derive(Deserialize)]
struct Refusal {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

impl Network {
    /// ADD: `lo` up, then `eth0` with an address of the node's range.
    pub async fn add(&self, container: &str, netns: &Path) -> Result<Attachment, Error> {
        self.call("ADD", "loopback", &loopback(), container, netns, "lo").await?;
        let plugin = self.plugin();
        let out = self.call("ADD", plugin, &self.config(None), container, netns, IFNAME).await?;
        let unreadable = |source| Error::Result { plugin: plugin.into(), source };
        let result: Value = serde_json::from_str(&out).map_err(unreadable)?;
        let read: AddResult = serde_json::from_value(result.clone()).map_err(unreadable)?;
        let address = read
            .ips
            .first()
            .ok_or_else(|| Error::NoAddress { plugin: plugin.into(), container: container.to_owned() })?;
        Ok(Attachment { ip: address.address.addr(), result })
    }

    /// DEL: gives the address back and takes the masquerade rules away.
    pub async fn del(&self, container: &str, netns: &Path, attachment: &Attachment) -> Result<(), Error> {
        let config = self.config(Some(&attachment.result));
        self.call("DEL", self.plugin(), &config, container, netns, IFNAME).await?;
        Ok(())
    }

    fn plugin(&self) -> &'static str {
        match self.cni {
            Cni::Ptp => "ptp",
            Cni::Bridge => "bridge",
        }
    }

    fn config(&self, prev_result: Option<&Value>) -> Value {
        let mut config = json!({
            "cniVersion": VERSION,
            "name": "lab",
            "type": self.plugin(),
            "mtu": MTU,
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "dataDir": self.data_dir,
                "ranges": [[{ "subnet": self.pod_cidr }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        });
        if self.cni == Cni::Bridge {
            config["bridge"] = "cni0".into();
            config["isGateway"] = true.into();
        }
        if let Some(result) = prev_result {
            config["prevResult"] = result.clone();
        }
        config
    }

    async fn call(
        &self,
        command: &'static str,
        plugin: &str,
        config: &Value,
        container: &str,
        netns: &Path,
        ifname: &str,
    ) -> Result<String, Error> {
        let failed = |source| Error::Run { plugin: plugin.to_owned(), source };
        let mut program = tokio::process::Command::from(self.node.command(Path::new(PLUGIN_DIR).join(plugin)));
        program
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", ifname)
            .env("CNI_PATH", PLUGIN_DIR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = program.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(config.to_string().as_bytes()).await.map_err(failed)?;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(out);
        }
        let said = match serde_json::from_str::<Refusal>(&out) {
            Ok(refusal) => format!("{} {} (code {})", refusal.msg, refusal.details, refusal.code),
            Err(_not_a_refusal) => format!("{out}{}", String::from_utf8_lossy(&output.stderr)),
        };
        Err(Error::Refused {
            plugin: plugin.to_owned(),
            command,
            container: container.to_owned(),
            message: said.trim().to_owned(),
        })
    }
}

fn loopback() -> Value {
    json!({ "cniVersion": VERSION, "name": "lo", "type": "loopback" })
}
