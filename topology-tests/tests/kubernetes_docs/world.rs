//! What a reader has before the first command: contexts of two clusters in a kubeconfig, this build's programs in the path, the
//! chart in the folder, images where the nodes find them, volumes, and a `values.yaml` of what is special about the nodes.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use topology_tests::binaries::Binaries;
use topology_tests::docs::pages;
use topology_tests::kubernetes::kubeconfig::merge;
use topology_tests::kubernetes::release::{Images, volumes};
use topology_tests::kubernetes::{Kubernetes, images, mcs_api};
use topology_tests::names::cgroup_mount;

use crate::terminal::Terminal;

/// What the pages' examples are made of. A registry would give it to the nodes.
const BUSYBOX: &str = "docker.io/library/busybox:1.37";
/// The README installs both clusters, and so does the guide.
const INSTALLS: usize = 2;

pub(crate) struct World {
    pub(crate) terminal: Terminal,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(run: &Kubernetes, mesh: &Images) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        mesh.load(run)?;
        let busybox = root.join(".busybox.tar");
        images::write_busybox(BUSYBOX, &busybox)?;
        for cluster in &run.clusters {
            volumes::offer(cluster, INSTALLS)?;
            for node in &cluster.nodes {
                node.load_image(&busybox)?;
            }
        }
        lay_out(root, run)?;
        let kubeconfig = root.join(".kubeconfig");
        let files: Vec<_> = run.clusters.iter().map(|one| one.control_plane.kubeconfig.clone()).collect();
        merge(&files, &kubeconfig)?;
        // Where these nodes differ from most people's: no WireGuard in the kernel, and the root of the unified hierarchy is a
        // node's own. No registry gives the images.
        let values = json!({
            "image": { "registry": mesh.registry, "tag": mesh.tag, "pullPolicy": "Never" },
            "agent": { "podCgroups": ["."], "hostPaths": { "cgroup": cgroup_mount() } },
            "tunnel": { "enabled": true },
        });
        std::fs::write(root.join("values.yaml"), format!("{values:#}\n")).context("write values.yaml")?;
        let text = |path: &Path| path.display().to_string();
        let terminal = Terminal::new(
            root,
            &[
                ("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", text(&root.join(".bin")))),
                ("HOME", text(root)),
                ("KUBECONFIG", text(&kubeconfig)),
                ("REGISTRY", mesh.registry.clone()),
                ("TAG", mesh.tag.clone()),
            ],
        )?;
        Ok(Self { terminal, _folder: folder })
    }

    /// For whoever looks for the reason of a fault.
    pub(crate) fn dump(&self, logs: &Path) {
        let file = logs.join("sysdump.tar.gz");
        let command =
            format!("meshctl sysdump --all-contexts --file '{}'; kubectl get pods -A -o wide", file.display());
        match self.terminal.run(&command) {
            Ok(came) => println!("{}", came.output),
            Err(error) => println!("no dump: {error:#}"),
        }
    }
}

/// Programs in `.bin`, and what the pages find beside them.
fn lay_out(root: &Path, run: &Kubernetes) -> Result<()> {
    let programs = root.join(".bin");
    std::fs::create_dir(&programs).context("make a folder for programs")?;
    let meshctl = Binaries::beside_this_one()?.find("meshctl")?;
    let links = [
        (meshctl, programs.join("meshctl")),
        (run.tools.program("kubectl")?, programs.join("kubectl")),
        (run.tools.program("helm")?, programs.join("helm")),
        (pages::root().join("helm"), root.join("helm")),
        (mcs_api::folder()?, root.join("mcs-api")),
    ];
    for (from, to) in links {
        symlink(&from, &to).with_context(|| format!("link {} to {}", to.display(), from.display()))?;
    }
    Ok(())
}
