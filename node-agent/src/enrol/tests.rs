//! Enrolment by the ServiceAccount's token, at a server with real certificates. Whose token it is, is mesh-apiserver's to find
//! out: this one answers whom it is told to.

use std::time::Instant;

use certs::incoming::Options as Incoming;
use certs::{Authorities, ClientAuth, Connections, RootCa, ServerNames, ServerTls, TlsIncoming, TlsMetrics, Validity};
use mesh_proto::v1;
use mesh_proto::v1::join_server::{Join, JoinServer};
use mesh_runtime::{OnExit, TaskSet};
use mesh_types::{ClusterName, NodeName};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;

const PATIENT: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Api(Arc<State>);

struct State {
    ca: RootCa,
    /// For how long each leaf is good, in turn; the last one for all that follow.
    lifetimes: Mutex<Vec<Validity>>,
    shown: Mutex<Vec<String>>,
    refusals: Mutex<Vec<Status>>,
}

#[tonic::async_trait]
impl Join for Api {
    async fn join(&self, _request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        Err(Status::unimplemented("agents do not join"))
    }

    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let (request, state) = (request.into_inner(), &self.0);
        state.shown.lock().push(request.service_account_token);
        if let Some(refusal) = state.refusals.lock().pop() {
            return Err(refusal);
        }
        let validity = {
            let mut lifetimes = state.lifetimes.lock();
            if lifetimes.len() > 1 { lifetimes.remove(0) } else { lifetimes[0] }
        };
        let certificate_pem = state.ca.sign_agent(&request.csr_pem, &NodeName(request.node), validity).unwrap();
        let trust_bundle_pem = state.ca.bundle().pem();
        Ok(Response::new(v1::EnrollResponse { certificate_pem, trust_bundle_pem, cluster: "a".to_owned() }))
    }
}

struct World {
    api: Api,
    options: Options,
    dir: tempfile::TempDir,
    shutdown: Shutdown,
    tasks: TaskSet,
}

