//! Takes the agent off a node: everything it made, and nothing else. `mesh-tunnel`'s device goes with that process.
//!
//! Must never run beside an agent, which would make it all again: where the state folder is named, its lock is taken first.

pub mod everywhere;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_ebpf::Pins;
use mesh_runtime::admin::{self, Server};
use mesh_runtime::{Readiness, Shutdown, TaskSet};
use prometheus_client::registry::Registry;

use crate::names::{TUNNEL_DEVICE, VXLAN_DEVICE};
use crate::netlink::links::Kind;
use crate::netlink::{self, Netlink};
use crate::node_lock::{self, NodeLock};

/// What beside the kernel is cleaned, and what comes after.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The agent's state folder: it is emptied, once no agent holds it.
    pub state_dir: Option<PathBuf>,
    /// How long the agent may take to end.
    pub patience: Duration,
    /// Where `/readyz` says that the node is clean, until this process is told to stop.
    pub serve: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    #[error(transparent)]
    Pins(#[from] agent_ebpf::pins::Error),
    #[error(transparent)]
    Lock(#[from] node_lock::Error),
    #[error("cannot empty the agent's state folder: {} stays", path.display())]
    State { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Admin(#[from] admin::Error),
    #[error("cannot answer on {address}")]
    Serve { address: SocketAddr, source: io::Error },
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
}

/// Cleans, and where that is wanted says so until told to stop. Repeating it changes nothing.
pub async fn run(bpffs: &Path, options: &Options) -> Result<(), Error> {
    let shutdown = Shutdown::new();
    let _signals = shutdown.listen_to_signals().map_err(Error::Signals)?;
    let _lock = match &options.state_dir {
        // An agent that never ran has left no folder.
        Some(folder) if folder.exists() => Some(NodeLock::take(folder, Some(options.patience), &shutdown).await?),
        _ => None,
    };
    kernel(bpffs).await?;
    if let Some(folder) = &options.state_dir {
        empty(folder)?;
    }
    tracing::info!("this node is clean");
    let Some(address) = options.serve else { return Ok(()) };
    let server = Server::bind(address, Readiness::new(), Registry::default()).await?;
    server.run(shutdown).await.map_err(|source| Error::Serve { address, source })
}

/// Programs first, so that no packet meets half of the rest; guards last.
async fn kernel(bpffs: &Path) -> Result<(), Error> {
    Pins::under(bpffs).remove_all()?;
    let tasks = TaskSet::new(Shutdown::new());
    let netlink = Netlink::open(&tasks)?;
    if let Some(link) = netlink.link(VXLAN_DEVICE).await? {
        netlink.delete_link(&link).await?;
    }
    if let Some(link) = netlink.link(TUNNEL_DEVICE).await?.filter(|link| link.kind == Kind::Wireguard) {
        netlink.delete_link(&link).await?;
    }
    for route in netlink.own_routes().await? {
        netlink.delete_route(&route).await?;
    }
    for rule in netlink.own_rules().await? {
        netlink.delete_rule(&rule).await?;
    }
    Ok(())
}

/// The folder itself stays: it may be a mount.
fn empty(folder: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| Error::State { path, source }
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed(folder))?;
        let path = entry.path();
        let is_folder = entry.file_type().map_err(failed(&path))?.is_dir();
        let removed = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_and_the_folder_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wireguard.key"), "x").unwrap();
        std::fs::create_dir_all(folder.path().join("more/deep")).unwrap();
        empty(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        empty(folder.path()).unwrap();
        empty(&folder.path().join("never-made")).unwrap();
    }
}
