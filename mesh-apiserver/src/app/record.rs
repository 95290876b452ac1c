//! The own cluster's record at the start: written at the first one, compared at every other.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use federation::{Declaration, peer};
use mesh_runtime::Backoff;
use mesh_store::Store;
use mesh_store::backend::Class;

use crate::admin_api::VERSION;
use crate::args::Config;
use crate::credentials::Credentials;

/// How long replicas that start together may take to find a leader, or a lone one to be joined by a second.
const LEADER: Duration = Duration::from_mins(1);

/// What this cluster declares from now on. Refuses settings that would make it another cluster.
pub(super) async fn prepare(
    store: &dyn Store,
    config: &Config,
    credentials: &Credentials,
    etcd_port: u16,
    mesh_port: u16,
) -> anyhow::Result<Declaration> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let asked = Instant::now();
    loop {
        match attempt(store, config, credentials, etcd_port, mesh_port).await {
            Err(error) if is_of(Class::Retryable, &error) && asked.elapsed() < LEADER => {
                tracing::info!(error = format!("{error:#}"), "waiting for the store");
                backoff.wait().await;
            }
            done => return done,
        }
    }
}

fn is_of(class: Class, error: &anyhow::Error) -> bool {
    let store = error.chain().find_map(|cause| cause.downcast_ref::<mesh_store::backend::Error>());
    store.is_some_and(|error| error.class() == class)
}

async fn attempt(
    store: &dyn Store,
    config: &Config,
    credentials: &Credentials,
    etcd_port: u16,
    mesh_port: u16,
) -> anyhow::Result<Declaration> {
    let stored = peer::own(store).await.context("cannot read this cluster's record")?;
    if let Some(stored) = &stored {
        compare(stored, config, credentials)?;
    }
    let or_stored = |given: &[ipnet::IpNet], known: fn(&Declaration) -> &Vec<ipnet::IpNet>| match &stored {
        Some(stored) if given.is_empty() => known(stored).clone(),
        _ => given.to_vec(),
    };
    let own = Declaration {
        name: config.cluster.clone(),
        id: config.cluster_id,
        uuid: credentials.ca.get().uuid(),
        // Whoever exports declares the CAs as they change; what this replica held last may be older.
        trust_bundle_pem: match &stored {
            Some(stored) => stored.trust_bundle_pem.clone(),
            None => credentials.trust.get().pem(),
        },
        etcd_endpoints: config.advertise.etcd_endpoints(etcd_port),
        mesh_endpoints: config.advertise.mesh_endpoints(mesh_port),
        pod_prefixes: or_stored(&config.pod_cidrs, |s| &s.pod_prefixes),
        node_prefixes: or_stored(&config.node_cidrs, |s| &s.node_prefixes),
        service_prefixes: config.service_cidrs.clone(),
        layout: config.layout,
        encryption: config.encryption,
        version: VERSION.to_owned(),
    };
    if stored.as_ref() != Some(&own) {
        let put = peer::put_own(store, &own).await.context("cannot write this cluster's record");
        match put {
            // Whoever exports declares it again.
            Err(error) if stored.is_some() && is_of(Class::Alarm, &error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "what has changed in it is told when the alarm is disarmed"
                );
            }
            put => put?,
        }
    }
    Ok(own)
}

fn compare(stored: &Declaration, config: &Config, credentials: &Credentials) -> anyhow::Result<()> {
    let dir = config.state_dir.display();
    if stored.name != config.cluster || stored.id != config.cluster_id {
        bail!(
            "{dir} holds the state of cluster {} (id {}), but this is {} (id {}): a cluster's name and id cannot change, \
             since identities and peers are built on them. Use another --state-dir for a new cluster",
            stored.name,
            stored.id,
            config.cluster,
            config.cluster_id
        );
    }
    if stored.uuid != credentials.ca.get().uuid() {
        bail!(
            "the CA in {} (uuid {}) is not the one of this store (uuid {}): restore both from the same backup",
            config.ca,
            credentials.ca.get().uuid(),
            stored.uuid
        );
    }
    if stored.layout != config.layout {
        bail!(
            "this cluster was started with --max-connected-clusters {} and that cannot change: identity numbers are built \
             on it",
            stored.layout.max_clusters()
        );
    }
    Ok(())
}
