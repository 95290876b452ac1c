//! Which programs there are, and of which Go module each is built. Versions stand in the modules' `go.mod` alone.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// One program.
#[derive(Debug)]
pub struct Program {
    pub name: &'static str,
    /// What it is part of; names its folder in the cache.
    pub product: &'static str,
    /// The Go module whose version is the product's.
    pub versioned_by: &'static str,
    pub(crate) source: Source,
    pub(crate) package: &'static str,
    /// Whether the project's own `main.go` is built: the folder in the cache then carries a checksum of it.
    pub(crate) is_own: bool,
}

/// The folder of a `go.mod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// etcd as the tests of the store have it.
    Etcd,
    Kubernetes,
    /// A folder of this package.
    Here(&'static str),
}

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    let (product, versioned_by) = ("kubernetes", "k8s.io/kubernetes");
    Program { name, product, versioned_by, source: Source::Kubernetes, package, is_own: false }
}

const fn etcd(name: &'static str, package: &'static str) -> Program {
    let (product, versioned_by) = ("etcd", "go.etcd.io/etcd/api/v3");
    Program { name, product, versioned_by, source: Source::Etcd, package, is_own: false }
}

/// In the order in which they are built: what the others ride on first.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "helm",
        product: "helm",
        versioned_by: "helm.sh/helm/v4",
        source: Source::Here("helm"),
        package: "helm.sh/helm/v4/cmd/helm",
        is_own: false,
    },
    kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    etcd("etcd", "go.etcd.io/etcd/server/v3"),
    etcd("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    Program {
        name: "coredns",
        product: "coredns",
        versioned_by: "github.com/coredns/coredns",
        source: Source::Here("coredns"),
        package: ".",
        is_own: true,
    },
    Program {
        name: "flanneld",
        product: "flannel",
        versioned_by: "github.com/flannel-io/flannel",
        source: Source::Here("flannel"),
        package: ".",
        is_own: true,
    },
];

impl Program {
    /// The version of its product: `v1.37.2`.
    ///
    /// # Errors
    /// Where its `go.mod` cannot be read or does not name the product.
    pub fn version(&self) -> Result<String> {
        etcd_peer::required(&self.source.folder(), self.versioned_by)
    }

    /// What the linker writes into it: without its version kube-apiserver refuses to start.
    pub(crate) fn linker_flags(&self) -> Result<String> {
        let version = self.version()?;
        Ok(match self.product {
            "kubernetes" => etcd_peer::linker_flags(&version)?,
            "helm" => format!("-s -w -X helm.sh/helm/v4/internal/version.version={version}"),
            _ => "-s -w".to_owned(),
        })
    }
}

impl Source {
    pub(crate) fn folder(self) -> PathBuf {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::Etcd => package.with_file_name("etcd-peer"),
            Self::Kubernetes => etcd_peer::kubernetes_module(),
            Self::Here(name) => package.join(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_version_and_a_name_of_its_own() {
        for (i, program) in PROGRAMS.iter().enumerate() {
            let version = program.version().unwrap();
            assert!(version.starts_with('v') && version.contains('.'), "{}: {version}", program.name);
            assert!(program.linker_flags().unwrap().starts_with("-s -w"));
            assert!(PROGRAMS[..i].iter().all(|other| other.name != program.name), "{} stands twice", program.name);
        }
    }
}
