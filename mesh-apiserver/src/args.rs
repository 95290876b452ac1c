//! The command line: flags and environment to one checked [`Config`]. Every mistake is found before any is reported.

mod advertise;
mod kubernetes;
mod replicas;
mod source;
mod store;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use mesh_runtime::{Mistakes, telemetry};
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout, prefix};

use self::advertise::AdvertiseArgs;
pub use self::advertise::Advertised;
use self::kubernetes::KubernetesArgs;
pub use self::kubernetes::KubernetesChoices;
use self::replicas::ReplicaArgs;
pub use self::replicas::{Replicas, endpoint, is_host};
use self::source::SourceArgs;
pub use self::source::SourceChoice;
use self::store::StoreArgs;
pub use self::store::{ExternalStore, StoreChoice, StoreTls};
use crate::credentials::CA_FOLDER;
use crate::credentials::keep::Place;

/// Control plane of one cluster of an Isthmus mesh: reads the cluster's objects, keeps the store, mirrors joined clusters,
/// serves agents, peers and meshctl.
#[derive(Debug, Parser)]
#[command(name = "mesh-apiserver", version)]
#[group(id = "mesh-apiserver")]
pub struct Args {
    /// Name of this cluster: unique in the mesh
    #[arg(long, env = "ISTHMUS_CLUSTER_NAME", default_value = "")]
    cluster_name: String,
    /// Number of this cluster, 1 to 255 (or 511): unique in the mesh, never to be changed
    #[arg(long, env = "ISTHMUS_CLUSTER_ID", default_value = "")]
    cluster_id: String,
    /// Folder for the store, the CA and certificates; must survive restarts
    #[arg(long, env = "ISTHMUS_STATE_DIR", default_value = "/var/lib/isthmus")]
    state_dir: PathBuf,
    /// Where remote clusters, Cilium agents and etcdctl connect
    #[arg(long, env = "ISTHMUS_LISTEN_ETCD", default_value = "0.0.0.0:2379")]
    listen_etcd: String,
    /// Where agents, meshctl and joining clusters connect
    #[arg(long, env = "ISTHMUS_LISTEN_MESH", default_value = "0.0.0.0:2382")]
    listen_mesh: String,
    /// Where /metrics, /livez and /readyz are answered, without TLS
    #[arg(long, env = "ISTHMUS_LISTEN_METRICS", default_value = "0.0.0.0:9972")]
    listen_metrics: String,
    /// Unix socket of the admin API, for root and the server's own user
    #[arg(long, env = "ISTHMUS_ADMIN_SOCKET", default_value = "/run/isthmus/mesh-apiserver.sock")]
    admin_socket: PathBuf,
    #[command(flatten)]
    advertise: AdvertiseArgs,
    /// Prefix that this cluster's pods have addresses in; repeatable. Default: what the Node objects say
    #[arg(long, env = "ISTHMUS_POD_CIDR", value_delimiter = ',', value_name = "PREFIX")]
    pod_cidr: Vec<String>,
    /// Prefix that this cluster's Services have addresses in; repeatable
    #[arg(long, env = "ISTHMUS_SERVICE_CIDR", value_delimiter = ',', value_name = "PREFIX")]
    service_cidr: Vec<String>,
    /// Prefix that this cluster's nodes have addresses in; repeatable. Default: what the Node objects say
    #[arg(long, env = "ISTHMUS_NODE_CIDR", value_delimiter = ',', value_name = "PREFIX")]
    node_cidr: Vec<String>,
    /// How packets between clusters are protected: wireguard, or none (in clear)
    #[arg(long, env = "ISTHMUS_ENCRYPTION", default_value = "wireguard")]
    encryption: String,
    /// A peer without a heartbeat for this long is shown as stale and still used
    #[arg(long, env = "ISTHMUS_STALE_AFTER", default_value = "15s")]
    stale_after: String,
    /// A peer without a heartbeat for this long is no longer used
    #[arg(long, env = "ISTHMUS_WITHDRAW_AFTER", default_value = "45s")]
    withdraw_after: String,
    /// How long the mirrored facts of a disconnected peer stay for this cluster's own Cilium; here they are used no more at once
    #[arg(long, env = "ISTHMUS_DISCONNECT_GRACE", default_value = "3m")]
    disconnect_grace: String,
    /// 255 or 511; equal in all clusters, never to be changed. 511 halves the identities of each cluster
    #[arg(long, env = "ISTHMUS_MAX_CONNECTED_CLUSTERS", default_value = "255")]
    max_connected_clusters: String,
    /// Folder of the cluster's CA, the same for all replicas; made if absent. Default: `ca` in --state-dir
    #[arg(long, env = "ISTHMUS_CA_DIR")]
    ca_dir: Option<PathBuf>,
    /// Folder (a mounted Secret, say) with the CA that --ca-dir begins with where it has none; only read
    #[arg(long, env = "ISTHMUS_CA_SEED_DIR")]
    ca_seed_dir: Option<PathBuf>,
    #[command(flatten)]
    replicas: ReplicaArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    #[command(flatten)]
    telemetry: telemetry::Args,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    pub cluster: ClusterName,
    pub cluster_id: ClusterId,
    pub layout: IdentityLayout,
    pub state_dir: PathBuf,
    pub ca: Place,
    pub replicas: Replicas,
    pub source: SourceChoice,
    pub kubernetes: KubernetesChoices,
    pub listen_etcd: SocketAddr,
    pub listen_mesh: SocketAddr,
    pub listen_metrics: SocketAddr,
    pub admin_socket: PathBuf,
    pub advertise: Advertised,
    /// Empty: what the Node objects say.
    pub pod_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    /// Empty: what the Node objects say.
    pub node_cidrs: Vec<IpNet>,
    pub encryption: Encryption,
    pub stale_after: Duration,
    pub withdraw_after: Duration,
    pub disconnect_grace: Duration,
    pub store: StoreChoice,
    pub store_quota_bytes: u64,
    pub telemetry: telemetry::Args,
}

