//! The store that was chosen: opened, shared as the trait, and closed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use mesh_runtime::Shutdown;
use mesh_store::external::{External, Options as ExternalOptions, Tls};
use mesh_store::mvcc::Quota;
use mesh_store::{Embedded, Metrics, Options, Store};

use super::group::Group;
use super::servers::Servers;

use crate::args::{Config, ExternalStore, StoreChoice};

pub(super) enum Backend {
    Alone(Arc<Embedded>),
    Group(Group),
    External {
        store: Arc<External>,
        /// Of the state folder; the embedded store has its own.
        _lock: File,
    },
}

impl Backend {
    pub(super) async fn open(
        config: &Config,
        servers: &Servers,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        match &config.store {
            StoreChoice::Embedded if !config.replicas.hosts.is_empty() => {
                Ok(Self::Group(Group::start(config, servers, metrics, shutdown).await?))
            }
            StoreChoice::Embedded => {
                let quota = Quota { bytes: config.store_quota_bytes };
                let options = Options { quota, ..Options::new(config.state_dir.join("store")) };
                let store = Embedded::open(options, metrics).await.context("cannot open the store")?;
                Ok(Self::Alone(store))
            }
            StoreChoice::External(external) => {
                let lock = lock(&config.state_dir)?;
                let store = External::open(options(external)?).await.context("cannot use the external store")?;
                Ok(Self::External { store, _lock: lock })
            }
        }
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Alone(store) => Arc::<Embedded>::clone(store),
            Self::Group(group) => Arc::<Embedded>::clone(&group.store),
            Self::External { store, .. } => Arc::<External>::clone(store),
        }
    }

    /// The replica in this process, if there is one.
    pub(super) fn embedded(&self) -> Option<Arc<Embedded>> {
        match self {
            Self::Alone(store) => Some(Arc::clone(store)),
            Self::Group(group) => Some(Arc::clone(&group.store)),
            Self::External { .. } => None,
        }
    }

    /// What lets go of the connections to the other replicas.
    pub(super) fn reconnect(&self) -> Box<dyn Fn() + Send + Sync> {
        match self {
            Self::Group(group) => {
                let transport = Arc::clone(&group.transport);
                Box::new(move || transport.reconnect())
            }
            // An external store has certificates of its own.
            Self::Alone(_) | Self::External { .. } => Box::new(|| {}),
        }
    }

    pub(super) async fn shutdown(&self) {
        match self {
            Self::Alone(store) => store.shutdown().await,
            Self::Group(group) => group.stop().await,
            Self::External { store, .. } => store.shutdown(),
        }
    }
}

fn options(external: &ExternalStore) -> anyhow::Result<ExternalOptions> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut options = ExternalOptions::new(external.endpoints.clone());
    if let Some(files) = &external.tls {
        let identity = files.identity.as_ref();
        let identity = identity.map(|(certificate, key)| anyhow::Ok((read(certificate)?, read(key)?))).transpose()?;
        options.tls = Some(Tls { ca: read(&files.ca)?, identity });
    }
    Ok(options)
}

/// One process at a time has a state folder, also when the state itself is elsewhere.
fn lock(state_dir: &Path) -> anyhow::Result<File> {
    let path = state_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("another process is using {}: stop it, or use another --state-dir", state_dir.display());
    }
    Ok(file)
}
