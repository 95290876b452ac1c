//! Who sent a request, and the refusals that say what would have been needed.

use certs::{ConnectInfo, Principal, Role};
use mesh_types::{ClusterName, NodeName};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Extensions, Status};

/// The verified caller: by client certificate, or the local root user through the Unix socket.
pub fn caller(extensions: &Extensions, own: &ClusterName) -> Option<Principal> {
    if let Some(info) = extensions.get::<ConnectInfo>() {
        return info.principal.clone();
    }
    let credentials = extensions.get::<UdsConnectInfo>()?.peer_cred?;
    // Root in another user namespace shows as another number here, and is refused.
    (credentials.uid() == 0).then(|| Principal::local_root(own))
}

/// Lets `admin-<own cluster>` and the local root user through.
pub fn admin(extensions: &Extensions, own: &ClusterName) -> Result<Principal, Status> {
    match caller(extensions, own) {
        Some(principal) if principal.is_admin() => Ok(principal),
        Some(principal) => Err(Status::permission_denied(format!(
            "{principal} may not use the admin API: it takes the certificate admin-{own} of this cluster's CA, or root on \
             the server's Unix socket"
        ))),
        None => Err(Status::unauthenticated(format!(
            "the admin API takes the client certificate admin-{own}, or root on the server's Unix socket"
        ))),
    }
}

/// Who asks the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A person, or a program of one.
    Administrator,
    /// Another replica of this server, for a person who asked there.
    Replica,
}

/// Lets administrators through, and other replicas of this server.
pub fn admin_or_replica(extensions: &Extensions, own: &ClusterName) -> Result<Asker, Status> {
    match caller(extensions, own) {
        Some(principal) if principal.role() == Role::Replica => Ok(Asker::Replica),
        _ => admin(extensions, own).map(|_principal| Asker::Administrator),
    }
}

/// Lets agents through, each as its own node.
pub fn agent(extensions: &Extensions, own: &ClusterName) -> Result<NodeName, Status> {
    match caller(extensions, own) {
        Some(principal) => match principal.role() {
            Role::Agent(node) => Ok(NodeName(node.to_owned())),
            _ => Err(Status::permission_denied(format!(
                "{principal} is not an agent: this call takes a certificate agent-<node> of this cluster's CA"
            ))),
        },
        None => Err(Status::unauthenticated(
            "this call takes a client certificate agent-<node>: enrol the node with a token from `meshctl token create`",
        )),
    }
}
