//! One cluster's admin API: the connection, and what a refused call means to a person.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_proto::v1::admin_client::AdminClient;
use mesh_proto::v1::store_admin_client::StoreAdminClient;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

use crate::config::{Address, Context};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::account::{self, Authorization};
use crate::kubernetes::{self, Cluster, Release, forward};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot reach it at {address}")]
    Unreachable { address: String, source: tonic::transport::Error },
    #[error("no address of it is known")]
    NoAddress,
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the address {address} is not usable")]
    Address { address: String, source: tonic::transport::Error },
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::Error),
    #[error("{call} was refused ({code:?}): {message}")]
    Refused { call: &'static str, code: Code, message: String, source: Box<Status> },
}

/// Writes who asks on every call; on a socket or with a certificate the connection says it.
#[derive(Clone, Default)]
pub(crate) struct Caller(Option<Authorization>);

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.0 {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Caller {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Caller(token)" } else { "Caller(connection)" })
    }
}

type Wire = InterceptedService<Channel, Caller>;

/// A connected cluster.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) context: String,
    pub(crate) api: AdminClient<Wire>,
    pub(crate) store: StoreAdminClient<Wire>,
    /// Known by a token of Kubernetes, and not by a certificate or a socket.
    by_token: bool,
}

impl Admin {
    /// To the first replica that can be reached; where none can, the failure is that of the last one.
    pub(crate) async fn connect(context: &Context, timeout: Duration) -> Result<Self, Failure> {
        let mut failed = Failure::new(Exit::Config, &context.name, &Error::NoAddress);
        for address in &context.addresses {
            let connected = match address {
                Address::Kubernetes(access) => Box::pin(through_kubernetes(access, timeout)).await,
                direct => channel(direct, timeout).await.map(|channel| (channel, Caller::default())),
            };
            match connected {
                Ok((channel, caller)) => return Ok(Self::of(&context.name, channel, caller)),
                Err(error) => failed = failure(&context.name, &error, false),
            }
        }
        Err(failed)
    }

    fn of(context: &str, channel: Channel, caller: Caller) -> Self {
        Self {
            context: context.to_owned(),
            by_token: caller.0.is_some(),
            store: StoreAdminClient::with_interceptor(channel.clone(), caller.clone()),
            api: AdminClient::with_interceptor(channel, caller),
        }
    }

    /// Takes the answer of `call` out of its envelope, or says what its refusal means.
    pub(crate) fn answer<T>(&self, call: &'static str, result: Result<Response<T>, Status>) -> Result<T, Failure> {
        result.map(Response::into_inner).map_err(|status| self.refused(call, status))
    }

    /// What it means that `call` was refused.
    pub(crate) fn refused(&self, call: &'static str, status: Status) -> Failure {
        refused(&self.context, call, status, self.by_token)
    }
}

fn refused(context: &str, call: &'static str, status: Status, by_token: bool) -> Failure {
    let (code, message) = (status.code(), status.message().to_owned());
    failure(context, &Error::Refused { call, code, message, source: Box::new(status) }, by_token)
}

/// To the first of a release's pods that can be reached, by the caller's own rights in Kubernetes.
async fn through_kubernetes(access: &kubernetes::Access, timeout: Duration) -> Result<(Channel, Caller), Error> {
    let cluster = Cluster::open(access, timeout).await?;
    let release = Release::find(&cluster).await?;
    let bundle = release.trusted(&cluster).await?;
    let caller = Caller(Some(account::authorization(&cluster, &release).await?));
    let mut failed = Error::NoAddress;
    for pod in &release.pods {
        let address = format!("pod {}/{pod} port {}", release.namespace, release.port);
        let unusable = |source| Error::Address { address: address.clone(), source };
        let endpoint = forward::endpoint(&release, &bundle).map_err(unusable)?;
        let endpoint = endpoint.connect_timeout(timeout).timeout(timeout);
        match tokio::time::timeout(timeout, forward::connect(&cluster, &release, pod, endpoint)).await {
            Ok(Ok(channel)) => return Ok((channel, caller)),
            Ok(Err(source)) => failed = Error::Unreachable { address: address.clone(), source },
            Err(_elapsed) => {
                let (server, what) = (cluster.server.clone(), address.clone());
                failed = kubernetes::Error::Silent { server, verb: "reach", what, within: timeout }.into();
            }
        }
    }
    Err(failed)
}

async fn channel(address: &Address, timeout: Duration) -> Result<Channel, Error> {
    let (shown, uri) = match address {
        Address::Socket(path) => (path.display().to_string(), format!("unix://{}", path.display())),
        Address::Tls { endpoint, .. } => (endpoint.clone(), format!("https://{endpoint}")),
        Address::Kubernetes(_) => return Err(Error::NoAddress),
    };
    let unusable = |source| Error::Address { address: shown.clone(), source };
    let mut endpoint = Endpoint::from_shared(uri).map_err(unusable)?.connect_timeout(timeout).timeout(timeout);
    if let Address::Tls { ca, cert, key, server_name, .. } = address {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(ca)?))
            .identity(Identity::from_pem(read(cert)?, read(key)?));
        if let Some(name) = server_name {
            tls = tls.domain_name(name);
        }
        endpoint = endpoint.tls_config(tls).map_err(unusable)?;
    }
    endpoint.connect().await.map_err(|source| Error::Unreachable { address: shown.clone(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn failure(context: &str, error: &Error, by_token: bool) -> Failure {
    let (exit, hint) = match error {
        Error::Kubernetes(error) => return error.failure(context),
        Error::Unreachable { .. } => {
            (Exit::Unavailable, Some("is its mesh-apiserver running, and is the address right?"))
        }
        Error::NoAddress | Error::File { .. } | Error::Address { .. } => {
            (Exit::Config, Some("the paths are those of the configuration file"))
        }
        Error::Refused { code, .. } => match code {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                (Exit::Unavailable, Some("its mesh-apiserver did not answer in time; --timeout waits longer"))
            }
            // What it says names the user, the right and what to do.
            Code::PermissionDenied | Code::Unauthenticated if by_token => (Exit::Denied, None),
            Code::PermissionDenied | Code::Unauthenticated => {
                (Exit::Denied, Some("the admin API wants the certificate admin-<cluster> of that same cluster"))
            }
            Code::Unimplemented => {
                (Exit::Failed, Some("its mesh-apiserver is older than this meshctl: see `meshctl version`"))
            }
            Code::AlreadyExists | Code::FailedPrecondition => (Exit::Conflict, None),
            _ => (Exit::Failed, None),
        },
    };
    let mut failure = Failure::new(exit, context, error);
    if let Error::Refused { source: status, .. } = error {
        // The status's own text repeats code and message: only what lies beneath it is news.
        failure.chain.retain(|line| *line != status.to_string());
    }
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_become_exit_codes_without_repeating_themselves() {
        let refused = |status: Status| refused("east", "GetStatus", status, false);
        let denied = refused(Status::permission_denied("certificate agent-a1"));
        assert_eq!(denied.exit, Exit::Denied);
        assert_eq!(denied.chain, ["GetStatus was refused (PermissionDenied): certificate agent-a1"]);
        assert_eq!(refused(Status::deadline_exceeded("late")).exit, Exit::Unavailable);
        assert_eq!(refused(Status::invalid_argument("no")).exit, Exit::Failed);
    }
}