impl Args {
    /// Checks everything and reports all mistakes together.
    pub fn check(self) -> Result<Config, Mistakes> {
        let mut mistakes = Mistakes::default();
        let m = &mut mistakes;
        let cluster = required(m, "--cluster-name", &self.cluster_name);
        let cluster_id: Option<ClusterId> = required(m, "--cluster-id", &self.cluster_id);
        let layout = match self.max_connected_clusters.as_str() {
            "255" => Some(IdentityLayout::Clusters255),
            "511" => Some(IdentityLayout::Clusters511),
            other => {
                m.add("--max-connected-clusters", format!("{other:?} is not possible: use 255 or 511"));
                None
            }
        };
        if let (Some(id), Some(layout)) = (cluster_id, layout) {
            let max = layout.max_clusters();
            if id.get() > max {
                m.add("--cluster-id", format!("{id} needs --max-connected-clusters 511 in all clusters (now {max})"));
            }
        }
        let encryption = match self.encryption.as_str() {
            "wireguard" => Some(Encryption::Wireguard),
            "none" => Some(Encryption::None),
            "ipsec" => {
                m.add("--encryption", "ipsec is not available in this version: use wireguard");
                None
            }
            other => {
                m.add("--encryption", format!("{other:?} is unknown: use wireguard, or none for packets in clear"));
                None
            }
        };
        let replicas = self.replicas.check(m);
        let store_quota_bytes = self.store.store_quota_bytes;
        let store = self.store.check(m);
        let source = self.source.check(m);
        let is_kubernetes = matches!(source, Some(SourceChoice::Kubernetes(_)));
        let kubernetes = self.kubernetes.check(m, is_kubernetes);
        let ca = match (self.ca_dir, self.ca_seed_dir, &kubernetes.ca_secret) {
            (None, None, Some(secret)) => Some(Place::Secret(secret.clone())),
            (dir, _, Some(_)) => {
                let flag = if dir.is_some() { "--ca-dir" } else { "--ca-seed-dir" };
                m.add(flag, "is in the way of --kubernetes-ca-secret: the CA is kept in one place");
                None
            }
            (None, None, None) if replicas.as_ref().is_some_and(|replicas| replicas.count() > 1) => {
                m.add(
                    "--ca-dir",
                    "is missing: all replicas of a cluster sign with one CA, so name a folder that all of them have, or one to \
                     copy it from (--ca-seed-dir); in Kubernetes, a Secret (--kubernetes-ca-secret)",
                );
                None
            }
            (dir, seed, None) => {
                Some(Place::Folder { dir: dir.unwrap_or_else(|| self.state_dir.join(CA_FOLDER)), seed })
            }
        };
        let listen_etcd = parsed::<SocketAddr>(m, "--listen-etcd", &self.listen_etcd, "ADDRESS:PORT");
        let listen_mesh = parsed::<SocketAddr>(m, "--listen-mesh", &self.listen_mesh, "ADDRESS:PORT");
        let listen_metrics = parsed::<SocketAddr>(m, "--listen-metrics", &self.listen_metrics, "ADDRESS:PORT");
        let advertise = self.advertise.check(m);
        let pod_cidrs = prefixes(m, "--pod-cidr", &self.pod_cidr);
        let service_cidrs = prefixes(m, "--service-cidr", &self.service_cidr);
        let node_cidrs = prefixes(m, "--node-cidr", &self.node_cidr);
        for (a, a_name, b, b_name) in [
            (&pod_cidrs, "--pod-cidr", &service_cidrs, "--service-cidr"),
            (&pod_cidrs, "--pod-cidr", &node_cidrs, "--node-cidr"),
            (&service_cidrs, "--service-cidr", &node_cidrs, "--node-cidr"),
        ] {
            if let Some((left, right)) = prefix::first_overlap(a, b) {
                m.add(a_name, format!("{left} overlaps {b_name} {right}"));
            }
        }
        let stale_after = duration(m, "--stale-after", &self.stale_after);
        let withdraw_after = duration(m, "--withdraw-after", &self.withdraw_after);
        if let (Some(stale), Some(withdraw)) = (stale_after, withdraw_after)
            && withdraw < stale
        {
            m.add("--withdraw-after", format!("{withdraw:?} is shorter than --stale-after {stale:?}"));
        }
        let disconnect_grace = duration(m, "--disconnect-grace", &self.disconnect_grace);
        let config = (|| {
            Some(Config {
                cluster: cluster?,
                cluster_id: cluster_id?,
                layout: layout?,
                ca: ca?,
                replicas: replicas?,
                state_dir: self.state_dir,
                source: source?,
                kubernetes,
                listen_etcd: listen_etcd?,
                listen_mesh: listen_mesh?,
                listen_metrics: listen_metrics?,
                admin_socket: self.admin_socket,
                advertise,
                pod_cidrs,
                service_cidrs,
                node_cidrs,
                encryption: encryption?,
                stale_after: stale_after?,
                withdraw_after: withdraw_after?,
                disconnect_grace: disconnect_grace?,
                store: store?,
                store_quota_bytes,
                telemetry: self.telemetry,
            })
        })();
        mistakes.finish()?;
        Ok(config.expect("a setting without a value has a mistake"))
    }
}

