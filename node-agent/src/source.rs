//! The stream of the merged view, from whichever API server answers.
//!
//! Owns the place to resume at. Must never withdraw anything: a lost stream is a pause, and the next one says from where it
//! goes on.

use std::time::Duration;

use mesh_proto::v1;
use mesh_proto::v1::agent_client::AgentClient;
use mesh_proto::v1::subscribe_response::Message;
use mesh_runtime::{Backoff, ErrorChain, Shutdown};
use mesh_types::view::{Delta, Key, Object};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::control::Event;
use crate::metrics::Metrics;
use crate::underlay;

pub mod reporter;

/// The API server speaks at least every 5 s.
const SILENCE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(5);

/// What others must know of this node.
#[derive(Debug, Clone)]
pub struct Registration {
    pub wireguard_key: [u8; 32],
    pub wireguard_port: u16,
    pub vxlan_port: u16,
    pub kernel: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {call}: {message} ({code:?})")]
    Call { call: &'static str, code: Code, message: String },
    #[error(
        "the API server calls itself cluster {found}, this node is of {wanted}: check --apiserver and --cluster-name"
    )]
    OtherCluster { found: String, wanted: String },
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the API server ended the stream")]
    Ended,
    #[error("the agent is stopping")]
    Stopping,
}

/// Where a stream can go on.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    cluster_id: u64,
    revision: i64,
}

pub struct Source {
    client: AgentClient<Channel>,
    cluster: String,
    registration: Registration,
    events: mpsc::Sender<Event>,
    underlay: watch::Receiver<underlay::State>,
    metrics: Metrics,
    position: Position,
    /// In the middle of a snapshot there is no place to resume at.
    in_snapshot: bool,
}

impl Source {
    pub fn new(
        channel: Channel,
        cluster: String,
        registration: Registration,
        events: mpsc::Sender<Event>,
        underlay: watch::Receiver<underlay::State>,
        metrics: Metrics,
    ) -> Self {
        let client = AgentClient::new(channel).max_decoding_message_size(64 << 20);
        let position = Position::default();
        Self { client, cluster, registration, events, underlay, metrics, position, in_snapshot: false }
    }

    pub async fn run(mut self, shutdown: Shutdown) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while !shutdown.is_requested() {
            let before = self.position.revision;
            let Some(ended) = shutdown.unless_requested(self.follow()).await else { return };
            if let Err(error) = ended {
                tracing::warn!(error = %ErrorChain(&error), revision = self.position.revision, "the view's stream");
            }
            self.metrics.disconnected();
            if self.position.revision != before {
                backoff.reset();
            }
            shutdown.unless_requested(backoff.wait()).await;
        }
    }

    /// One stream, until it ends.
    async fn follow(&mut self) -> Result<(), Error> {
        let backend = self.register().await?;
        let Position { cluster_id, revision } = self.position;
        let request = v1::SubscribeRequest { cluster_id, revision };
        let stream = self.client.subscribe(request).await.map_err(failed("subscribe to the view"))?;
        let mut stream = stream.into_inner();
        self.in_snapshot = false;
        self.send(Event::Connected).await?;
        self.metrics.connected();
        tracing::info!(revision, "following the view");
        let mut underlay = self.underlay.clone();
        let mut told = backend;
        loop {
            // The kind of WireGuard is known only once there is a plan.
            let is_new = |state: &underlay::State| state.backend.is_some_and(|b| b.to_string() != told);
            tokio::select! {
                message = next(&mut stream) => self.take(message?).await?,
                true = async { underlay.wait_for(is_new).await.is_ok() } => told = self.register().await?,
            }
        }
    }

    /// Returns the kind of WireGuard that was told.
    async fn register(&mut self) -> Result<String, Error> {
        let backend = self.underlay.borrow().backend.map_or_else(|| "none".to_owned(), |b| b.to_string());
        let registration = &self.registration;
        let mut request = tonic::Request::new(v1::RegisterRequest {
            wireguard_key: bytes::Bytes::copy_from_slice(&registration.wireguard_key),
            wireguard_port: registration.wireguard_port.into(),
            vxlan_port: registration.vxlan_port.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: registration.kernel.clone(),
            wireguard_backend: backend.clone(),
        });
        request.set_timeout(PATIENCE);
        let answer = self.client.register(request).await.map_err(failed("register this node"))?.into_inner();
        if answer.cluster != self.cluster {
            return Err(Error::OtherCluster { found: answer.cluster, wanted: self.cluster.clone() });
        }
        Ok(backend)
    }

    async fn take(&mut self, response: v1::SubscribeResponse) -> Result<(), Error> {
        let cluster_id = response.cluster_id;
        match response.message {
            Some(Message::SnapshotBegin(_)) => {
                self.in_snapshot = true;
                self.send(Event::SnapshotBegin).await
            }
            Some(Message::Delta(delta)) => {
                let delta = self.decode(delta);
                if !self.in_snapshot {
                    self.position = Position { cluster_id, revision: delta.revision };
                }
                self.send(Event::Delta(delta)).await
            }
            Some(Message::Prune(prune)) => {
                self.in_snapshot = false;
                self.position = Position { cluster_id, revision: prune.revision };
                self.send(Event::Prune { revision: prune.revision }).await
            }
            Some(Message::KeepAlive(alive)) => {
                if !self.in_snapshot {
                    self.position = Position { cluster_id, revision: alive.revision };
                }
                Ok(())
            }
            // A newer server's message: what an agent must know comes in the ones above.
            None => Ok(()),
        }
    }

    /// An object that does not convert is left out alone.
    fn decode(&self, delta: v1::Delta) -> Delta {
        let mut out = Delta { revision: delta.revision, ..Delta::default() };
        for object in delta.upserts {
            match Object::try_from(object) {
                Ok(object) => out.upserts.push(object),
                Err(error) => self.malformed(&error),
            }
        }
        for key in delta.deletes {
            match Key::try_from(key) {
                Ok(key) => out.deletes.push(key),
                Err(error) => self.malformed(&error),
            }
        }
        for origin in delta.origin_times {
            if let Ok(cluster) = origin.cluster.parse() {
                out.origin_times.insert(cluster, origin.unix_nanos);
            }
        }
        out
    }

    fn malformed(&self, error: &mesh_proto::convert::Error) {
        self.metrics.malformed();
        tracing::warn!(%error, "left out an object of the view");
    }

    async fn send(&self, event: Event) -> Result<(), Error> {
        self.events.send(event).await.map_err(|_receiver_gone| Error::Stopping)
    }
}

async fn next(stream: &mut Streaming<v1::SubscribeResponse>) -> Result<v1::SubscribeResponse, Error> {
    match tokio::time::timeout(SILENCE, stream.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(Error::Ended),
        Ok(Err(status)) => Err(failed("follow the view")(status)),
        Err(_elapsed) => Err(Error::Silent),
    }
}

fn failed(call: &'static str) -> impl FnOnce(Status) -> Error {
    move |status| Error::Call { call, code: status.code(), message: status.message().to_owned() }
}
