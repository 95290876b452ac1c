//! A cluster of one process: as much of the Admin service as meshctl's verbs show.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use mesh_proto::v1;
use mesh_proto::v1::admin_server::{Admin, AdminServer};
use mesh_proto::v1::store_admin_server::StoreAdminServer;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::certs::Certs;

/// A running server; dropping it stops the server and removes its socket.
pub(crate) struct Cluster {
    state: Arc<State>,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    name: String,
    id: u32,
    /// Written by the calls and by the test, read by the calls.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    pods: v1::Prefix,
    peers: BTreeMap<String, v1::PeerStatus>,
    reachable: Vec<Arc<State>>,
    tokens: usize,
    certs: Certs,
}

impl Cluster {
    pub(crate) fn start(name: &str, id: u32) -> Self {
        let pods = v1::Prefix { address: vec![10, u8::try_from(id).unwrap(), 0, 0].into(), length: 16 };
        let state = Arc::new(State { name: name.into(), id, inner: Mutex::new(Inner { pods, ..Inner::default() }) });
        let folder = tempfile::tempdir().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (server, path) = (Arc::clone(&state), folder.path().join("admin.sock"));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
                ready.send(()).unwrap();
                tonic::transport::Server::builder()
                    .add_service(AdminServer::new(Server(Arc::clone(&server))))
                    .add_service(StoreAdminServer::new(crate::store::Server::new(&server.name)))
                    .serve_with_incoming_shutdown(incoming, async {
                        stopped.await.ok();
                    })
                    .await
                    .unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { state, folder, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.state.name
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Lets this cluster redeem tokens of `other`.
    pub(crate) fn can_reach(&self, other: &Self) {
        self.state.inner.lock().reachable.push(Arc::clone(&other.state));
    }

    pub(crate) fn declare_pods(&self, address: [u8; 4], length: u32) {
        self.state.inner.lock().pods = v1::Prefix { address: address.to_vec().into(), length };
    }

    pub(crate) fn peers_become(&self, state: &str, reason: &str) {
        for peer in self.state.inner.lock().peers.values_mut() {
            state.clone_into(&mut peer.state);
            reason.clone_into(&mut peer.reason);
        }
    }

    pub(crate) fn certs(&self, change: impl FnOnce(&mut Certs)) {
        change(&mut self.state.inner.lock().certs);
    }

    pub(crate) fn tokens_made(&self) -> usize {
        self.state.inner.lock().tokens
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl State {
    fn as_peer(&self) -> v1::PeerStatus {
        v1::PeerStatus { name: self.name.clone(), id: self.id, state: "Live".into(), ..Default::default() }
    }
}

struct Server(Arc<State>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for Server {
    async fn get_version(&self, _: Request<v1::GetVersionRequest>) -> Answer<v1::GetVersionResponse> {
        Ok(Response::new(v1::GetVersionResponse {
            version: "0.1.0".into(),
            commit: "abc".into(),
            cluster: self.0.name.clone(),
            cluster_id: self.0.id,
        }))
    }

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::GetStatusResponse> {
        let peers = self.0.inner.lock().peers.values().cloned().collect();
        let (cluster, cluster_id) = (self.0.name.clone(), self.0.id);
        Ok(Response::new(v1::GetStatusResponse { cluster, cluster_id, peers, ..Default::default() }))
    }

    async fn get_declaration(&self, _: Request<v1::GetDeclarationRequest>) -> Answer<v1::ClusterDeclaration> {
        Ok(Response::new(v1::ClusterDeclaration {
            name: self.0.name.clone(),
            id: self.0.id,
            uuid: format!("uuid-of-{}", self.0.name),
            pod_prefixes: vec![self.0.inner.lock().pods.clone()],
            etcd_endpoints: vec!["10.0.0.1:2379".to_owned()],
            ..Default::default()
        }))
    }

    async fn create_join_token(&self, request: Request<v1::CreateJoinTokenRequest>) -> Answer<v1::CreateTokenResponse> {
        self.0.inner.lock().tokens += 1;
        let token = format!("token-for-{}", request.get_ref().peer_name);
        Ok(Response::new(v1::CreateTokenResponse { token, expires_unix_nanos: 1 << 60, id: "t1".into() }))
    }

    async fn create_node_token(&self, request: Request<v1::CreateNodeTokenRequest>) -> Answer<v1::CreateTokenResponse> {
        let token = format!("token-for-{}", request.get_ref().node);
        Ok(Response::new(v1::CreateTokenResponse { token, expires_unix_nanos: 1 << 60, id: "t2".into() }))
    }

    async fn preflight(&self, request: Request<v1::PreflightRequest>) -> Answer<v1::PreflightResponse> {
        let other = request.into_inner().other.ok_or_else(|| Status::invalid_argument("no declaration"))?;
        let finding = |severity: v1::Severity, check: &str, text: String| v1::Finding {
            severity: severity.into(),
            check: check.to_owned(),
            text,
        };
        let id = if other.id == self.0.id { v1::Severity::Fail } else { v1::Severity::Pass };
        let findings = vec![
            finding(id, "id", format!("ids {} and {}", self.0.id.min(other.id), self.0.id.max(other.id))),
            finding(v1::Severity::Pass, "reach", format!("{} reaches {}", self.0.name, other.name)),
        ];
        let now_unix_nanos = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
        Ok(Response::new(v1::PreflightResponse { findings, now_unix_nanos, inner_mtu: 0 }))
    }

    async fn list_tokens(&self, _: Request<v1::ListTokensRequest>) -> Answer<v1::ListTokensResponse> {
        Ok(Response::new(v1::ListTokensResponse { tokens: vec![token_row("t1")] }))
    }

    async fn revoke_token(&self, request: Request<v1::RevokeTokenRequest>) -> Answer<v1::RevokeTokenResponse> {
        let id = request.into_inner().id;
        if id != "t1" {
            return Err(Status::not_found(format!("there is no token {id:?} here: `meshctl token list` shows them")));
        }
        let token = v1::TokenRow { revoked_unix_nanos: 1 << 60, ..token_row(&id) };
        Ok(Response::new(v1::RevokeTokenResponse { token: Some(token), was_revoked: false }))
    }

    async fn connect_peer(&self, request: Request<v1::ConnectPeerRequest>) -> Answer<v1::ConnectPeerResponse> {
        if request.get_ref().token != format!("token-for-{}", self.0.name) {
            return Err(Status::permission_denied("the token is not valid"));
        }
        let other = self.0.inner.lock().reachable.first().cloned();
        let other = other.ok_or_else(|| Status::unavailable("no way to the cluster that made the token"))?;
        let known = self.0.inner.lock().peers.insert(other.name.clone(), other.as_peer());
        other.inner.lock().peers.insert(self.0.name.clone(), self.0.as_peer());
        let (peer_name, peer_id) = (other.name.clone(), other.id);
        Ok(Response::new(v1::ConnectPeerResponse { peer_name, peer_id, already_connected: known.is_some() }))
    }

    async fn connect_cilium(&self, request: Request<v1::ConnectCiliumRequest>) -> Answer<v1::ConnectPeerResponse> {
        let said = request.into_inner();
        if said.cert_file.is_empty() {
            return Err(Status::invalid_argument("cert-file \"\" is not an absolute path"));
        }
        let peer = v1::PeerStatus {
            name: said.name.clone(),
            id: said.id,
            state: "Live".to_owned(),
            is_cilium: true,
            endpoints: said.endpoints.into_iter().map(|endpoint| endpoint.address).collect(),
            ..v1::PeerStatus::default()
        };
        let known = self.0.inner.lock().peers.insert(said.name.clone(), peer);
        let (peer_name, peer_id) = (said.name, said.id);
        Ok(Response::new(v1::ConnectPeerResponse { peer_name, peer_id, already_connected: known.is_some() }))
    }

    async fn issue_local(&self, request: Request<v1::IssueLocalRequest>) -> Answer<v1::IssueLocalResponse> {
        let cluster = mesh_types::ClusterName::new(self.0.name.as_str()).unwrap();
        let ca = certs::RootCa::generate(&cluster).unwrap();
        let validity = certs::Validity::lasting(std::time::Duration::from_hours(24));
        let certificate_pem = ca
            .sign_local(&request.get_ref().csr_pem, validity)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let expires_unix_nanos = u64::try_from(validity.not_after.as_nanosecond()).unwrap();
        let trust_bundle_pem = ca.bundle().pem();
        Ok(Response::new(v1::IssueLocalResponse { certificate_pem, trust_bundle_pem, expires_unix_nanos }))
    }

    async fn disconnect_peer(&self, request: Request<v1::DisconnectPeerRequest>) -> Answer<v1::DisconnectPeerResponse> {
        let was_connected = self.0.inner.lock().peers.remove(&request.get_ref().peer_name).is_some();
        Ok(Response::new(v1::DisconnectPeerResponse { was_connected }))
    }

    async fn list_peers(&self, _: Request<v1::ListPeersRequest>) -> Answer<v1::ListPeersResponse> {
        Ok(Response::new(v1::ListPeersResponse { peers: self.0.inner.lock().peers.values().cloned().collect() }))
    }

    async fn list_services(&self, _: Request<v1::ListRequest>) -> Answer<v1::ListServicesResponse> {
        Ok(Response::new(v1::ListServicesResponse::default()))
    }

    async fn list_endpoints(&self, request: Request<v1::ListRequest>) -> Answer<v1::ListEndpointsResponse> {
        let address = vec![10, u8::try_from(self.0.id).unwrap(), 0, 7];
        Ok(Response::new(v1::ListEndpointsResponse {
            endpoints: vec![v1::Ip {
                cluster: self.0.name.clone(),
                prefix: Some(v1::Prefix { address: address.into(), length: 32 }),
                identity: 65_537,
                namespace: request.into_inner().namespace,
                ..Default::default()
            }],
        }))
    }

    async fn list_nodes(&self, _: Request<v1::ListRequest>) -> Answer<v1::ListNodesResponse> {
        Ok(Response::new(v1::ListNodesResponse::default()))
    }

    async fn list_identities(&self, _: Request<v1::ListRequest>) -> Answer<v1::ListIdentitiesResponse> {
        Ok(Response::new(v1::ListIdentitiesResponse::default()))
    }

    /// The steps of a real walk that matter here: a peer that is not live does not take connections.
    async fn troubleshoot(&self, request: Request<v1::TroubleshootRequest>) -> Answer<v1::TroubleshootResponse> {
        let wanted = request.into_inner().peer_name;
        let peers: Vec<v1::PeerStatus> = self.0.inner.lock().peers.values().cloned().collect();
        let chosen = peers.into_iter().filter(|peer| wanted.is_empty() || peer.name == wanted);
        let walks: Vec<v1::PeerWalk> = chosen.map(walked).collect();
        if walks.is_empty() && !wanted.is_empty() {
            return Err(Status::not_found(format!("has not joined a cluster {wanted:?}")));
        }
        Ok(Response::new(v1::TroubleshootResponse { walks }))
    }

    async fn await_sights(&self, _: Request<v1::AwaitSightsRequest>) -> Answer<v1::AwaitSightsResponse> {
        Ok(Response::new(v1::AwaitSightsResponse::default()))
    }

    async fn list_agents(&self, _: Request<v1::ListAgentsRequest>) -> Answer<v1::ListAgentsResponse> {
        Ok(Response::new(v1::ListAgentsResponse::default()))
    }

    async fn get_certificates(&self, _: Request<v1::GetCertificatesRequest>) -> Answer<v1::GetCertificatesResponse> {
        Ok(Response::new(self.0.inner.lock().certs.shown(&self.0.name)))
    }

    async fn get_held(&self, _: Request<v1::GetHeldRequest>) -> Answer<v1::GetHeldResponse> {
        Ok(Response::new(v1::GetHeldResponse::default()))
    }

    async fn rotate_leaves(&self, request: Request<v1::RotateLeavesRequest>) -> Answer<v1::RotateLeavesResponse> {
        self.0.inner.lock().certs.renew();
        Ok(Response::new(v1::RotateLeavesResponse { names: request.into_inner().names }))
    }

    async fn rotate_ca(&self, _: Request<v1::RotateCaRequest>) -> Answer<v1::RotateCaResponse> {
        let rotation = self.0.inner.lock().certs.begin()?;
        Ok(Response::new(v1::RotateCaResponse { rotation: Some(rotation) }))
    }

    async fn abort_ca_rotation(&self, _: Request<v1::AbortCaRotationRequest>) -> Answer<v1::AbortCaRotationResponse> {
        let rotation = self.0.inner.lock().certs.abort()?;
        Ok(Response::new(v1::AbortCaRotationResponse { rotation: Some(rotation) }))
    }
}

/// A join token that west has used.
fn walked(peer: v1::PeerStatus) -> v1::PeerWalk {
    use v1::WalkResult::{Fail, NotReached, Pass};
    let step = |step: &str, endpoint: &str, result: v1::WalkResult, text: &str| v1::WalkStep {
        step: step.to_owned(),
        endpoint: endpoint.to_owned(),
        result: result.into(),
        text: text.to_owned(),
    };
    let endpoint = "192.0.2.1:2379";
    let mut steps = vec![step("record", "", Pass, "has 1 endpoints")];
    if peer.state == "Live" {
        steps.push(step("connect", endpoint, Pass, "takes connections"));
    } else {
        steps.push(step("connect", endpoint, Fail, "does not take connections"));
        steps.push(step("tls", endpoint, NotReached, ""));
    }
    v1::PeerWalk { peer_name: peer.name, steps }
}

fn token_row(id: &str) -> v1::TokenRow {
    v1::TokenRow {
        id: id.to_owned(),
        kind: "join".into(),
        bearer: "cluster west (id 2)".into(),
        expires_unix_nanos: 1 << 60,
        redeemed_by: "sha256:00".into(),
        redeemed_unix_nanos: 1 << 59,
        revoked_unix_nanos: 0,
    }
}
