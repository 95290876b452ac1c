//! Tokens that this cluster handed out: the hash of each, for whom, until when, and who used it.

use std::sync::Arc;

use certs::token::{self, Bearer, Kind, Token};
use mesh_store::Store;
use mesh_store::mvcc::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnOp, TxnRequest};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::keys;

/// How long an expired token is still known, so that its late use is told "expired" and not "unknown".
const REMEMBERED: u64 = 7 * 24 * 3600;
/// Two callers redeem one token at the same time: one of them reads it again.
const ATTEMPTS: u32 = 5;

/// `isthmus/v1/tokens/<id>`, JSON. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub id: String,
    /// SHA-256 of the token's text.
    pub hash: String,
    pub kind: Kind,
    pub bearer: Bearer,
    pub expires_unix_seconds: u64,
    /// Who used it: the hash of the redeemer's CA, or of a node's key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub redeemed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub redeemed_unix_seconds: Option<u64>,
    /// Since when nobody can use it any more, whether or not somebody has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_unix_seconds: Option<u64>,
}

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Text(#[from] token::Error),
    #[error("this is a {found} token, and a {wanted} token is needed here: `meshctl token create` makes both kinds")]
    WrongKind { found: Kind, wanted: Kind },
    #[error("the token was issued by cluster {issuer} ({uuid}), not by this one: use it there, or make one here")]
    WrongIssuer { issuer: String, uuid: Uuid },
    #[error("token {id} is unknown here: it may have been removed long after it expired. Make a new one")]
    Unknown { id: String },
    #[error("token {id} is not the one that was issued: it was altered or damaged on the way. Make a new one")]
    Tampered { id: String },
    #[error("token {id} expired {ago} s ago: make a new one, and check the clocks if this surprises you")]
    Expired { id: String, ago: u64 },
    #[error("token {id} was revoked {ago} s ago: make a new one if it was meant to be used")]
    Revoked { id: String, ago: u64 },
    #[error("token {id} is for {bearer}, not for {caller}: make one for {caller}")]
    WrongBearer { id: String, bearer: Bearer, caller: Bearer },
    #[error("token {id} was used already by another CA or key ({by}): a token is good for one. Make a new one")]
    Used { id: String, by: String },
    #[error("cannot reach the store for token {id}")]
    Store { id: String, source: mesh_store::backend::Error },
    #[error("token {id} in the store is not a record of this version")]
    Record { id: String, source: serde_json::Error },
    #[error("token {id} is being redeemed by several callers at once: try again")]
    Contended { id: String },
}

/// Whether this was the token's first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redeemed {
    First,
    /// By the same redeemer as before.
    Again,
}

/// A use of a token.
#[derive(Debug)]
pub struct Redemption<'a> {
    pub text: &'a str,
    /// This cluster.
    pub issuer: Uuid,
    pub caller: Bearer,
    /// What the caller proves to be: the hash of its CA, or of its key.
    pub redeemer: &'a str,
    pub now_unix_seconds: u64,
    /// Written in the same Txn.
    pub also: Vec<TxnOp>,
}

#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
}

impl Tokens {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Makes a token known, so that it can be redeemed once. Also forgets those that expired long ago.
    pub async fn create(&self, token: &Token, now_unix_seconds: u64) -> Result<TokenRecord, Error> {
        let record = TokenRecord {
            id: token.id.clone(),
            hash: token::hash(&token.text()),
            kind: token.kind,
            bearer: token.bearer.clone(),
            expires_unix_seconds: token.expires_unix_seconds,
            redeemed_by: None,
            redeemed_unix_seconds: None,
            revoked_unix_seconds: None,
        };
        let is_old = |old: &TokenRecord| now_unix_seconds.saturating_sub(old.expires_unix_seconds) > REMEMBERED;
        for old in self.list().await?.into_iter().filter(is_old) {
            let forget = DeleteRangeRequest::key(keys::token(&old.id));
            self.store.delete_range(forget).await.map_err(|source| Error::Store { id: old.id, source })?;
        }
        let request = TxnRequest {
            compare: vec![Compare::absent(keys::token(&record.id))],
            success: vec![put(&record)],
            failure: vec![],
        };
        let done = self.store.txn(request).await.map_err(|source| Error::Store { id: record.id.clone(), source })?;
        if done.succeeded { Ok(record) } else { Err(Error::Contended { id: record.id }) }
    }

