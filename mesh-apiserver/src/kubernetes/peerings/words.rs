//! What people are told of a ClusterPeering: a reason for each trouble with its remedy, conditions, the status. Pure.
//!
//! Never quotes a token: the errors that it repeats do not.

use certs::Token;
use federation::join::{CiliumError, DeclaredError, RedeemError};
use federation::peer::PeerRecord;
use federation::state::{Standing, State};
use mesh_runtime::ErrorChain;
use mesh_types::ClusterName;
use mesh_types::view::Encryption;

use super::decide::Wish;
use crate::kubernetes::client::Error;
use crate::kubernetes::crd::{ClusterPeeringStatus, Said, SecretRef, merged};
use crate::membership::JoinError;

/// Conditions and Events hold no more.
const LONGEST: usize = 900;

/// Why an object is not what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The spec itself is at fault, or what it refers to; else the other cluster, or the way to it.
    pub(super) is_of_spec: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Trouble {
    fn of_spec(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_of_spec: true, reason, message: cut(message.into()) }
    }

    fn elsewhere(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_of_spec: false, reason, message: cut(message.into()) }
    }

    pub(super) fn malformed(error: &str) -> Self {
        let remedy = "correct the object; kubectl explain clusterpeering.spec says what it may hold";
        Self::of_spec("Malformed", format!("{error}: {remedy}"))
    }

    pub(super) fn own_name(name: &ClusterName) -> Self {
        Self::of_spec(
            "OwnName",
            format!("this cluster is named {name} itself: name the object after the other cluster"),
        )
    }

    pub(super) fn encryption(asked: Encryption, runs: Encryption) -> Self {
        let word = |choice| if choice == Encryption::Wireguard { "wireguard" } else { "none" };
        let (asked, runs) = (word(asked), word(runs));
        let text = format!(
            "spec.encryption is {asked}, and this cluster runs with {runs}, as all of its peers do: leave it out, or change \
             the mesh (helm upgrade --set cluster.encryption={asked}, in every cluster)"
        );
        Self::of_spec("EncryptionDiffers", text)
    }

    pub(super) fn no_secret(namespace: &str, of: &SecretRef) -> Self {
        let SecretRef { name, key } = of;
        let remedy = format!("kubectl create secret generic {name} -n {namespace} --from-file={key}=FILE");
        Self::of_spec("SecretMissing", format!("there is no Secret {namespace}/{name}: make it ({remedy})"))
    }

    pub(super) fn no_key(namespace: &str, of: &SecretRef, found: &[&str]) -> Self {
        let SecretRef { name, key } = of;
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        let text =
            format!("Secret {namespace}/{name} has no text under {key:?}: it holds {found}; name that key, or add it");
        Self::of_spec("SecretKeyMissing", text)
    }

    pub(super) fn unread(error: &Error) -> Self {
        let reason = if matches!(error, Error::Forbidden { .. }) { "SecretForbidden" } else { "KubernetesUnreachable" };
        Self::elsewhere(reason, ErrorChain(error).to_string())
    }

    pub(super) fn declared(error: impl std::fmt::Display) -> Self {
        Self::of_spec("Malformed", error.to_string())
    }

    pub(super) fn contended() -> Self {
        Self::elsewhere("Contended", "the membership was changed by somebody else at the same moment: tried again")
    }

    pub(super) fn of_store(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::elsewhere("StoreUnavailable", ErrorChain(error).to_string())
    }

    pub(super) fn of_join(error: &JoinError) -> Self {
        let (is_of_spec, reason) = match error {
            JoinError::Own(_) => (false, "StoreUnavailable"),
            JoinError::Redeem(error) => of_redeem(error),
            JoinError::Declared(error) => match error {
                DeclaredError::IsCilium { .. } | DeclaredError::Stranger { .. } => (true, "OtherCluster"),
                DeclaredError::Conflict(_) => (true, "Conflict"),
                DeclaredError::Trust { .. } => (true, "TrustUnusable"),
                DeclaredError::Peers(_) | DeclaredError::Store { .. } => (false, "StoreUnavailable"),
            },
            JoinError::Cilium(CiliumError::Unreachable { .. }) => (false, "PeerUnreachable"),
            JoinError::Cilium(_) => (true, "Conflict"),
        };
        Self { is_of_spec, reason, message: cut(ErrorChain(error).to_string()) }
    }
}

