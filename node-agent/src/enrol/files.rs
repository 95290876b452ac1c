//! The files of an agent's credentials. A new pair of key and certificate replaces the old one so that a process that is
//! killed at any moment finds one that belongs together.

use std::io;
use std::path::{Path, PathBuf};

use certs::{Leaf, TrustBundle, leaf};
use mesh_runtime::file;

#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) key: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) bundle: PathBuf,
    /// The key of a certificate that is being replaced.
    next_key: PathBuf,
}

impl Files {
    pub(super) fn under(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self {
            key: file("agent.key"),
            certificate: file("agent.crt"),
            bundle: file("ca.crt"),
            next_key: file("agent.key.next"),
        }
    }

    /// Finishes a replacement that was cut short between its certificate and its key.
    pub(super) fn load_leaf(&self) -> Result<Leaf, super::Error> {
        match Leaf::load(&self.certificate, &self.key) {
            Err(leaf::Error::OtherKey { .. }) if self.next_key.exists() => {
                let leaf = Leaf::load(&self.certificate, &self.next_key)?;
                self.move_key()?;
                Ok(leaf)
            }
            loaded => Ok(loaded?),
        }
    }

    /// Trust comes first: a leaf is of no use to an agent that does not trust the servers which take it.
    pub(super) fn replace(&self, bundle: &TrustBundle, leaf: &Leaf) -> Result<(), super::Error> {
        file::write_atomic(&self.bundle, bundle.pem().as_bytes(), 0o644)?;
        leaf.save(&self.certificate, &self.next_key)?;
        self.move_key()
    }

    fn move_key(&self) -> Result<(), super::Error> {
        let moved = std::fs::rename(&self.next_key, &self.key);
        moved.map_err(|source: io::Error| super::Error::Key { path: self.key.clone(), source })?;
        Ok(file::sync_dir(file::parent(&self.key))?)
    }
}

#[cfg(test)]
mod tests {
    use certs::{PendingLeaf, RootCa, Validity};
    use mesh_types::{ClusterName, NodeName};

    use super::*;

    fn leaf(ca: &RootCa) -> Leaf {
        let pending = PendingLeaf::generate("n1").unwrap();
        let validity = Validity::lasting(Validity::LEAF);
        let certificate = ca.sign_agent(pending.csr_pem(), &NodeName("n1".into()), validity).unwrap();
        pending.complete(&certificate).unwrap()
    }

    #[test]
    fn an_agent_that_is_killed_while_it_replaces_its_leaf_has_one_that_belongs_together() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::under(folder.path());
        let ca = RootCa::generate(&ClusterName::new("a").unwrap()).unwrap();
        let [first, second, third] = [(); 3].map(|()| leaf(&ca));
        files.replace(&ca.bundle(), &first).unwrap();
        let loaded = || files.load_leaf().unwrap().certificate_pem();
        assert_eq!(loaded(), first.certificate_pem());

        // Killed after the new key was written, and after the new certificate was.
        second.key().save(&files.next_key).unwrap();
        assert_eq!(loaded(), first.certificate_pem());
        second.save(&files.certificate, &files.next_key).unwrap();
        assert_eq!(loaded(), second.certificate_pem());
        assert!(!files.next_key.exists());
        assert_eq!(loaded(), second.certificate_pem());

        files.replace(&ca.bundle(), &third).unwrap();
        assert_eq!(loaded(), third.certificate_pem());
    }
}