    /// Uses a token, once: in one Txn with what else is to be written. The same redeemer gets `Again` until it expires.
    pub async fn redeem(&self, redemption: Redemption<'_>) -> Result<Redeemed, Error> {
        let token = Token::parse(redemption.text)?;
        let wanted = match redemption.caller {
            Bearer::Cluster { .. } => Kind::Join,
            Bearer::Node(_) => Kind::Node,
        };
        if token.kind != wanted {
            return Err(Error::WrongKind { found: token.kind, wanted });
        }
        if token.issuer.uuid != redemption.issuer {
            return Err(Error::WrongIssuer { issuer: token.issuer.name.to_string(), uuid: token.issuer.uuid });
        }
        let id = token.id;
        for _ in 0..ATTEMPTS {
            let (mut record, mod_revision) = self.find(&id).await?;
            let redeemed = judge(&record, &redemption)?;
            record.redeemed_by = Some(redemption.redeemer.to_owned());
            record.redeemed_unix_seconds.get_or_insert(redemption.now_unix_seconds);
            let mut success = redemption.also.clone();
            if redeemed == Redeemed::First {
                success.push(put(&record));
            }
            let unchanged = Compare::mod_revision(keys::token(&id), mod_revision);
            let request = TxnRequest { compare: vec![unchanged], success, failure: vec![] };
            let done = self.store.txn(request).await.map_err(|source| Error::Store { id: id.clone(), source })?;
            if done.succeeded {
                return Ok(redeemed);
            }
        }
        Err(Error::Contended { id })
    }

    /// Makes a token useless. `false`: it was already. What was done with it before stays done.
    pub async fn revoke(&self, id: &str, now_unix_seconds: u64) -> Result<(TokenRecord, bool), Error> {
        for _ in 0..ATTEMPTS {
            let (mut record, mod_revision) = self.find(id).await?;
            if record.revoked_unix_seconds.is_some() {
                return Ok((record, false));
            }
            record.revoked_unix_seconds = Some(now_unix_seconds);
            let unchanged = Compare::mod_revision(keys::token(id), mod_revision);
            let request = TxnRequest { compare: vec![unchanged], success: vec![put(&record)], failure: vec![] };
            let done = self.store.txn(request).await.map_err(|source| Error::Store { id: id.to_owned(), source })?;
            if done.succeeded {
                return Ok((record, true));
            }
        }
        Err(Error::Contended { id: id.to_owned() })
    }

    /// All tokens that are still known, in order of their ids.
    pub async fn list(&self) -> Result<Vec<TokenRecord>, Error> {
        let found = self.store.range(RangeRequest::prefix(keys::TOKENS)).await;
        let found = found.map_err(|source| Error::Store { id: "list".to_owned(), source })?;
        found.kvs.iter().map(|kv| decode(&String::from_utf8_lossy(&kv.key), &kv.value)).collect()
    }

    async fn find(&self, id: &str) -> Result<(TokenRecord, i64), Error> {
        let found = self.store.range(RangeRequest::get(keys::token(id))).await;
        let found = found.map_err(|source| Error::Store { id: id.to_owned(), source })?;
        let kv = found.kvs.first().ok_or_else(|| Error::Unknown { id: id.to_owned() })?;
        Ok((decode(id, &kv.value)?, kv.mod_revision))
    }
}

/// Pure: whether this use is right, and whether it is the first.
fn judge(record: &TokenRecord, redemption: &Redemption<'_>) -> Result<Redeemed, Error> {
    let id = || record.id.clone();
    if record.hash != token::hash(redemption.text) {
        return Err(Error::Tampered { id: id() });
    }
    if let Some(since) = record.revoked_unix_seconds {
        return Err(Error::Revoked { id: id(), ago: redemption.now_unix_seconds.saturating_sub(since) });
    }
    if redemption.now_unix_seconds >= record.expires_unix_seconds {
        return Err(Error::Expired { id: id(), ago: redemption.now_unix_seconds - record.expires_unix_seconds });
    }
    if record.bearer != redemption.caller {
        let (bearer, caller) = (record.bearer.clone(), redemption.caller.clone());
        return Err(Error::WrongBearer { id: id(), bearer, caller });
    }
    match &record.redeemed_by {
        None => Ok(Redeemed::First),
        Some(by) if by == redemption.redeemer => Ok(Redeemed::Again),
        Some(by) => Err(Error::Used { id: id(), by: by.clone() }),
    }
}

fn put(record: &TokenRecord) -> TxnOp {
    let value = serde_json::to_vec(record).expect("strings and numbers always encode");
    TxnOp::Put(PutRequest::new(keys::token(&record.id), value))
}

fn decode(id: &str, value: &[u8]) -> Result<TokenRecord, Error> {
    serde_json::from_slice(value).map_err(|source| Error::Record { id: id.to_owned(), source })
}
