//! A cluster's API server, and one way of asking it: with a deadline, and errors that name what was asked.

use std::fmt;
use std::time::Duration;

use kube::{Client, Config};

use super::failure::Error;
use super::kubeconfig::{Access, location};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// Of the kubeconfig.
    pub(crate) context: String,
    pub(crate) client: Client,
    pub(crate) config: Config,
    /// Its URL.
    pub(crate) server: String,
    /// Where the mesh was said to be.
    pub(crate) namespace: Option<String>,
    within: Duration,
}

impl Cluster {
    /// Reads the kubeconfig; a credential plugin is run with the first question.
    pub(crate) async fn open(access: &Access, within: Duration) -> Result<Self, Error> {
        let config = access.config().await?;
        let server = location(&config);
        let made = config.clone();
        // A credential plugin is run, and waited for, by the thread that makes the client.
        let client = tokio::task::spawn_blocking(|| Client::try_from(made)).await;
        let unusable = || Error::Credentials {
            server: server.clone(),
            reason: "what the kubeconfig says of its user or its server cannot be used".to_owned(),
        };
        let client = client.map_err(|_panicked| unusable())?;
        let client = client.map_err(|error| Error::of(error, &server, "get", "credentials"))?;
        let (context, namespace) = (access.context.clone(), access.namespace.clone());
        Ok(Self { context, client, config, server, namespace, within })
    }

    /// Asks, and names `verb` and `what` where that fails.
    pub(crate) async fn ask<T>(
        &self,
        verb: &'static str,
        what: &str,
        question: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.within, Box::pin(question)).await {
            Ok(answer) => answer.map_err(|error| Error::of(error, &self.server, verb, what)),
            Err(_elapsed) => {
                let (server, what) = (self.server.clone(), what.to_owned());
                Err(Error::Silent { server, verb, what, within: self.within })
            }
        }
    }
}

impl fmt::Debug for Cluster {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.context).field(&self.server).finish()
    }
}
