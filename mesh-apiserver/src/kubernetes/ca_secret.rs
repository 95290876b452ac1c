//! The Secret of a cluster's CA, which all its replicas share, with the one that a rotation goes over to beside it.
//!
//! ```text
//! ca.crt ca.key        the CA in use
//! next.crt next.key    made by `make_next`; `promote` moves it up, `discard_next` removes it
//! ```
//! Each step is one write that names the version which was read, so there is no half of one, and of two replicas that do the
//! same at once one does it and the other sees that it is done.
//!
//! Must never decide which of the two signs: the rotation's record in the store does.

use std::time::Duration;

use certs::{CaHash, Cas, root_ca};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use mesh_types::ClusterName;

use self::contents::Contents;
use super::client::{Client, Error};
use super::name::NamespacedName;
use super::trust_map::labels;

mod contents;

/// Others change the Secret a few times in a rotation; whoever loses so often in a row has another reason.
const TRIES: usize = 10;

/// Where the CA is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CaSecret {
    client: Client,
    name: NamespacedName,
    cluster: ClusterName,
}

/// Why the Secret cannot be read or changed. Never holds any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    Ask(#[from] Error),
    #[error(transparent)]
    Ca(#[from] root_ca::Error),
    #[error(
        "Secret {place} holds no {missing} beside the rest of the CA: restore it from a backup; or delete the Secret to \
         start with a new CA, after which every peer and agent has to join again"
    )]
    Incomplete { place: NamespacedName, missing: &'static str },
    #[error(
        "Secret {place}, which held the cluster's CA, is gone: restore it from a backup, or start this server anew"
    )]
    Gone { place: NamespacedName },
    #[error("the key of the new CA {hash} is not in Secret {place}: restore it from a backup, or abort the rotation")]
    NoNext { place: NamespacedName, hash: CaHash },
    #[error("Secret {place} was changed by others at each of {TRIES} attempts: see what else writes it")]
    Contended { place: NamespacedName },
    #[error("stopped while waiting for Kubernetes")]
    Stopped,
}

