//! `node-agent check`: what this node has of what the mesh needs, as JSON for `meshctl check`. Looks and tries; changes
//! nothing, and judges nothing: what a fact means, meshctl says.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_runtime::{ErrorChain, TaskSet};
use nix::sys::statfs::statfs;
use serde_json::{Value, json};

use crate::netlink::Netlink;
use crate::netlink::uplink::Uplink;

/// `statfs` types (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// Where kube-proxy says how it works; on the node itself alone.
const KUBE_PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
/// Made and removed at once.
const TRIAL_DEVICE: &str = "isthmus_check";
const ANSWER: Duration = Duration::from_secs(2);

/// Where to look.
#[derive(Debug, Clone)]
pub struct Options {
    pub bpffs: PathBuf,
    /// The first that exists counts.
    pub cgroups: Vec<PathBuf>,
    pub uplink: Option<String>,
    pub node_ip: Option<Ipv4Addr>,
    /// Of the mesh, UDP.
    pub ports: Vec<u16>,
}

/// All facts. One that cannot be had says why, and keeps no other back.
pub async fn facts(options: &Options, tasks: &TaskSet) -> Value {
    let cgroup = options.cgroups.iter().find(|folder| folder.is_dir());
    let uplink = uplink(options, tasks).await;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default(),
        "unix_millis": mesh_runtime::clock::unix_nanos() / 1_000_000,
        "bpffs": file_system(&options.bpffs, BPF_FS_MAGIC, "bpf file system"),
        "bpf_missing": agent_ebpf::features::missing(),
        "cgroup": match cgroup {
            Some(folder) => file_system(folder, CGROUP2_SUPER_MAGIC, "cgroup of version 2"),
            None => Some(format!("none of {} exists", shown(&options.cgroups))),
        },
        "uplink": match &uplink {
            Ok(uplink) => json!({ "name": uplink.name, "mtu": uplink.mtu, "address": uplink.node_ip.to_string() }),
            Err(_) => Value::Null,
        },
        "uplink_error": uplink.err(),
        "wireguard": wireguard(tasks).await,
        "tun": has_tun(),
        "ports_in_use": options.ports.iter().filter(|port| !is_free(**port)).collect::<Vec<_>>(),
        "forwarding": setting("/proc/sys/net/ipv4/ip_forward") != Some("0".to_owned()),
        "kube_proxy": kube_proxy(),
    })
}

async fn uplink(options: &Options, tasks: &TaskSet) -> Result<Uplink, String> {
    let netlink = Netlink::open(tasks).map_err(|error| ErrorChain(&error).to_string())?;
    let found = netlink.uplink(options.uplink.as_deref(), options.node_ip).await;
    found.map_err(|error| ErrorChain(&error).to_string())
}

/// Why it is not of that kind.
fn file_system(folder: &Path, kind: i64, name: &str) -> Option<String> {
    match statfs(folder) {
        Ok(found) if found.filesystem_type().0 == kind => None,
        Ok(_other) => Some(format!("{} is no {name}", folder.display())),
        Err(error) => Some(format!("{}: {error}", folder.display())),
    }
}

/// Why the kernel makes no WireGuard device: one is made, as the agent makes its own (which loads the module), and removed.
async fn wireguard(tasks: &TaskSet) -> Option<String> {
    let told = |error: &crate::netlink::Error| Some(ErrorChain(error).to_string());
    let netlink = match Netlink::open(tasks) {
        Ok(netlink) => netlink,
        Err(error) => return told(&error),
    };
    if let Err(error) = netlink.add_wireguard(TRIAL_DEVICE).await
        && !error.is_present()
    {
        return told(&error);
    }
    match netlink.link(TRIAL_DEVICE).await {
        Ok(Some(link)) => netlink.delete_link(&link).await.err().as_ref().and_then(told),
        Ok(None) => None,
        Err(error) => told(&error),
    }
}

/// A container has no `/dev` of the node, but the kernel's list of devices is the same for all.
fn has_tun() -> bool {
    let listed = std::fs::read_to_string("/proc/misc").unwrap_or_default();
    listed.lines().any(|line| line.split_whitespace().nth(1) == Some("tun")) || Path::new("/dev/net/tun").exists()
}

fn is_free(port: u16) -> bool {
    match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_bound) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    }
}

/// `nftables`, `iptables` or `ipvs`; none where no kube-proxy answers.
fn kube_proxy() -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&KUBE_PROXY, ANSWER).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.write_all(b"GET /proxyMode HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let is_mode = |mode: &&str| !mode.is_empty() && mode.chars().all(|c| c.is_ascii_alphanumeric());
    head.lines().next()?.contains(" 200 ").then(|| body.trim()).filter(is_mode).map(str::to_owned)
}

fn setting(file: &str) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn shown(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_bpf_file_system_is_named() {
        let text = file_system(Path::new("/proc"), BPF_FS_MAGIC, "bpf file system");
        assert_eq!(text.as_deref(), Some("/proc is no bpf file system"));
        assert!(file_system(Path::new("/nowhere"), BPF_FS_MAGIC, "x").unwrap().starts_with("/nowhere: "));
        assert_eq!(file_system(Path::new("/proc"), 0x9fa0, "proc"), None);
    }

    #[test]
    fn a_port_that_somebody_has_is_not_free() {
        let held = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(!is_free(port));
        drop(held);
        assert!(is_free(port));
    }
}
