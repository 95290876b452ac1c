//! Which images there are, and what is in each.

use anyhow::{Context, Result};

use super::build::Programs;
use super::graph::Graph;
use super::layer::Layer;
use super::notices;
use crate::repo::Repo;

/// The number of the user that needs no rights; the same as other projects' images without root.
const NOBODY: u32 = 65532;
pub(super) const DOCUMENTS: &str = "usr/share/doc/isthmus";

/// A program and the package that it comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) package: &'static str,
    pub(super) name: &'static str,
}

/// One image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// The first is what starts.
    pub(super) programs: &'static [Program],
    pub(super) user: u32,
    /// Ports that the first program listens on.
    pub(super) ports: &'static [&'static str],
}

const APISERVER: Program = Program { package: "mesh-apiserver", name: "mesh-apiserver" };
const AGENT: Program = Program { package: "node-agent", name: "node-agent" };
const TUNNEL: Program = Program { package: "node-agent", name: "mesh-tunnel" };
const MESHCTL: Program = Program { package: "meshctl", name: "meshctl" };

pub(super) const IMAGES: [Image; 3] = [
    Image {
        name: "mesh-apiserver",
        title: "Isthmus: control plane of one cluster",
        // meshctl beside it: who may `kubectl exec` there administrates by the Unix socket, without a certificate.
        programs: &[APISERVER, MESHCTL],
        user: NOBODY,
        ports: &["2379/tcp", "2380/tcp", "2382/tcp", "9972/tcp"],
    },
    Image {
        name: "node-agent",
        title: "Isthmus: datapath of one node",
        programs: &[AGENT, TUNNEL],
        // Its capabilities are root's, and its files are the node's.
        user: 0,
        ports: &["9974/tcp"],
    },
    Image { name: "meshctl", title: "Isthmus: the command line", programs: &[MESHCTL], user: NOBODY, ports: &[] },
];

impl Image {
    pub(super) fn packages(&self) -> impl Iterator<Item = &'static str> {
        let mut seen = Vec::new();
        self.programs.iter().map(|program| program.package).filter(move |package| {
            let is_new = !seen.contains(package);
            seen.push(package);
            is_new
        })
    }

    /// All files of the image.
    pub(super) fn layer(&self, repo: &Repo, programs: &Programs, graph: &Graph, sbom: &str) -> Result<Layer> {
        let mut layer = Layer::default();
        for program in self.programs {
            let built = programs.get(program.name)?;
            layer.file(&format!("usr/bin/{}", program.name), 0o755, built.bytes.clone());
            for (path, bytes) in &built.libraries {
                let path = path.to_str().context("a library's name is not text")?;
                layer.file(path.trim_start_matches('/'), 0o755, bytes.clone());
            }
        }
        // Names for the numbers, and where names of hosts are looked up: glibc asks these files.
        let passwd = format!("root:x:0:0:root:/:/sbin/nologin\nisthmus:x:{NOBODY}:{NOBODY}:isthmus:/:/sbin/nologin\n");
        layer.file("etc/passwd", 0o644, passwd.into_bytes());
        layer.file("etc/group", 0o644, format!("root:x:0:\nisthmus:x:{NOBODY}:\n").into_bytes());
        layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n".to_vec());
        // Places that are written to where nothing is mounted there.
        layer.folder("tmp", 0o1777, 0);
        layer.folder("run/isthmus", 0o755, self.user);
        layer.folder("var/lib/isthmus", 0o700, self.user);
        for name in ["LICENSE", "NOTICE"] {
            let text = std::fs::read(repo.root.join(name)).with_context(|| format!("cannot read {name}"))?;
            layer.file(&format!("{DOCUMENTS}/{name}"), 0o644, text);
        }
        layer.file(&format!("{DOCUMENTS}/sbom.cdx.json"), 0o644, sbom.as_bytes().to_vec());
        for (name, bytes) in notices::files(graph, self)? {
            layer.file(&format!("{DOCUMENTS}/{name}"), 0o644, bytes);
        }
        Ok(layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_own_program_is_root() {
        for image in &IMAGES {
            assert_eq!(image.user == 0, image.name == "node-agent", "{}", image.name);
        }
    }
}