fn required<T: FromStr<Err: Display>>(mistakes: &mut Mistakes, flag: &str, text: &str) -> Option<T> {
    if text.is_empty() {
        mistakes.add(flag, "is missing");
        return None;
    }
    mistakes.check(flag, text.parse::<T>())
}

fn parsed<T: FromStr>(mistakes: &mut Mistakes, flag: &str, text: &str, want: &str) -> Option<T> {
    let value = text.parse().ok();
    if value.is_none() {
        mistakes.add(flag, format!("{text:?} is not {want}"));
    }
    value
}

fn list<T: FromStr + Ord>(mistakes: &mut Mistakes, flag: &str, texts: &[String], want: &str) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let values: Vec<T> = texts
        .iter()
        .filter(|text| !text.is_empty() && seen.insert(text.as_str()))
        .filter_map(|text| parsed(mistakes, flag, text, want))
        .collect();
    values
}

fn prefixes(mistakes: &mut Mistakes, flag: &str, texts: &[String]) -> Vec<IpNet> {
    let nets: Vec<IpNet> = list(mistakes, flag, texts, "a prefix such as 10.1.0.0/16");
    for net in nets.iter().filter(|n| n.trunc() != **n) {
        mistakes.add(flag, format!("{net} has host bits: did you mean {}?", net.trunc()));
    }
    nets
}

