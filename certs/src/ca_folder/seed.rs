//! A CA folder that begins with a copy: replicas without a shared folder are given one CA by a mount that they only read.

use std::fs;
use std::io;
use std::path::Path;

use mesh_runtime::file;
use mesh_types::ClusterName;
use zeroize::Zeroizing;

use super::{CaFolder, Error};
use crate::root_ca::{self, CERTIFICATE_FILE, CERTIFICATE_MODE, KEY_FILE, RootCa};
use crate::secret::SecretKey;

impl CaFolder {
    /// Puts a copy of the CA in `seed` into `dir`, unless there is a CA in `dir` already: what has been rotated since stays.
    /// The key in `seed` may be open to a group, as it is in a mounted Secret; the copy is its owner's alone.
    pub fn seed(dir: &Path, seed: &Path, cluster: &ClusterName) -> Result<(), Error> {
        match RootCa::load(dir, cluster) {
            Err(root_ca::Error::Missing { .. }) => {}
            // Whoever opens the folder says what is wrong with it.
            _ => return Ok(()),
        }
        let unwritable = |source| Error::Unwritable { dir: dir.to_owned(), source };
        let parent = file::parent(dir);
        fs::create_dir_all(parent).map_err(unwritable)?;
        let copy = parent.join(format!(".{}.seed", dir.file_name().unwrap_or_default().display()));
        remove(&copy).map_err(unwritable)?;
        fs::create_dir(&copy).map_err(unwritable)?;
        let (certificate, key) = (seed.join(CERTIFICATE_FILE), seed.join(KEY_FILE));
        let read = |path: &Path| fs::read(path).map_err(|source| Error::Seed { path: path.to_owned(), source });
        let pem = Zeroizing::new(read(&key)?);
        let key = SecretKey::from_pem(&pem, &key.display().to_string()).map_err(root_ca::Error::from)?;
        key.save(&copy.join(KEY_FILE)).map_err(root_ca::Error::from)?;
        file::write_atomic(&copy.join(CERTIFICATE_FILE), &read(&certificate)?, CERTIFICATE_MODE)?;
        // Checked as any other before it counts.
        RootCa::load(&copy, cluster)?.save_new(dir)?;
        remove(&copy).map_err(unwritable)?;
        tracing::info!(dir = %dir.display(), seed = %seed.display(), "began with a copy of the CA");
        Ok(())
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::cluster as name;

    #[test]
    fn replicas_that_are_given_one_seed_have_one_ca() {
        let at = tempfile::tempdir().unwrap();
        let seed = at.path().join("seed");
        let (_, cas) = CaFolder::open(&seed, &name("a")).unwrap();
        // As a mounted Secret is.
        fs::set_permissions(seed.join(KEY_FILE), fs::Permissions::from_mode(0o440)).unwrap();
        for replica in ["1/ca", "2/ca"] {
            let dir = at.path().join(replica);
            CaFolder::seed(&dir, &seed, &name("a")).unwrap();
            let (_, copy) = CaFolder::open(&dir, &name("a")).unwrap();
            assert_eq!(copy.current.hash(), cas.current.hash());
            assert_eq!(fs::metadata(dir.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        }
    }

    #[test]
    fn a_folder_that_has_a_ca_keeps_it() {
        let at = tempfile::tempdir().unwrap();
        let [seed, dir] = ["seed", "ca"].map(|name| at.path().join(name));
        let (_, other) = CaFolder::open(&seed, &name("a")).unwrap();
        let (_, own) = CaFolder::open(&dir, &name("a")).unwrap();
        CaFolder::seed(&dir, &seed, &name("a")).unwrap();
        let (_, now) = CaFolder::open(&dir, &name("a")).unwrap();
        assert_eq!(now.current.hash(), own.current.hash());
        assert_ne!(now.current.hash(), other.current.hash());
    }

    #[test]
    fn a_seed_that_is_missing_or_of_another_cluster_is_named_and_makes_nothing() {
        let at = tempfile::tempdir().unwrap();
        let [seed, dir] = ["seed", "ca"].map(|name| at.path().join(name));
        let text = CaFolder::seed(&dir, &seed, &name("a")).unwrap_err().to_string();
        assert!(text.contains("seed/ca.key"), "{text}");
        CaFolder::open(&seed, &name("b")).unwrap();
        CaFolder::seed(&dir, &seed, &name("a")).unwrap_err();
        assert!(!dir.exists());
    }
}
