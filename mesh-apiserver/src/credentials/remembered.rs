//! What this replica trusted and signed with last, on disk: a replica that starts has to reach the others before it can
//! read the cluster's record, and the folder of the CA alone does not say how far the others are.

use std::path::Path;

use certs::{CaHash, TrustBundle};
use mesh_runtime::file;
use serde::{Deserialize, Serialize};

const FILE: &str = "trust.json";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) bundle: TrustBundle,
    pub(super) issuer: CaHash,
}

#[derive(Serialize, Deserialize)]
struct Text {
    bundle_pem: String,
    issuer: CaHash,
}

impl Remembered {
    /// `None` at the first start, and where the file cannot be used: then the folder of the CA says what there is.
    pub(super) fn load(state_dir: &Path) -> Option<Self> {
        let path = state_dir.join(FILE);
        let text = std::fs::read(&path).ok()?;
        let read = serde_json::from_slice::<Text>(&text).ok();
        let remembered = read.and_then(|Text { bundle_pem, issuer }| {
            Some(Self { bundle: TrustBundle::from_pem(&bundle_pem).ok()?, issuer })
        });
        if remembered.is_none() {
            tracing::warn!(path = %path.display(), "not a record of what was trusted: left out of account");
        }
        remembered
    }

    /// Writes nothing where that is there already.
    pub(super) fn save(&self, state_dir: &Path) -> Result<(), file::Error> {
        let text = Text { bundle_pem: self.bundle.pem(), issuer: self.issuer };
        let text = serde_json::to_vec(&text).expect("strings always encode");
        let path = state_dir.join(FILE);
        if std::fs::read(&path).is_ok_and(|known| known == text) {
            return Ok(());
        }
        file::write_atomic(&path, &text, 0o600)
    }
}
