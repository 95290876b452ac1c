//! The CA and the leaves of this server: made at the first start, renewed while it runs. Also what meshctl needs to call
//! from elsewhere: `admin.crt`, `admin.key` and `ca.crt` in the state folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::{Leaf, LiveLeaf, RootCa, ServerNames, Validity};
use mesh_runtime::{ErrorChain, Shutdown, file};

use crate::args::Config;

/// Leaves live for months and are renewed with a third of that left.
const LOOK_EVERY: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the cluster's CA cannot be used")]
    Ca(#[from] certs::root_ca::Error),
    #[error("the administrator's certificate cannot be stored")]
    Admin(#[from] certs::leaf::Error),
    #[error("the CA's certificate cannot be stored for meshctl")]
    File(#[from] file::Error),
}

pub(super) struct Credentials {
    pub(super) ca: Arc<RootCa>,
    /// Shown to callers.
    pub(super) server: Arc<LiveLeaf>,
    /// Shown to other clusters: `remote-<own>`.
    pub(super) remote: Arc<LiveLeaf>,
    names: ServerNames,
    state_dir: PathBuf,
}

impl Credentials {
    pub(super) fn prepare(config: &Config) -> Result<Self, Error> {
        let ca = Arc::new(RootCa::load_or_create(&config.ca_dir, &config.cluster)?);
        let names = ServerNames { dns: Vec::new(), ips: config.advertise.clone() };
        let validity = || Validity::lasting(Validity::LEAF);
        let server = LiveLeaf::new(ca.issue_server(&names, validity())?);
        let remote = LiveLeaf::new(ca.issue_remote(validity())?);
        let credentials = Self { ca, server, remote, names, state_dir: config.state_dir.clone() };
        credentials.keep_admin()?;
        Ok(credentials)
    }

    /// Keeps the leaves fresh until stopped. A failure is tried again: what is in use still counts.
    pub(super) async fn renew(self: Arc<Self>, shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while shutdown.unless_requested(ticks.tick()).await.is_some() {
            if let Err(error) = self.renew_due() {
                tracing::error!(error = %ErrorChain(&error), "certificates cannot be renewed");
            }
        }
    }

    fn renew_due(&self) -> Result<(), Error> {
        let now = jiff::Timestamp::now();
        let validity = || Validity::lasting(Validity::LEAF);
        if self.server.get().is_renewal_due(now) {
            self.server.replace(self.ca.issue_server(&self.names, validity())?);
        }
        if self.remote.get().is_renewal_due(now) {
            self.remote.replace(self.ca.issue_remote(validity())?);
        }
        self.keep_admin()
    }

    /// Leaves files alone that are still good, so that copies of them stay equal.
    fn keep_admin(&self) -> Result<(), Error> {
        let path = |name: &str| self.state_dir.join(name);
        let (ca, certificate, key) = (path("ca.crt"), path("admin.crt"), path("admin.key"));
        let is_same_ca = std::fs::read_to_string(&ca).is_ok_and(|text| text == self.ca.certificate_pem());
        if is_same_ca && is_good(&certificate, &key) {
            return Ok(());
        }
        self.ca.issue_admin(Validity::lasting(Validity::LEAF))?.save(&certificate, &key)?;
        file::write_atomic(&ca, self.ca.certificate_pem().as_bytes(), 0o600)?;
        tracing::info!(certificate = %certificate.display(), "wrote the administrator's certificate");
        Ok(())
    }
}

fn is_good(certificate: &Path, key: &Path) -> bool {
    Leaf::load(certificate, key).is_ok_and(|leaf| !leaf.is_renewal_due(jiff::Timestamp::now()))
}