fn of_redeem(error: &RedeemError) -> (bool, &'static str) {
    match error {
        RedeemError::Token(_) | RedeemError::WrongKind { .. } => (true, "TokenUnusable"),
        RedeemError::WrongBearer { .. } => (true, "TokenOfAnother"),
        RedeemError::Expired { .. } => (true, "TokenExpired"),
        RedeemError::Conflict(_) => (true, "Conflict"),
        RedeemError::Unreachable { .. } | RedeemError::Timeout { .. } | RedeemError::Tls { .. } => {
            (false, "PeerUnreachable")
        }
        RedeemError::Refused { .. } => (false, "PeerRefused"),
        RedeemError::NoCluster { .. } | RedeemError::Declaration { .. } => (false, "PeerMalformed"),
        RedeemError::OtherCa { .. } | RedeemError::OtherClaims { .. } | RedeemError::Trust(_) => (true, "OtherCluster"),
        RedeemError::Peers(_) | RedeemError::Store { .. } => (false, "StoreUnavailable"),
    }
}

/// A token joins the cluster that it is of, so the object has to have its name.
pub(super) fn token_is_of(text: &str, name: &str) -> Result<(), Trouble> {
    let Ok(token) = Token::parse(text) else { return Ok(()) };
    let found = &token.issuer.name;
    if found.as_str() == name {
        return Ok(());
    }
    let text = format!(
        "the token is of cluster {found}, and the object is named {name}: name it {found}, or take a token of {name}"
    );
    Err(Trouble::of_spec("TokenOfAnother", text))
}

pub(super) fn token_is_of_record(text: &str, record: &PeerRecord) -> Result<(), Trouble> {
    let Ok(token) = Token::parse(text) else { return Ok(()) };
    let (found, known) = (token.issuer.uuid, record.declaration.uuid);
    if found == known {
        return Ok(());
    }
    let name = &record.declaration.name;
    let text = format!(
        "the token is of another cluster {name} (uuid {found}) than the one that is joined (uuid {known}): if it was rebuilt, \
         part from the former one first (meshctl disconnect, or delete this object and apply it again)"
    );
    Err(Trouble::of_spec("OtherCluster", text))
}

/// The status to be: `record` is the membership that the object holds.
pub(super) fn status(
    wish: &Wish,
    trouble: Option<&Trouble>,
    record: Option<&PeerRecord>,
    standing: Option<&Standing>,
    now: &str,
) -> ClusterPeeringStatus {
    let said = conditions(wish, trouble, record, standing);
    let declaration = record.map(|record| &record.declaration);
    ClusterPeeringStatus {
        id: declaration.map(|said| said.id.get()),
        uuid: declaration.map(|said| said.uuid.to_string()),
        endpoints: declaration.map(|said| said.etcd_endpoints.clone()).unwrap_or_default(),
        state: standing.map(|standing| standing.state.to_string()),
        conditions: merged(&wish.status.conditions, said, wish.generation, now),
    }
}

fn conditions(
    wish: &Wish,
    trouble: Option<&Trouble>,
    record: Option<&PeerRecord>,
    standing: Option<&Standing>,
) -> Vec<Said> {
    let one = |kind, status, reason: &str, message: &str| Said {
        kind,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let accepted = match trouble.filter(|trouble| trouble.is_of_spec) {
        Some(trouble) => one("Accepted", false, trouble.reason, &trouble.message),
        None => one("Accepted", true, "Accepted", "the spec can be used"),
    };
    let joined = match (record, trouble) {
        (Some(record), _) => {
            let text = format!("this cluster and {} are in one mesh", record.declaration.name);
            one("Joined", true, "Joined", &text)
        }
        (None, Some(trouble)) => one("Joined", false, trouble.reason, &trouble.message),
        (None, None) if wish.is_deleted => one("Joined", false, "Parted", "the object is being deleted"),
        (None, None) => {
            let text = format!(
                "no token and no declaration is given: waits for {name} to join (meshctl token create --peer {name} makes a \
                 token for it), or for meshctl connect",
                name = wish.name
            );
            one("Joined", false, "WaitingForPeer", &text)
        }
    };
    let ready = match (record, standing) {
        (Some(_), Some(standing)) => {
            let is_used = matches!(standing.state, State::Live | State::Stale);
            one("Ready", is_used, standing.state.name(), &cut(standing.reason.clone()))
        }
        (Some(_), None) => one("Ready", false, "Starting", "its session has not begun yet"),
        (None, _) => one("Ready", false, "NotJoined", "see condition Joined"),
    };
    vec![accepted, joined, ready]
}

pub(super) fn differ_in_messages_alone(one: &ClusterPeeringStatus, other: &ClusterPeeringStatus) -> bool {
    let without = |status: &ClusterPeeringStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.message.clear();
        }
        status
    };
    one != other && without(one) == without(other)
}

fn cut(text: String) -> String {
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}
