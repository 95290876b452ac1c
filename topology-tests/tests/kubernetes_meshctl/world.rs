//! Two clusters and meshctl: what is installed with which values, and what must be true of it.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};
use topology_tests::binaries::Binaries;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::kubeconfig::merge;
use topology_tests::kubernetes::kubectl::Kubectl;
use topology_tests::kubernetes::release::Images;
use topology_tests::names::cgroup_mount;

use crate::meshctl::Meshctl;

pub(crate) const NAMESPACE: &str = "isthmus";
pub(crate) const CLUSTERS: [&str; 2] = ["cluster-a", "cluster-b"];

pub(crate) struct World<'a> {
    pub(crate) run: &'a Kubernetes,
    pub(crate) meshctl: Meshctl,
    pub(crate) folder: tempfile::TempDir,
    values: PathBuf,
    pub(crate) agent_image: String,
}

impl<'a> World<'a> {
    pub(crate) fn new(run: &'a Kubernetes, images: &Images) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("config");
        let files: Vec<PathBuf> = run.clusters.iter().map(|one| one.control_plane.kubeconfig.clone()).collect();
        merge(&files, &kubeconfig)?;
        let program = Binaries::beside_this_one()?.find("meshctl")?;
        let meshctl = Meshctl::new(&program, &run.tools.program("helm")?, folder.path(), &kubeconfig);
        // Where these nodes differ from most people's: no volumes, no WireGuard in the kernel, and the root of the unified
        // hierarchy is a node's own.
        let values = json!({
            "image": { "registry": images.registry, "tag": images.tag, "pullPolicy": "Never" },
            "apiserver": { "persistence": { "enabled": false } },
            "agent": { "podCgroups": ["."], "hostPaths": { "cgroup": cgroup_mount() } },
            "tunnel": { "enabled": true },
        });
        let file = folder.path().join("values.json");
        std::fs::write(&file, values.to_string())?;
        let agent_image = format!("{}/node-agent:{}", images.registry, images.tag);
        Ok(Self { run, meshctl, folder, values: file, agent_image })
    }

    pub(crate) fn kubectl(&self, cluster: &str) -> &Kubectl {
        &self.run.cluster(cluster).unwrap().control_plane.kubectl
    }

    /// As a newcomer: name and id, and where the images are. What Services' prefixes are it finds out.
    pub(crate) fn install(&self) {
        let values = self.values.to_str().unwrap();
        std::thread::scope(|scope| {
            for (i, cluster) in CLUSTERS.into_iter().enumerate() {
                let (meshctl, kubectl) = (&self.meshctl, self.kubectl(cluster));
                scope.spawn(move || install_one(meshctl, kubectl, cluster, i + 1, values));
            }
        });
    }

    pub(crate) fn connect(&self) {
        let said =
            self.meshctl.ok(&["connect", "--context", CLUSTERS[0], "--destination-context", CLUSTERS[1], "-o", "json"]);
        assert_eq!(said.json()["sides"].as_array().unwrap().len(), 2, "{said:#?}");
        // Repeating it changes nothing, and names may stand by themselves.
        assert_eq!(
            self.meshctl.ok(&["connect", CLUSTERS[0], CLUSTERS[1], "-o", "json"]).json()["already_connected"],
            true
        );
    }

    /// Status of all contexts at once, and a check with no fault in it.
    pub(crate) fn is_well(&self) {
        let status = self.meshctl.run(&["status", "--all-contexts", "-o", "json"]);
        let clusters = status.json()["clusters"].as_array().unwrap().len();
        assert_eq!(clusters, 2, "{status:#?}");
        let found = self.check(&CLUSTERS, &[]);
        let faults: Vec<&Value> = found.iter().filter(|finding| finding["severity"] == "fail").collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// All findings about some clusters.
    pub(crate) fn check(&self, clusters: &[&str], more: &[&str]) -> Vec<Value> {
        let mut args = vec!["check", "-o", "json"];
        for cluster in clusters {
            args.extend(["--context", cluster]);
        }
        args.extend(more);
        let said = self.meshctl.run(&args);
        assert!([0, 2].contains(&said.code), "{said:#?}");
        said.json().as_array().unwrap().clone()
    }

    pub(crate) fn uninstall(&self) {
        let refused = self.meshctl.run(&["uninstall", "--context", CLUSTERS[0]]);
        assert!(refused.code == 65 && refused.err.contains("it is joined to cluster-b"), "{refused:#?}");
        self.meshctl.ok(&["disconnect", CLUSTERS[0], CLUSTERS[1]]);
        for cluster in CLUSTERS {
            self.meshctl.ok(&["uninstall", "--context", cluster, "--delete-state"]);
            assert!(
                self.kubectl(cluster).run(&["get", "namespace", NAMESPACE]).is_err(),
                "{cluster}: it is still ending"
            );
            let left = self.kubectl(cluster).run(&[
                "get",
                "clusterroles,clusterrolebindings",
                "-l",
                "app.kubernetes.io/name=isthmus",
                "-o",
                "name",
            ]);
            assert_eq!(left.unwrap().trim(), "", "{cluster}");
        }
    }
}

fn install_one(meshctl: &Meshctl, kubectl: &Kubectl, cluster: &str, id: usize, values: &str) {
    let id = id.to_string();
    let args = ["install", "--context", cluster, "--cluster-name", cluster, "--cluster-id", &id, "-f", values];
    let dry = meshctl.ok(&[&args[..], &["--dry-run"]].concat());
    assert!(dry.err.contains("nothing was changed"), "{}", dry.err);
    assert!(kubectl.run(&["get", "namespace", NAMESPACE]).is_err(), "a dry run made it");
    let said = meshctl.ok(&args);
    for told in ["cluster.serviceCIDRs: 10.10", "mesh-apiserver 1/1 ready, agents 2/2 ready", "meshctl connect"] {
        assert!(said.err.contains(told), "{told}: {}", said.err);
    }
}