impl World {
    async fn new(lifetimes: Vec<Validity>) -> Self {
        let name = ClusterName::new("a").unwrap();
        let ca = RootCa::generate(&name).unwrap();
        let names = ServerNames { dns: Vec::new(), ips: Vec::new() };
        let leaf = LiveLeaf::new(ca.issue_server(&names, Validity::lasting(Validity::LEAF)).unwrap());
        let authorities = Authorities::new(name, ca.bundle()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = ServerTls::new(leaf, authorities, ClientAuth::Optional);
        let options = Incoming::new("mesh", Connections::new(), TlsMetrics::default());
        let incoming = TlsIncoming::from_listener(listener, tls, options);
        let state = State { ca, lifetimes: Mutex::new(lifetimes), shown: Mutex::default(), refusals: Mutex::default() };
        let api = Api(Arc::new(state));
        let router = Server::builder().add_service(JoinServer::new(api.clone()));
        let shutdown = Shutdown::new();
        let tasks = TaskSet::new(shutdown.clone());
        let stop = shutdown.clone();
        tasks.spawn("server", OnExit::Shutdown, async move {
            router.serve_with_incoming_shutdown(incoming, stop.requested_owned()).await
        });

        let dir = tempfile::tempdir().unwrap();
        let [token_file, trust_bundle_file] = ["token", "ca.crt"].map(|name| dir.path().join(name));
        std::fs::write(&token_file, "of-the-pod\n").unwrap();
        std::fs::write(&trust_bundle_file, api.0.ca.bundle().pem()).unwrap();
        let state_dir = dir.path().join("state");
        prepare_folder(&state_dir).unwrap();
        let means = Means::ServiceAccount { token_file, trust_bundle_file };
        let options =
            Options { node: "n1".to_owned(), cluster: "a".to_owned(), apiservers: vec![address], means, state_dir };
        Self { api, options, dir, shutdown, tasks }
    }

    async fn establish(&self) -> Identity {
        let enrolled = tokio::time::timeout(PATIENT, Identity::establish(&self.options, &self.shutdown)).await;
        enrolled.expect("in time").expect("enrolled")
    }

    fn shown(&self) -> Vec<String> {
        self.api.0.shown.lock().clone()
    }

    async fn end(self) {
        self.shutdown.trigger(mesh_runtime::Cause::Requested("the end of the test".to_owned()));
        self.tasks.join(PATIENT).await.unwrap();
    }
}

fn lasting() -> Validity {
    Validity::lasting(Validity::LEAF)
}

/// Was good until an hour ago.
fn past() -> Validity {
    let ago = |hours: i64| jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    Validity { not_before: ago(3), not_after: ago(1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pods_token_is_shown_once_and_again_when_the_state_folder_is_gone() {
    let world = World::new(vec![lasting()]).await;
    let first = world.establish().await.leaf.get();
    assert_eq!(first.common_name(), "agent-n1");
    assert_eq!(world.establish().await.leaf.get().certificate_pem(), first.certificate_pem());
    assert_eq!(world.shown(), ["of-the-pod"]);

    std::fs::remove_dir_all(&world.options.state_dir).unwrap();
    prepare_folder(&world.options.state_dir).unwrap();
    std::fs::write(world.dir.path().join("token"), "its-next-one").unwrap();
    let second = world.establish().await.leaf.get();
    assert_ne!(second.certificate_pem(), first.certificate_pem());
    assert_eq!(world.shown(), ["of-the-pod", "its-next-one"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_ca_never_sees_the_token() {
    let world = World::new(vec![lasting()]).await;
    let other = RootCa::generate(&ClusterName::new("a").unwrap()).unwrap();
    std::fs::write(world.dir.path().join("ca.crt"), other.bundle().pem()).unwrap();
    let files = Files::under(&world.options.state_dir);
    let refused = ask(&world.options, &files).await.map(drop).unwrap_err();
    let Attempt::Again(text) = refused else { panic!("the ConfigMap may be behind") };
    assert!(text.contains("is not signed by the CA that is trusted for it"), "{text}");
    assert!(world.shown().is_empty() && !text.contains("of-the-pod"));
    assert!(!files.certificate.exists());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_not_accepted_may_be_renewed_and_a_node_that_is_refused_stays_so() {
    let world = World::new(vec![lasting()]).await;
    world.api.0.refusals.lock().push(Status::unauthenticated("the token has expired"));
    world.establish().await;
    assert_eq!(world.shown().len(), 2);
    std::fs::remove_dir_all(&world.options.state_dir).unwrap();
    prepare_folder(&world.options.state_dir).unwrap();
    world.api.0.refusals.lock().push(Status::permission_denied("runs on node n2"));
    let refused = Identity::establish(&world.options, &world.shutdown).await.map(drop).unwrap_err();
    assert!(matches!(&refused, Error::Refused { message } if message == "runs on node n2"), "{refused}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_leaf_has_expired_while_it_runs_enrols_anew() {
    let world = World::new(vec![past(), lasting()]).await;
    let identity = world.establish().await;
    assert!(identity.leaf.get().is_expired() && identity.is_past_renewal());
    let leaf = Arc::clone(&identity.leaf);
    let channel = identity.channel(&world.options.apiservers).unwrap();
    let (wanted, seen) = watch::channel(Wanted::default());
    let (held, _shown) = watch::channel(v1::Credentials::default());
    let renewal = Renewal::new(identity, channel, seen, held);
    let stop = world.shutdown.clone();
    world.tasks.spawn("renewal", OnExit::Shutdown, async move {
        renewal.run(stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    let deadline = Instant::now() + PATIENT;
    while leaf.get().is_expired() {
        assert!(Instant::now() < deadline, "no fresh leaf");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(wanted);
    assert_eq!(world.shown().len(), 2);
    let stored = Files::under(&world.options.state_dir).load_leaf().unwrap();
    assert_eq!(stored.certificate_pem(), leaf.get().certificate_pem());
    world.end().await;
}
