//! What would keep this cluster and another one apart: what both declare, and whether this side reaches the other.

use std::time::Duration;

use certs::client::reach::reach;
use certs::{ClientTls, Trust, TrustBundle};
use federation::join::preflight::{self, Finding, Severity};
use federation::{Declaration, peer};
use futures::future::join_all;
use jiff::Timestamp;
use mesh_proto::v1;
use mesh_runtime::{ErrorChain, clock};
use tonic::Status;

use super::AdminApi;
use crate::own;

/// For one address.
const REACHED_WITHIN: Duration = Duration::from_secs(3);

impl AdminApi {
    pub(super) async fn look_at(&self, other: Option<v1::ClusterDeclaration>) -> Result<v1::PreflightResponse, Status> {
        let other = other.ok_or_else(|| Status::invalid_argument("the other cluster's declaration is missing"))?;
        let other = Declaration::try_from(other).map_err(|e| Status::invalid_argument(ErrorChain(&e).to_string()))?;
        let own = own::declaration(&*self.store).await?;
        let peers = peer::list(&*self.store).await.map_err(|e| Status::unavailable(ErrorChain(&e).to_string()))?;
        let peers: Vec<Declaration> = peers.into_iter().map(|peer| peer.declaration).collect();
        let mut findings = preflight::compare(&own, &other, &peers, Timestamp::now());
        findings.extend(reaches(&own, &other).await);
        findings.push(self.of_agents().await?);
        let findings = findings.into_iter().map(message).collect();
        Ok(v1::PreflightResponse { findings, now_unix_nanos: clock::unix_nanos() })
    }

    /// Without an agent on its nodes a cluster joins in name only.
    async fn of_agents(&self) -> Result<Finding, Status> {
        let agents = self.agents(self.parties.others.agents().await).await?;
        let connected = agents.iter().filter(|agent| agent.connected).count();
        let text = format!("{connected} of {} agents of {} are connected", agents.len(), self.cluster);
        if connected > 0 && connected == agents.len() {
            return Ok(Finding::new(Severity::Pass, "agents", text));
        }
        let remedy = "start node-agent on its nodes: without it their pods reach nothing of another cluster";
        Ok(Finding::new(Severity::Warn, "agents", format!("{text}: {remedy}")))
    }
}

/// Every address of the other side, by what it is for.
async fn reaches(own: &Declaration, other: &Declaration) -> Vec<Finding> {
    let tls = TrustBundle::from_pem(&other.trust_bundle_pem)
        .ok()
        .and_then(|bundle| ClientTls::new(&Trust::Bundle(bundle), None, &other.server_name()).ok());
    // A bundle that cannot be used is told of already.
    let Some(tls) = tls else { return Vec::new() };
    let kinds = [("etcd API", &other.etcd_endpoints), ("mesh port", &other.mesh_endpoints)];
    let asked = kinds.iter().flat_map(|(what, endpoints)| endpoints.iter().map(move |address| (*what, address)));
    let attempts = asked.map(|(what, address)| {
        let tls = &tls;
        async move {
            match reach(address, tls, REACHED_WITHIN).await {
                Ok(()) => Finding::new(
                    Severity::Pass,
                    "reach",
                    format!("{} reaches the {what} of {} at {address}", own.name, other.name),
                ),
                Err(error) => Finding::new(
                    Severity::Fail,
                    "reach",
                    format!(
                        "{} does not reach the {what} of {}: {}: open that port to the API servers of {}, or correct \
                         --advertise-address there",
                        own.name,
                        other.name,
                        ErrorChain(&error),
                        own.name
                    ),
                ),
            }
        }
    });
    join_all(attempts).await
}

fn message(finding: Finding) -> v1::Finding {
    let severity = match finding.severity {
        Severity::Pass => v1::Severity::Pass,
        Severity::Warn => v1::Severity::Warn,
        Severity::Fail => v1::Severity::Fail,
    };
    v1::Finding { severity: severity.into(), check: finding.check.to_owned(), text: finding.text }
}
