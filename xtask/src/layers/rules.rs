//! The rules: who may depend on whom, which crate has which home, and which files may name it.

/// Stands for "any library of the workspace".
pub(super) const ANY: &str = "*";

/// What a package of the workspace may depend on.
#[derive(Debug)]
pub(super) struct PackageRule {
    pub(super) name: &'static str,
    /// Nothing may depend on it.
    pub(super) is_binary: bool,
    /// Packages of the workspace. Tests may use any library.
    pub(super) may_use: &'static [&'static str],
    /// Where set: the only dependencies at all.
    pub(super) only_crates: Option<&'static [&'static str]>,
}

const fn library(name: &'static str, may_use: &'static [&'static str]) -> PackageRule {
    PackageRule { name, is_binary: false, may_use, only_crates: None }
}

const fn binary(name: &'static str, may_use: &'static [&'static str]) -> PackageRule {
    PackageRule { name, is_binary: true, may_use, only_crates: None }
}

pub(super) const PACKAGES: &[PackageRule] = &[
    library("mesh-types", &[]),
    library("mesh-runtime", &[]),
    library("mesh-proto", &["mesh-types"]),
    library("mesh-store-mvcc", &["mesh-types"]),
    library("mesh-store", &["mesh-store-mvcc", "mesh-types", "mesh-proto", "mesh-runtime"]),
    // For tests of the store: its checks judge real processes, too.
    library("mesh-store-sim", &["mesh-store"]),
    // Also for the contract: what a remote cluster writes is as hostile as what a client asks of the store.
    binary("mesh-store-fuzz", &["federation", "mesh-store", "mesh-store-mvcc", "mesh-types"]),
    library("certs", &["mesh-types", "mesh-runtime"]),
    library("federation", &["mesh-types", "mesh-proto", "mesh-runtime", "mesh-store", "certs"]),
    library("agent-ebpf-common", &[]),
    library("agent-ebpf", &["agent-ebpf-common"]),
    binary("mesh-apiserver", &["mesh-types", "mesh-proto", "mesh-runtime", "mesh-store", "certs", "federation"]),
    binary("node-agent", &["mesh-types", "mesh-proto", "mesh-runtime", "certs", "agent-ebpf", "agent-ebpf-common"]),
    // Of the store only the file of a snapshot, to check and restore it without a server.
    binary("meshctl", &["mesh-types", "mesh-proto", "mesh-runtime", "mesh-store", "certs"]),
    library("etcd-peer", &[]),
    library("k8s-tools", &["etcd-peer"]),
    binary("topology-tests", &[ANY]),
    // It must build before protoc and the BPF toolchain are there.
    PackageRule {
        name: "xtask",
        is_binary: true,
        may_use: &[],
        only_crates: Some(&["anyhow", "clap", "serde", "serde_json", "sha2", "tar"]),
    },
];

/// Packages that must not reach these crates, not even through others.
pub(super) const NEVER_REACHES: &[(&str, &[&str])] = &[
    ("mesh-types", &["tokio", "kube", "tonic", "aya"]),
    ("mesh-store-mvcc", &["tokio", "kube", "tonic", "aya"]),
    ("mesh-runtime", &["kube", "tonic", "aya"]),
];

/// A crate with few homes.
#[derive(Debug)]
pub(super) struct CrateRule {
    /// Name of the crate, or with `*` at its end the start of several names.
    pub(super) name: &'static str,
    /// Packages that may depend on it.
    pub(super) packages: &'static [&'static str],
    /// Files and folders that may name it.
    pub(super) paths: &'static [&'static str],
}

/// Paths that may name any crate: tests of the whole.
pub(super) const EXEMPT_PATHS: &[&str] = &["topology-tests/"];

const KERNEL_PATHS: &[&str] = &[
    "node-agent/src/netlink.rs",
    "node-agent/src/netlink/",
    "node-agent/src/tunnel.rs",
    "node-agent/src/tunnel/",
    "node-agent/tests/",
];

/// Where objects come from, and what else is asked of Kubernetes: who somebody is, what they may do, where the CA is kept,
/// what the mesh's own objects say.
const KUBERNETES_PATHS: &[&str] = &[
    "mesh-apiserver/src/kubernetes.rs",
    "mesh-apiserver/src/kubernetes/",
    "mesh-apiserver/src/source/kubernetes.rs",
    "mesh-apiserver/src/source/kubernetes/",
    "meshctl/src/kubernetes/",
    // What these verbs do is done to objects of Kubernetes.
    "meshctl/src/verb/check/",
    "meshctl/src/verb/connectivity/",
    "meshctl/src/verb/release/",
    "meshctl/src/verb/sysdump/",
];

pub(super) const CRATES: &[CrateRule] = &[
    CrateRule {
        name: "openraft",
        packages: &["mesh-store"],
        paths: &["mesh-store/src/raft.rs", "mesh-store/src/raft/"],
    },
    CrateRule { name: "kube", packages: &["mesh-apiserver", "meshctl"], paths: KUBERNETES_PATHS },
    CrateRule { name: "schemars", packages: &["mesh-apiserver"], paths: KUBERNETES_PATHS },
    CrateRule { name: "k8s_openapi", packages: &["mesh-apiserver", "meshctl"], paths: KUBERNETES_PATHS },
    CrateRule {
        name: "aya",
        packages: &["agent-ebpf", "agent-ebpf-common", "node-agent"],
        paths: &[
            "agent-ebpf/",
            "agent-ebpf-common/",
            "node-agent/src/bpf.rs",
            "node-agent/src/bpf/",
            "node-agent/tests/",
        ],
    },
    CrateRule { name: "rtnetlink", packages: &["node-agent"], paths: KERNEL_PATHS },
    CrateRule { name: "netlink_*", packages: &["node-agent"], paths: KERNEL_PATHS },
    CrateRule {
        name: "gotatun",
        packages: &["node-agent"],
        paths: &["node-agent/src/tunnel.rs", "node-agent/src/tunnel/", "node-agent/src/bin/"],
    },
    // LGPL: behind one module, so that it can be replaced by a changed version.
    CrateRule { name: "wireguard_control", packages: &["node-agent"], paths: &["node-agent/src/tunnel/"] },
];

/// Crates that only one file may name.
pub(super) const ONE_FILE: &[&str] = &["wireguard_control"];

/// The rule for a crate, by its package name or its name in source.
pub(super) fn crate_rule(name: &str) -> Option<&'static CrateRule> {
    let name = name.replace('-', "_");
    CRATES.iter().find(|rule| match rule.name.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => rule.name == name,
    })
}

pub(super) fn crate_holders(name: &str) -> Option<&'static [&'static str]> {
    crate_rule(name).map(|rule| rule.packages)
}
