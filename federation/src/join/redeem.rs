//! The side that got the token: checks what it says, calls its issuer over TLS pinned to its CA, stores the new peer.

use std::sync::Arc;
use std::time::Duration;

use certs::token::{self, Bearer, Claims, Kind, Token};
use certs::{CaHash, ChannelOptions, ClientTls, Trust, TrustBundle, channel};
use mesh_proto::v1;
use mesh_proto::v1::join_client::JoinClient;
use mesh_store::Store;

use super::accept::{AcceptError, compare_trust, record};
use super::check::{Conflict, check_claims};
use crate::peer::{self, Declaration, PeerRecord, WireError, server_name};

const CALL: Duration = Duration::from_secs(10);

/// What joining led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub peer: PeerRecord,
    /// It was joined before, and nothing changed.
    pub already: bool,
}

/// Why a token could not be redeemed. Nothing has been changed here; the message says where to look.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    #[error(transparent)]
    Token(#[from] token::Error),
    #[error(
        "this is a {found} token: to connect clusters a join token is needed, made by `meshctl token create` at the peer"
    )]
    WrongKind { found: Kind },
    #[error("token {id} is for {bearer}, but this is {own}: make one for {own}, or use it there")]
    WrongBearer { id: String, bearer: Bearer, own: Bearer },
    #[error("token {id} expired {ago} s ago: make a new one, and check the clocks if this surprises you")]
    Expired { id: String, ago: u64 },
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("cannot call {peer} at {}", endpoints.join(", "))]
    Tls { peer: String, endpoints: Vec<String>, source: certs::client::Error },
    #[error("{peer} could not be reached at {}", endpoints.join(", "))]
    Unreachable { peer: String, endpoints: Vec<String>, source: tonic::Status },
    #[error("{peer} refused: {reason}")]
    Refused { peer: String, reason: String },
    #[error("{peer} did not answer within {} s", CALL.as_secs())]
    Timeout { peer: String },
    #[error("the answer of {peer} names no cluster")]
    NoCluster { peer: String },
    #[error("the declaration of {peer} cannot be used")]
    Declaration { peer: String, source: WireError },
    #[error("the trust bundle of {peer} does not hold the CA that the token names ({pinned})")]
    OtherCa { peer: String, pinned: CaHash },
    #[error("the cluster that answered declares something else than its token said: make a new token there")]
    OtherClaims { said: Box<Claims>, token: Box<Claims> },
    #[error("the trust bundles of both sides do not go together")]
    Trust(#[source] Box<AcceptError>),
    #[error(transparent)]
    Peers(#[from] peer::Error),
    #[error("{peer} has joined, but it could not be stored here: connect again with the same token")]
    Store { peer: String, source: mesh_store::backend::Error },
}

/// Serves `ConnectPeer`.
pub async fn redeem_and_store(
    store: &Arc<dyn Store>,
    own: &Declaration,
    text: &str,
    now_unix_nanos: u64,
) -> Result<Joined, RedeemError> {
    let token = Token::parse(text)?;
    check_token(&token, own, now_unix_nanos / 1_000_000_000)?;
    let peers = peer::list(&**store).await?;
    let claims: Vec<Claims> = peers.iter().map(|peer| Claims::from(&peer.declaration)).collect();
    check_claims(&own.into(), &token.issuer, &claims)?;

    let said = call(&token, own, text).await?;
    check_answer(&token, own, &said)?;
    for peer in peers.iter().filter(|peer| peer.declaration.name != said.name) {
        compare_trust(&peer.declaration, &said).map_err(|error| RedeemError::Trust(Box::new(error)))?;
    }

    let name = said.name.clone();
    let known = peers.iter().find(|peer| peer.declaration.name == name).cloned();
    let Some(peer) = record(peers, said, now_unix_nanos) else {
        let peer = known.expect("nothing is to be stored only when the peer is stored already");
        return Ok(Joined { peer, already: true });
    };
    let stored = store.put(peer.to_put()).await;
    stored.map_err(|source| RedeemError::Store { peer: name.to_string(), source })?;
    tracing::info!(peer = %name, id = %peer.declaration.id, "joined");
    Ok(Joined { peer, already: false })
}

fn check_token(token: &Token, own: &Declaration, now_unix_seconds: u64) -> Result<(), RedeemError> {
    if token.kind != Kind::Join {
        return Err(RedeemError::WrongKind { found: token.kind });
    }
    let own = Bearer::Cluster { name: own.name.clone(), id: own.id };
    if token.bearer != own {
        return Err(RedeemError::WrongBearer { id: token.id.clone(), bearer: token.bearer.clone(), own });
    }
    if token.is_expired(now_unix_seconds) {
        let ago = now_unix_seconds - token.expires_unix_seconds;
        return Err(RedeemError::Expired { id: token.id.clone(), ago });
    }
    Ok(())
}

async fn call(token: &Token, own: &Declaration, text: &str) -> Result<Declaration, RedeemError> {
    let peer = token.issuer.name.to_string();
    let endpoints = token.endpoints.clone();
    let tls = ClientTls::new(&Trust::Pinned(token.ca), None, &server_name(&token.issuer.name));
    let tls = tls.map_err(|source| RedeemError::Tls { peer: peer.clone(), endpoints: endpoints.clone(), source })?;
    let mut client = JoinClient::new(channel(&endpoints, &tls, &ChannelOptions::default()));
    let request = v1::JoinRequest { token: text.trim().to_owned(), cluster: Some(own.into()) };
    let answer = tokio::time::timeout(CALL, client.join(request)).await;
    let answer = answer.map_err(|_elapsed| RedeemError::Timeout { peer: peer.clone() })?;
    let answer = answer.map_err(|status| match std::error::Error::source(&status) {
        Some(_) => RedeemError::Unreachable { peer: peer.clone(), endpoints: endpoints.clone(), source: status },
        None => RedeemError::Refused { peer: peer.clone(), reason: status.message().to_owned() },
    })?;
    let said = answer.into_inner().cluster.ok_or_else(|| RedeemError::NoCluster { peer: peer.clone() })?;
    Declaration::try_from(said).map_err(|source| RedeemError::Declaration { peer, source })
}

fn check_answer(token: &Token, own: &Declaration, said: &Declaration) -> Result<(), RedeemError> {
    let claims = Claims::from(said);
    if claims != token.issuer {
        return Err(RedeemError::OtherClaims { said: Box::new(claims), token: Box::new(token.issuer.clone()) });
    }
    compare_trust(own, said).map_err(|error| RedeemError::Trust(Box::new(error)))?;
    let bundle = TrustBundle::from_pem(&said.trust_bundle_pem)
        .map_err(|source| RedeemError::Trust(Box::new(AcceptError::TrustBundle(source))))?;
    if bundle.contains(&token.ca) {
        Ok(())
    } else {
        Err(RedeemError::OtherCa { peer: said.name.to_string(), pinned: token.ca })
    }
}