impl CaSecret {
    /// The Secret with a CA in it: where there is none, or it is empty, it begins with `former`, or with one that is made. Waits
    /// for an API server that does not answer.
    pub async fn open(
        client: Client,
        name: NamespacedName,
        cluster: ClusterName,
        former: Option<&Cas>,
        shutdown: &Shutdown,
    ) -> Result<(Self, Cas), SecretError> {
        let secret = Self { client, name, cluster };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match secret.read_or_begin(former).await {
                Err(SecretError::Ask(error)) if error.is_passing() => {
                    tracing::warn!(error = %ErrorChain(&error), "the cluster's CA cannot be read yet");
                }
                done => return done.map(|cas| (secret, cas)),
            }
            shutdown.unless_requested(backoff.wait()).await.ok_or(SecretError::Stopped)?;
        }
    }

    /// What is in the Secret now.
    pub async fn read(&self) -> Result<Cas, SecretError> {
        self.contents().await?.cas()
    }

    /// Makes the CA that a rotation goes over to. One that is left of a rotation that never began is replaced.
    pub async fn make_next(&self) -> Result<root_ca::RootCa, SecretError> {
        for _ in 0..TRIES {
            let mut contents = self.contents().await?;
            let next = contents.cas()?.current.successor()?;
            contents.set_next(&next);
            if self.replace(contents).await? {
                return Ok(next);
            }
        }
        Err(self.contended())
    }

    /// Makes `hash` the CA in use, and forgets the key of the former one. Repeating it changes nothing.
    pub async fn promote(&self, hash: &CaHash) -> Result<(), SecretError> {
        self.change(|contents| contents.promote(hash)).await?;
        tracing::debug!(secret = %self.name, ca = %hash, "the new CA is the one in use");
        Ok(())
    }

    /// Forgets the key of a CA that a rotation would have gone over to, or has. Repeating it changes nothing, and one that
    /// was made for another rotation since then stays.
    pub async fn discard_next(&self, hash: &CaHash) -> Result<(), SecretError> {
        self.change(|contents| Ok(contents.discard_next(hash))).await
    }

    /// `plan` says whether it changed anything.
    async fn change(&self, plan: impl Fn(&mut Contents) -> Result<bool, SecretError>) -> Result<(), SecretError> {
        for _ in 0..TRIES {
            let mut contents = self.contents().await?;
            if !plan(&mut contents)? || self.replace(contents).await? {
                return Ok(());
            }
        }
        Err(self.contended())
    }

    async fn read_or_begin(&self, former: Option<&Cas>) -> Result<Cas, SecretError> {
        for _ in 0..TRIES {
            let found = self.found().await?;
            if let Some(contents) = found.as_ref().filter(|contents| !contents.is_empty()) {
                return contents.cas();
            }
            let made;
            let begun = if let Some(former) = former {
                former
            } else {
                made = Cas { current: root_ca::RootCa::generate(&self.cluster)?, next: None };
                &made
            };
            // Otherwise another replica was first, and its CA is the cluster's.
            if self.begin(found, begun).await? {
                let (cluster, uuid) = (&self.cluster, begun.current.uuid());
                let how =
                    if former.is_some() { "put the cluster's CA into its Secret" } else { "made the cluster's CA" };
                tracing::info!(%cluster, %uuid, secret = %self.name, "{how}");
            }
        }
        Err(self.contended())
    }

    /// `false`: somebody else did it first.
    async fn begin(&self, empty: Option<Contents>, cas: &Cas) -> Result<bool, Error> {
        let is_there = empty.is_some();
        let mut contents = empty.unwrap_or_else(|| self.nothing());
        contents.set_current(&cas.current);
        if let Some(next) = &cas.next {
            contents.set_next(next);
        }
        if is_there { self.replace(contents).await } else { self.create(contents).await }
    }

    fn nothing(&self) -> Contents {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.name.clone()),
                labels: Some(labels()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        Contents::new(secret, self.name.clone(), self.cluster.clone())
    }

    async fn contents(&self) -> Result<Contents, SecretError> {
        let found = self.found().await?.filter(|contents| !contents.is_empty());
        found.ok_or_else(|| SecretError::Gone { place: self.name.clone() })
    }

    async fn found(&self) -> Result<Option<Contents>, Error> {
        let NamespacedName { namespace, name } = &self.name;
        let get = |client| async move { Api::<Secret>::namespaced(client, namespace).get_opt(name).await };
        let found = self.client.ask("get", &self.what(), get).await?;
        Ok(found.map(|secret| Contents::new(secret, self.name.clone(), self.cluster.clone())))
    }

    /// `false`: somebody else made it first.
    async fn create(&self, contents: Contents) -> Result<bool, Error> {
        let namespace = &self.name.namespace;
        let contents = &contents;
        let create = |client| async move {
            Api::<Secret>::namespaced(client, namespace).create(&PostParams::default(), contents.secret()).await
        };
        self.written(self.client.ask("create", &self.what(), create).await)
    }

    /// `false`: somebody else has changed it since it was read.
    async fn replace(&self, contents: Contents) -> Result<bool, Error> {
        let NamespacedName { namespace, name } = &self.name;
        let contents = &contents;
        let replace = |client| async move {
            Api::<Secret>::namespaced(client, namespace).replace(name, &PostParams::default(), contents.secret()).await
        };
        self.written(self.client.ask("update", &self.what(), replace).await)
    }

    fn written(&self, answer: Result<Secret, Error>) -> Result<bool, Error> {
        match answer {
            // Repeats the keys.
            Ok(secret) => {
                drop(Contents::new(secret, self.name.clone(), self.cluster.clone()));
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn what(&self) -> String {
        format!("Secret {}", self.name)
    }

    fn contended(&self) -> SecretError {
        SecretError::Contended { place: self.name.clone() }
    }

    /// Where the CA's keys are, for people.
    pub fn place(&self) -> &NamespacedName {
        &self.name
    }
}