/// Seconds ("15s", "15"), milliseconds or minutes.
fn duration(mistakes: &mut Mistakes, flag: &str, text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("", 1000)];
    let value = units.iter().find_map(|(unit, millis)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*millis).map(Duration::from_millis)
    });
    let value = value.filter(|d| !d.is_zero());
    if value.is_none() {
        mistakes.add(flag, format!("{text:?} is not a duration: use for example 15s, 500ms or 2m"));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[&str]) -> Result<Config, String> {
        let args = Args::try_parse_from([&["mesh-apiserver"], flags].concat()).expect("known flags");
        args.check().map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_ports_table() {
        let config = check(&["--cluster-name", "east", "--cluster-id", "7"]).unwrap();
        assert_eq!(config.listen_etcd.port(), 2379);
        assert_eq!(config.listen_mesh.port(), 2382);
        assert_eq!(config.listen_metrics.port(), 9972);
        assert_eq!(config.encryption, Encryption::Wireguard);
        assert_eq!((config.stale_after.as_secs(), config.withdraw_after.as_secs()), (15, 45));
        assert_eq!(config.disconnect_grace, federation::DISCONNECT_GRACE);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = check(&[
            "--cluster-id",
            "300",
            "--replica",
            "1=10.0.0.1,2=10.0.0.2,3=10.0.0.3",
            "--encryption",
            "ipsec",
            "--pod-cidr",
            "10.1.2.3/16,nonsense",
            "--stale-after",
            "1m",
            "--withdraw-after",
            "30s",
            "--store",
            "external=x",
            "--source",
            "files",
            "--listen-etcd",
            "2379",
        ])
        .unwrap_err();
        for part in [
            "--cluster-name: is missing",
            "--cluster-id: 300 needs --max-connected-clusters 511",
            "--ca-dir: is missing: all replicas of a cluster sign with one CA",
            "--encryption: ipsec is not available in this version: use wireguard",
            "--pod-cidr: \"nonsense\" is not a prefix such as 10.1.0.0/16",
            "--pod-cidr: 10.1.2.3/16 has host bits: did you mean 10.1.0.0/16?",
            "--withdraw-after: 30s is shorter than --stale-after 60s",
            "--store: \"x\" is not an https:// URL",
            "--store-ca: is missing",
            "--source: \"files\" is unknown: use manifests or kubernetes",
            "--listen-etcd: \"2379\" is not ADDRESS:PORT",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }

    #[test]
    fn prefixes_of_different_kinds_may_not_overlap() {
        let text = check(&[
            "--cluster-name",
            "a",
            "--cluster-id",
            "1",
            "--pod-cidr",
            "10.0.0.0/8",
            "--service-cidr",
            "10.96.0.0/12",
        ]);
        assert!(text.unwrap_err().contains("--pod-cidr: 10.0.0.0/8 overlaps --service-cidr 10.96.0.0/12"));
    }
}
