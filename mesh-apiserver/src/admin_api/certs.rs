//! Certificates: shown with their ends, renewed, and the rotation of the CA begun and taken back.

use std::collections::BTreeSet;
use std::sync::Arc;

use certs::TrustBundle;
use certs::rotation::{Missing, Refusal, Rotation, Step};
use federation::join::tokens::Tokens;
use federation::peer;
use mesh_proto::v1;
use mesh_runtime::{ErrorChain, clock};
use tonic::Status;

use super::AdminApi;
use crate::agent_api::unavailable;
use crate::rotation::{self, Census, LeafRequests, OVERLAP, ca_row, read_ca, read_leaves, replace_ca};

impl AdminApi {
    /// Everything at once, as the holder of the controller's role knows it.
    pub(super) async fn certificates(&self) -> Result<v1::GetCertificatesResponse, Status> {
        let census = self.parties.ask().await.map_err(|error| unavailable(&error))?;
        let record = read_ca(&*self.store).await.map_err(|error| refused(&error))?.value;
        let requests = read_leaves(&*self.store).await.map_err(|error| refused(&error))?;
        let mut certificates: Vec<v1::Certificate> =
            self.authorities.own_bundle().facts().iter().map(|ca| ca_row("this cluster", ca)).collect();
        certificates.extend(census.replicas.values().flat_map(|held| held.certificates.clone()));
        certificates.extend(census.agents.iter().filter_map(agent_row));
        for record in peer::list(&*self.store).await.map_err(|e| Status::unavailable(ErrorChain(&e).to_string()))? {
            let holder = format!("peer {}", record.declaration.name);
            // One that cannot be read is what the peer's session says.
            let Ok(bundle) = TrustBundle::from_pem(&record.declaration.trust_bundle_pem) else { continue };
            certificates.extend(bundle.facts().iter().map(|ca| ca_row(&holder, ca)));
        }
        let silent = census.reports(&[]).into_iter().filter(|report| report.held.is_none());
        let old_clients = census.replicas.values().flat_map(|held| held.old_clients.iter().cloned());
        Ok(v1::GetCertificatesResponse {
            certificates,
            rotation: record.as_ref().map(|record| self.shown(record, &census)),
            leaves_awaited: leaves_awaited(&requests, &census),
            silent: silent.map(|report| missing(&Missing { party: report.party, what: report.note })).collect(),
            now_unix_nanos: clock::unix_nanos(),
            old_clients: old_clients.collect::<BTreeSet<_>>().into_iter().collect(),
            open_tokens: self.open_tokens().await?,
        })
    }

    /// Tokens that can still be used. They name the CA that was in use when they were made.
    async fn open_tokens(&self) -> Result<u32, Status> {
        let tokens = Tokens::new(Arc::clone(&self.store)).list().await;
        let tokens = tokens.map_err(|error| Status::unavailable(ErrorChain(&error).to_string()))?;
        let now = clock::unix_seconds();
        let is_open = |token: &&federation::join::TokenRecord| {
            token.redeemed_by.is_none() && token.revoked_unix_seconds.is_none() && token.expires_unix_seconds > now
        };
        Ok(u32::try_from(tokens.iter().filter(is_open).count()).unwrap_or(u32::MAX))
    }

    fn shown(&self, record: &Rotation, census: &Census) -> v1::CaRotation {
        let reports = census.reports(&self.controller.peer_snapshots());
        let awaited = match record.step(clock::unix_seconds(), OVERLAP, &reports) {
            Step::Wait(missing) => missing,
            Step::Rest | Step::Enter(_) => Vec::new(),
        };
        v1::CaRotation { awaited: awaited.iter().map(missing).collect(), ..row(record) }
    }

