//! The CA and the leaves of this replica: made at the first start, renewed while it runs, replaced when the cluster goes
//! over to another CA. Also what meshctl needs to call from elsewhere: `admin.crt`, `admin.key` and `ca.crt` in the state
//! folder.
//!
//! # Invariants
//! - A CA is trusted by this replica, and that is remembered on disk, before a leaf of it is presented here, and before the
//!   replica says so to anybody.

pub mod keep;
mod remembered;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certs::rotation::{Rotation, Wanted};
use certs::{
    Authorities, CaFolder, CaHash, Cas, Connections, Leaf, LiveBundle, LiveCa, LiveLeaf, RootCa, ServerNames,
    TrustBundle, Validity, bundle,
};
use mesh_runtime::{ErrorChain, Shutdown, file};
use tokio::sync::{Mutex, watch};

use self::keep::{Keep, Place};
use self::remembered::Remembered;
use crate::args::Config;
use crate::kubernetes::Client;

/// Leaves live for months and are renewed with a third of that left.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// In the state folder, unless another folder is named for it.
pub const CA_FOLDER: &str = "ca";

/// Why credentials cannot be made, kept or replaced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster's CA cannot be used")]
    Ca(#[from] certs::root_ca::Error),
    #[error(transparent)]
    Keep(Box<keep::Error>),
    #[error("the administrator's certificate cannot be stored")]
    Admin(#[from] certs::leaf::Error),
    #[error("what is trusted cannot be kept in the state folder")]
    File(#[from] file::Error),
    #[error("the CAs of the rotation's record cannot be used")]
    Bundle(#[from] bundle::Error),
    #[error("the CAs of this cluster cannot verify callers")]
    Authorities(#[from] certs::authorities::Error),
    #[error("the CAs of this cluster cannot verify servers")]
    Verifier(#[from] certs::client::Error),
}

/// Boxed: it is several times as large as the others.
impl From<keep::Error> for Error {
    fn from(error: keep::Error) -> Self {
        Self::Keep(Box::new(error))
    }
}

/// Shared by all that sign, serve and call in this process.
pub struct Credentials {
    pub ca: Arc<LiveCa>,
    pub keep: Keep,
    /// Shown to callers.
    pub server: Arc<LiveLeaf>,
    /// Shown to other clusters: `remote-<own>`.
    pub remote: Arc<LiveLeaf>,
    /// By which callers are verified.
    pub authorities: Arc<Authorities>,
    /// By which this replica verifies the others.
    pub trust: Arc<LiveBundle>,
    /// The same as PEM, for who tells others of it.
    told: watch::Sender<String>,
    names: ServerNames,
    state_dir: PathBuf,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Credentials {
    /// `kubernetes` is asked where the CA is kept there; waits until it answers.
    pub async fn prepare(config: &Config, kubernetes: Option<&Client>, shutdown: &Shutdown) -> Result<Self, Error> {
        let remembered = Remembered::load(&config.state_dir);
        let former = former(config, remembered.as_ref())?;
        let (keep, cas) = Keep::open(&config.ca, &config.cluster, former.as_ref(), kubernetes, shutdown).await?;
        let (ca, bundle) = start_with(cas, remembered)?;
        let names = config.advertise.server_names();
        let credentials = Self {
            server: LiveLeaf::new(ca.issue_server(&names, lasting())?),
            remote: LiveLeaf::new(ca.issue_remote(lasting())?),
            authorities: Authorities::new(config.cluster.clone(), bundle.clone())?,
            trust: LiveBundle::new(bundle.clone()).map_err(certs::client::Error::from)?,
            told: watch::channel(bundle.pem()).0,
            ca: LiveCa::new(ca),
            keep,
            names,
            state_dir: config.state_dir.clone(),
            changing: Mutex::new(()),
        };
        // A keep that gets a second CA must not make a restart trust more than the cluster's record says.
        credentials.trust_all(&bundle, credentials.ca.get().hash())?;
        credentials.keep_admin()?;
        Ok(credentials)
    }

    /// The CAs that are trusted for this cluster, PEM, as they change.
    pub fn told(&self) -> watch::Receiver<String> {
        self.told.subscribe()
    }

    /// Keeps the leaves fresh until stopped. A failure is tried again: what is in use still counts.
    pub async fn renew(self: Arc<Self>, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while shutdown.unless_requested(ticks.tick()).await.is_some() {
            let now = jiff::Timestamp::now();
            let due = |leaf: &LiveLeaf| leaf.get().is_renewal_due(now);
            let renewed = self.reissue(due(&self.server), due(&self.remote)).and_then(|()| self.keep_admin());
            if let Err(error) = renewed {
                tracing::error!(error = %ErrorChain(&error), "certificates cannot be renewed");
            }
        }
    }

    /// Makes fresh leaves of these names, of those that are this replica's.
    pub fn renew_now(&self, is_wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        let name = |leaf: &LiveLeaf| is_wanted(leaf.get().common_name());
        self.reissue(name(&self.server), name(&self.remote))?;
        if is_wanted(&self.admin_name()) { self.make_admin() } else { Ok(()) }
    }

    fn reissue(&self, server: bool, remote: bool) -> Result<(), Error> {
        let ca = self.ca.get();
        if server {
            self.server.replace(ca.issue_server(&self.names, lasting())?);
        }
        if remote {
            self.remote.replace(ca.issue_remote(lasting())?);
        }
        Ok(())
    }

    /// Does what the record of the cluster's rotation says; without one the CA in use is the only one. Returns whether
    /// leaves are of another CA than before. Repeating it changes nothing, and after a failure goes on where it was.
    pub async fn follow(&self, record: Option<&Rotation>, connections: &Connections) -> Result<bool, Error> {
        let _changing = self.changing.lock().await;
        let (wanted, bundle) = if let Some(record) = record {
            (record.wanted(), record.bundle()?)
        } else {
            let current = self.keep.read().await?.current;
            (Wanted { trusts: [current.hash()].into(), issuer: current.hash() }, current.bundle())
        };
        let known = self.authorities.own_bundle();
        // Everything that was trusted stays so until this replica's own leaves are those that all others trust.
        self.trust_all(&known.merge(&bundle)?, self.ca.get().hash())?;
        let is_other_issuer = self.ca.get().hash() != wanted.issuer;
        if is_other_issuer {
            self.ca.replace(self.keep.find(self.keep.read().await?, wanted.issuer)?);
            self.reissue(true, true)?;
        }
        self.trust_all(&bundle, wanted.issuer)?;
        self.keep_admin()?;
        let cut = connections.cut_untrusted(&self.authorities);
        if cut > 0 {
            tracing::info!(connections = cut, "cut: they were made by leaves of a CA that is trusted no more");
        }
        if let Some(record) = record.filter(|record| record.wanted().trusts.len() == 1) {
            if wanted.issuer == record.new {
                self.keep.promote(&record.new).await?;
            } else {
                self.keep.discard_next(&record.new).await?;
            }
        }
        Ok(is_other_issuer)
    }

    fn trust_all(&self, bundle: &TrustBundle, issuer: CaHash) -> Result<(), Error> {
        Remembered { bundle: bundle.clone(), issuer }.save(&self.state_dir)?;
        self.authorities.set_own(bundle.clone())?;
        self.trust.replace(bundle.clone()).map_err(certs::client::Error::from)?;
        let pem = bundle.pem();
        self.told.send_if_modified(|known| {
            let is_news = *known != pem;
            *known = pem;
            is_news
        });
        Ok(())
    }

    /// The administrator's leaf as it is in the state folder; `None` while it cannot be used.
    pub fn admin(&self) -> Option<Leaf> {
        let [_, certificate, key] = self.admin_files();
        Leaf::load(&certificate, &key).ok()
    }

    fn admin_name(&self) -> String {
        format!("admin-{}", self.authorities.own_name())
    }

    fn admin_files(&self) -> [PathBuf; 3] {
        ["ca.crt", "admin.crt", "admin.key"].map(|name| self.state_dir.join(name))
    }

    /// Leaves files alone that are still good, so that copies of them stay equal.
    fn keep_admin(&self) -> Result<(), Error> {
        let is_good = self.admin().is_some_and(|leaf| {
            let signed_by = self.trust.get().issuer_of(&leaf);
            signed_by == Some(self.ca.get().hash()) && !leaf.is_renewal_due(jiff::Timestamp::now())
        });
        if !is_good {
            self.make_admin()?;
        }
        let [ca, ..] = self.admin_files();
        let trusted = self.trust.get().pem();
        if !std::fs::read_to_string(&ca).is_ok_and(|text| text == trusted) {
            file::write_atomic(&ca, trusted.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    fn make_admin(&self) -> Result<(), Error> {
        let [_, certificate, key] = self.admin_files();
        self.ca.get().issue_admin(lasting())?.save(&certificate, &key)?;
        tracing::info!(certificate = %certificate.display(), "wrote the administrator's certificate");
        Ok(())
    }
}

fn lasting() -> Validity {
    Validity::lasting(Validity::LEAF)
}

/// What a Secret that is still empty begins with: the CAs in the state folder of a replica that has signed with one of them,
/// so that a cluster whose CA was in a folder stays the same. One that this replica signs with no more is nobody's any more.
fn former(config: &Config, remembered: Option<&Remembered>) -> Result<Option<Cas>, keep::Error> {
    let (Place::Secret(_), Some(remembered)) = (&config.ca, remembered) else { return Ok(None) };
    let dir = config.state_dir.join(CA_FOLDER);
    if !dir.is_dir() {
        return Ok(None);
    }
    let (_folder, cas) = CaFolder::open(&dir, &config.cluster)?;
    let is_in_use = cas.hashes().any(|hash| hash == remembered.issuer);
    Ok(is_in_use.then_some(cas))
}

/// The CA that signs and those that are trusted until the record can be read, for which others must be reached: what this
/// replica held last. One that never held anything takes what is kept.
fn start_with(cas: Cas, remembered: Option<Remembered>) -> Result<(RootCa, TrustBundle), Error> {
    if let Some(Remembered { bundle, issuer }) = remembered {
        if cas.hashes().any(|hash| hash == issuer) && bundle.contains(&issuer) {
            let ca = cas.of(&issuer).expect("its hash is among theirs");
            return Ok((ca, bundle));
        }
        tracing::warn!(ca = %issuer, "the CA that this replica last signed with is not kept any more: the one that is kept is used");
    }
    let bundle = match &cas.next {
        Some(next) => cas.current.bundle().merge(&next.bundle())?,
        None => cas.current.bundle(),
    };
    Ok((cas.current, bundle))
}

#[cfg(test)]
mod tests;
