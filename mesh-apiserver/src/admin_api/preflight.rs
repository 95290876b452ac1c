//! What would keep this cluster and another one apart: what both declare, and whether this side reaches the other.

use std::time::Duration;

use certs::client::failure::TlsFailure;
use certs::client::reach::{Unreachable, reach};
use certs::{ClientTls, Trust, TrustBundle};
use federation::join::preflight::{self, Finding, Severity, of_certificate, of_mtu};
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
        let leaf = self.remote.get();
        let whose = format!("the certificate {} that {} shows to other clusters", leaf.common_name(), own.name);
        findings.push(of_certificate(&whose, leaf.validity().not_after, Timestamp::now()));
        let agents = self.agents(self.parties.others.agents().await).await?;
        findings.push(self.of_agents(&agents));
        let sizes = sizes(agents);
        findings.extend(of_mtu(own.name.as_str(), &sizes));
        let findings = findings.into_iter().map(message).collect();
        let inner_mtu = sizes.iter().map(|(_, mtu)| *mtu).min().unwrap_or_default();
        Ok(v1::PreflightResponse { findings, now_unix_nanos: clock::unix_nanos(), inner_mtu })
    }

    /// Without an agent on its nodes a cluster joins in name only.
    fn of_agents(&self, agents: &[v1::AgentStatus]) -> Finding {
        let connected = agents.iter().filter(|agent| agent.connected).count();
        let text = format!("{connected} of {} agents of {} are connected", agents.len(), self.cluster);
        if connected > 0 && connected == agents.len() {
            return Finding::new(Severity::Pass, "agents", text);
        }
        let remedy = "start node-agent on its nodes: without it their pods reach nothing of another cluster";
        Finding::new(Severity::Warn, "agents", format!("{text}: {remedy}"))
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
                Ok(reached) => {
                    let text = format!("{} reaches the {what} of {} at {address}", own.name, other.name);
                    let whose = format!("the certificate of the {what} of {} at {address}", other.name);
                    vec![
                        Finding::new(Severity::Pass, "reach", text),
                        of_certificate(&whose, reached.not_after, Timestamp::now()),
                    ]
                }
                Err(error) => vec![unreached(own, other, what, error)],
            }
        }
    });
    join_all(attempts).await.into_iter().flatten().collect()
}

fn unreached(own: &Declaration, other: &Declaration, what: &str, error: Unreachable) -> Finding {
    let (own, other) = (&own.name, &other.name);
    let error = match error {
        Unreachable::Tls { source, address } => match TlsFailure::from(source) {
            failure @ TlsFailure::WrongTime(_) => {
                let text = format!("the {what} of {other} at {address}: {}", ErrorChain(&failure));
                return Finding::new(Severity::Fail, "certificate", text);
            }
            failure => format!(
                "{address} takes connections, but another server than the expected one answers: {}",
                ErrorChain(&failure)
            ),
        },
        error => ErrorChain(&error).to_string(),
    };
    let text = format!(
        "{own} does not reach the {what} of {other}: {error}: open that port to the API servers of {own}, or correct \
         --advertise-address there"
    );
    Finding::new(Severity::Fail, "reach", text)
}

/// Each node whose agent is connected and says how large a packet its tunnel takes.
fn sizes(agents: Vec<v1::AgentStatus>) -> Vec<(String, u32)> {
    let connected = agents.into_iter().filter(|agent| agent.connected);
    let said = connected.filter_map(|agent| Some((agent.node, agent.report?.inner_mtu)));
    said.filter(|(_, mtu)| *mtu > 0).collect()
}

fn message(finding: Finding) -> v1::Finding {
    let severity = match finding.severity {
        Severity::Pass => v1::Severity::Pass,
        Severity::Warn => v1::Severity::Warn,
        Severity::Fail => v1::Severity::Fail,
    };
    v1::Finding { severity: severity.into(), check: finding.check.to_owned(), text: finding.text }
}