    pub(super) async fn rotate_leaves_of(&self, names: Vec<String>) -> Result<v1::RotateLeavesResponse, Status> {
        let known = self.certificates().await?.certificates;
        let known: BTreeSet<&str> = known.iter().filter(|row| !row.is_ca).map(|row| row.name.as_str()).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(Status::not_found(format!("no leaf here is named {unknown:?}: there are {known}")));
        }
        let asked = rotation::request_leaves(&*self.store, &names, clock::unix_seconds()).await;
        asked.map_err(|error| refused(&error))?;
        let names = if names.is_empty() { known.into_iter().map(str::to_owned).collect() } else { names };
        tracing::info!(?names, "leaves are renewed as an administrator asked");
        Ok(v1::RotateLeavesResponse { names })
    }

    /// On the replica that holds the controller's role, so that one of them makes the new CA.
    pub(super) async fn begin_rotation(&self) -> Result<v1::RotateCaResponse, Status> {
        let known = read_ca(&*self.store).await.map_err(|error| refused(&error))?;
        if let Some(record) = known.value.as_ref().filter(|record| !record.stage.is_over()) {
            return Err(refusal(&Refusal::Running { stage: record.stage }));
        }
        let problem = self.parties.following.problem();
        if !problem.is_empty() {
            let text = format!("this replica has not followed the last rotation to its end: {problem}");
            return Err(Status::failed_precondition(text));
        }
        let credentials = &self.parties.credentials;
        let made = credentials.keep.make_next().await;
        let next = made.map_err(|error| Status::failed_precondition(ErrorChain(&error).to_string()))?;
        let old = credentials.ca.get();
        let record = Rotation::begin(
            known.value.as_ref(),
            (old.hash(), &old.bundle()),
            (next.hash(), &next.bundle()),
            clock::unix_seconds(),
        )
        .map_err(|error| refusal(&error))?;
        if !replace_ca(&*self.store, &known, &record).await.map_err(|error| refused(&error))? {
            return Err(Status::aborted("another rotation was begun at the same time: see `meshctl certs status`"));
        }
        tracing::info!(old = %record.old, new = %record.new, "a rotation of the CA begins");
        Ok(v1::RotateCaResponse { rotation: Some(row(&record)) })
    }

    pub(super) async fn abort_rotation(&self) -> Result<v1::AbortCaRotationResponse, Status> {
        loop {
            let known = read_ca(&*self.store).await.map_err(|error| refused(&error))?;
            let record = known.value.as_ref().ok_or_else(|| refusal(&Refusal::Nothing))?;
            let next = record.abort(clock::unix_seconds()).map_err(|error| refusal(&error))?;
            // Otherwise it has just entered its next stage, from which it may be aborted as well, or not.
            if replace_ca(&*self.store, &known, &next).await.map_err(|error| refused(&error))? {
                tracing::warn!(from = %record.stage, to = %next.stage, "the rotation of the CA is aborted");
                return Ok(v1::AbortCaRotationResponse { rotation: Some(row(&next)) });
            }
        }
    }
}

fn row(record: &Rotation) -> v1::CaRotation {
    v1::CaRotation {
        stage: record.stage.to_string(),
        old_ca: record.old.to_string(),
        new_ca: record.new.to_string(),
        started_unix_nanos: record.started_unix_seconds.saturating_mul(1_000_000_000),
        since_unix_nanos: record.since_unix_seconds.saturating_mul(1_000_000_000),
        awaited: Vec::new(),
        is_over: record.stage.is_over(),
    }
}

fn missing(missing: &Missing) -> v1::MissingParty {
    v1::MissingParty { party: missing.party.to_string(), what: missing.what.clone() }
}

fn agent_row(agent: &v1::AgentStatus) -> Option<v1::Certificate> {
    let held = agent.report.as_ref()?.credentials.as_ref()?;
    Some(v1::Certificate {
        holder: format!("agent {}", agent.node),
        name: format!("agent-{}", agent.node),
        is_ca: false,
        ca: held.issuer.clone(),
        not_before_unix_nanos: held.not_before_unix_nanos,
        not_after_unix_nanos: held.not_after_unix_nanos,
        renew_unix_nanos: held.renew_unix_nanos,
    })
}

/// Who was asked for fresh leaves and has not made them.
fn leaves_awaited(requests: &LeafRequests, census: &Census) -> Vec<v1::MissingParty> {
    let behind = |party: String, what: &str| v1::MissingParty { party, what: what.to_owned() };
    let silent = census.silent.iter().map(|number| (format!("replica {number}"), "does not answer"));
    let replicas = census.replicas.values().filter(|held| held.leaves_epoch < requests.epoch);
    let replicas = replicas.map(|held| (format!("replica {}", held.replica), "has not renewed its leaves yet"));
    let agents = census.agents.iter().filter_map(|agent| {
        let wanted = requests.of(&format!("agent-{}", agent.node));
        let held = agent.report.as_ref().and_then(|report| report.credentials.as_ref());
        let is_done = held.is_some_and(|held| held.leaf_epoch >= wanted);
        let what = if agent.connected { "has not renewed its leaf yet" } else { "is not connected" };
        (wanted > 0 && !is_done).then(|| (format!("agent {}", agent.node), what))
    });
    let silent = silent.filter(|_| requests.epoch > 0);
    silent.chain(replicas).chain(agents).map(|(party, what)| behind(party, what)).collect()
}

fn refusal(error: &Refusal) -> Status {
    Status::failed_precondition(error.to_string())
}

fn refused(error: &rotation::Error) -> Status {
    let text = ErrorChain(error).to_string();
    match error {
        rotation::Error::Store { .. } => Status::unavailable(text),
        rotation::Error::Record { .. } => Status::internal(text),
        rotation::Error::Contended { .. } => Status::aborted(text),
    }
}
