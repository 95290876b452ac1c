//! Who sent a request, and the refusals that say what would have been needed.

use certs::{ConnectInfo, Principal, Role};
use mesh_types::{ClusterName, NodeName};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Extensions, Status};

/// The verified caller: by client certificate, or through the Unix socket root and the server's own user. That user may read
/// the CA's key anyway, and is who `kubectl exec` makes people in a pod, where the server is not root.
pub fn caller(extensions: &Extensions, own: &ClusterName) -> Option<Principal> {
    if let Some(info) = extensions.get::<ConnectInfo>() {
        return info.principal.clone();
    }
    let credentials = extensions.get::<UdsConnectInfo>()?.peer_cred?;
    may_use_socket(credentials.uid()).then(|| Principal::local_root(own))
}

fn may_use_socket(user: u32) -> bool {
    // Root in another user namespace shows as another number here, and is refused.
    user == 0 || user == nix::unistd::geteuid().as_raw()
}

/// A user of Kubernetes who was found to have the right that their call takes. Only the admin API's door makes one, for one
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    pub user: String,
}

/// Lets through: `admin-<own cluster>`, on the Unix socket root and the server's own user, and users of Kubernetes with the
/// right to it.
pub fn admin(extensions: &Extensions, own: &ClusterName) -> Result<(), Status> {
    if extensions.get::<Delegated>().is_some() {
        return Ok(());
    }
    match caller(extensions, own) {
        Some(principal) if principal.is_admin() => Ok(()),
        Some(principal) => Err(Status::permission_denied(format!(
            "{principal} may not use the admin API: it takes the certificate admin-{own} of this cluster's CA, a bearer \
             token of a user of its Kubernetes, or the server's own user or root on its Unix socket"
        ))),
        None => Err(Status::unauthenticated(format!(
            "the admin API takes the client certificate admin-{own}, a bearer token of a user of its Kubernetes, or the \
             server's own user or root on its Unix socket"
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
        // A replica that showed a token besides would be whom the token names.
        Some(principal) if principal.role() == Role::Replica && extensions.get::<Delegated>().is_none() => {
            Ok(Asker::Replica)
        }
        _ => admin(extensions, own).map(|()| Asker::Administrator),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_roots_and_the_servers_own_users() {
        let own = nix::unistd::geteuid().as_raw();
        assert!(may_use_socket(0) && may_use_socket(own));
        assert!(!may_use_socket(own + 1));
    }
}
