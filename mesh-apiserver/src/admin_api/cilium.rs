//! Cilium beside the mesh: a Cilium cluster as a peer (the request of its people as the words of federation), and the
//! certificate by which Cilium's agents of the own cluster read what is mirrored here.

use std::path::PathBuf;

use certs::{CaHash, Validity};
use federation::join::CiliumError;
use federation::peer::{CiliumAccess, CiliumEndpoint, Declaration};
use mesh_proto::convert::encryption;
use mesh_proto::{convert, v1};
use mesh_runtime::ErrorChain;
use mesh_types::{ClusterId, IdentityLayout};
use tonic::{Code, Status};
use uuid::Uuid;

use super::AdminApi;
use super::peering::{answer, cluster_name, refusal};

impl AdminApi {
    pub(super) async fn join_cilium(
        &self,
        request: v1::ConnectCiliumRequest,
    ) -> Result<v1::ConnectPeerResponse, Status> {
        let (declaration, access) = words(request)?;
        let joined = self.membership.cilium(declaration, access).await;
        joined.map(|joined| answer(&joined)).map_err(|error| refusal(&error))
    }

    pub(super) fn local_certificate(&self, csr_pem: &str) -> Result<v1::IssueLocalResponse, Status> {
        let validity = Validity::lasting(Validity::LEAF);
        let certificate_pem =
            self.parties.credentials.ca.get().sign_local(csr_pem, validity).map_err(|error| bad(&error))?;
        tracing::info!(name = format!("local-{}", self.cluster), until = %validity.not_after, "certificate issued");
        let expires = u64::try_from(validity.not_after.as_nanosecond()).unwrap_or_default();
        Ok(v1::IssueLocalResponse {
            certificate_pem,
            trust_bundle_pem: self.authorities.own_bundle().pem(),
            expires_unix_nanos: expires,
        })
    }
}

fn words(request: v1::ConnectCiliumRequest) -> Result<(Declaration, CiliumAccess), Status> {
    let prefixes = |field, list: &[v1::Prefix]| {
        list.iter().map(|p| convert::prefix(field, Some(p))).collect::<Result<Vec<_>, convert::Error>>()
    };
    let layout = match request.max_connected_clusters {
        0 | 255 => IdentityLayout::Clusters255,
        511 => IdentityLayout::Clusters511,
        other => return Err(Status::invalid_argument(format!("at most {other} clusters: Cilium knows 255 and 511"))),
    };
    let declaration = Declaration {
        name: cluster_name(&request.name)?,
        id: ClusterId::new(request.id).map_err(|error| bad(&error))?,
        // Cilium's clusters have none; it tells a cluster from the one that had its name before.
        uuid: Uuid::new_v4(),
        trust_bundle_pem: String::new(),
        etcd_endpoints: Vec::new(),
        mesh_endpoints: Vec::new(),
        pod_prefixes: prefixes("pod_prefixes", &request.pod_prefixes).map_err(|error| bad(&error))?,
        node_prefixes: prefixes("node_prefixes", &request.node_prefixes).map_err(|error| bad(&error))?,
        service_prefixes: prefixes("service_prefixes", &request.service_prefixes).map_err(|error| bad(&error))?,
        layout,
        encryption: encryption(request.encryption).map_err(|error| bad(&error))?,
        version: "Cilium".to_owned(),
    };
    let endpoints = request.endpoints.into_iter();
    let access = CiliumAccess {
        endpoints: endpoints
            .map(|said| CiliumEndpoint { address: said.address, server_name: said.server_name })
            .collect(),
        trusted_ca_file: file("trusted-ca-file", request.trusted_ca_file)?,
        cert_file: file("cert-file", request.cert_file)?,
        key_file: file("key-file", request.key_file)?,
        knows_cas: request.knows_cas.iter().map(|hash| ca_hash(hash)).collect::<Result<_, _>>()?,
    };
    Ok((declaration, access))
}

fn bad(error: &(dyn std::error::Error + 'static)) -> Status {
    Status::invalid_argument(ErrorChain(error).to_string())
}

fn ca_hash(text: &str) -> Result<CaHash, Status> {
    text.parse().map_err(|_says_no_more| {
        Status::invalid_argument(format!("knows-cas {text:?} is no hash of a CA: `meshctl certs status` shows them"))
    })
}

/// A path that means the same whatever folder the server was started in.
fn file(field: &str, path: String) -> Result<PathBuf, Status> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Status::invalid_argument(format!(
        "{field} {:?} is not an absolute path: name the file as the API server's machine has it",
        path.display().to_string()
    )))
}

pub(super) fn code(error: &CiliumError) -> Code {
    match error {
        CiliumError::NoEndpoint { .. } => Code::InvalidArgument,
        CiliumError::Unreachable { .. } | CiliumError::Peers(_) | CiliumError::Store { .. } => Code::Unavailable,
        CiliumError::Own { .. }
        | CiliumError::IsIsthmus { .. }
        | CiliumError::Access { .. }
        | CiliumError::Name { .. }
        | CiliumError::Conflict(_)
        | CiliumError::Trust { .. }
        | CiliumError::NoConfig { .. }
        | CiliumError::OtherConfig { .. } => Code::FailedPrecondition,
    }
}
