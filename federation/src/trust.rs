//! A peer's CAs, followed while it is joined: what it exports as its trust bundle, judged, and taken over into its record.
//!
//! ```text
//!  peer's isthmus/v1/export/trust --session, authenticated by the present bundle--> judge --compare and put--> peers/<peer>
//!  own isthmus/v1/export/trusts/<peer>: which CAs this cluster trusts for it, read by the peer's session
//! ```
//! # Invariants
//! - A bundle is taken from a session that the present one authenticated, and shares a CA with it: a peer that rotates goes
//!   by way of both, so whoever shows none of the known CAs is another cluster, and has to be joined anew.
//! - A peer speaks for its own CAs alone. A bundle with a CA of this cluster or of another peer is refused as a whole, and
//!   the present one stays.

use std::collections::BTreeSet;

use certs::bundle;
use certs::{CaHash, TrustBundle};
use mesh_store::Store;
use mesh_store::mvcc::{Compare, RangeRequest, TxnOp, TxnRequest};
use mesh_types::ClusterName;

use crate::contract::keys;
use crate::peer::{self, Declaration, PeerRecord};

/// A bundle of [`TrustBundle::MAX_CAS`] certificates is far below.
const MAX_BYTES: usize = 64 << 10;
/// Others may write the record at the same time.
const ATTEMPTS: u32 = 5;

/// Why what a peer says of its CAs is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("it exports a trust bundle of {size} bytes: at most {MAX_BYTES} are read")]
    TooLarge { size: usize },
    #[error("it exports a trust bundle that is no text")]
    NoText,
    #[error("it exports a trust bundle that cannot be used")]
    Bundle(#[source] bundle::Error),
    #[error("its trust bundle as stored here cannot be used: connect it again")]
    Present(#[source] bundle::Error),
    #[error(
        "it exports a trust bundle without any of the CAs that are trusted for it: a rotation goes by way of both. If the \
         cluster was rebuilt, disconnect it and connect it again"
    )]
    Stranger,
    #[error("it exports a trust bundle with a CA of {owner} ({hash}), for which it cannot speak")]
    SharedCa { owner: ClusterName, hash: CaHash },
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Peer(#[from] peer::Error),
    #[error("cannot reach the store for {key}")]
    Store { key: String, source: mesh_store::backend::Error },
    #[error("cluster {peer} is no longer a peer")]
    PeerRemoved { peer: ClusterName },
    #[error("the record of {peer} is being changed by several at once: tried again with the next connection")]
    Contended { peer: ClusterName },
}

/// Pure: the bundle to take over, or `None` where it is the present one. `others` are the own cluster and the other peers.
pub fn judge(present: &Declaration, others: &[&Declaration], said: &[u8]) -> Result<Option<TrustBundle>, Refusal> {
    if said.len() > MAX_BYTES {
        return Err(Refusal::TooLarge { size: said.len() });
    }
    let text = std::str::from_utf8(said).map_err(|_not_text| Refusal::NoText)?;
    let said = TrustBundle::from_pem(text).map_err(Refusal::Bundle)?;
    let known = TrustBundle::from_pem(&present.trust_bundle_pem).map_err(Refusal::Present)?;
    if said == known {
        return Ok(None);
    }
    if said.shared_with(&known).is_none() {
        return Err(Refusal::Stranger);
    }
    for other in others {
        // One that cannot be read verifies nobody, so nothing can be shared with it.
        let Ok(bundle) = TrustBundle::from_pem(&other.trust_bundle_pem) else { continue };
        if let Some(hash) = said.shared_with(&bundle) {
            return Err(Refusal::SharedCa { owner: other.name.clone(), hash });
        }
    }
    Ok(Some(said))
}

/// Takes over what `peer` says of its CAs. Returns whether that changed something.
pub async fn follow(store: &dyn Store, name: &ClusterName, said: &[u8]) -> Result<bool, Error> {
    let key = keys::peer(name);
    let failed = |source| Error::Store { key: keys::peer(name), source };
    for _ in 0..ATTEMPTS {
        let found = store.range(RangeRequest::get(key.clone())).await.map_err(failed)?;
        let kv = found.kvs.first().ok_or_else(|| Error::PeerRemoved { peer: name.clone() })?;
        let mut record = PeerRecord::decode(&key, &kv.value)?;
        let peers = peer::list(store).await?;
        let own = peer::own(store).await?;
        let others = peers.iter().map(|peer| &peer.declaration).filter(|other| other.name != *name);
        let others: Vec<&Declaration> = own.iter().chain(others).collect();
        let Some(bundle) = judge(&record.declaration, &others, said)? else { return Ok(false) };
        record.declaration.trust_bundle_pem = bundle.pem();
        let request = TxnRequest {
            compare: vec![Compare::mod_revision(key.clone(), kv.mod_revision)],
            success: vec![TxnOp::Put(record.to_put())],
            failure: Vec::new(),
        };
        if store.txn(request).await.map_err(failed)?.succeeded {
            tracing::info!(peer = %name, ?bundle, "its CAs have changed");
            return Ok(true);
        }
    }
    Err(Error::Contended { peer: name.clone() })
}

/// The value of `isthmus/v1/export/trusts/<peer>`: the CAs, by hash, that are trusted for it by every replica.
pub fn encode_trusted(cas: &BTreeSet<CaHash>) -> Vec<u8> {
    serde_json::to_vec(cas).expect("hashes are texts")
}

pub fn decode_trusted(value: &[u8]) -> Option<BTreeSet<CaHash>> {
    if value.len() > MAX_BYTES {
        return None;
    }
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use certs::RootCa;

    use super::*;
    use crate::peer::examples::declaration;

    fn cluster(name: &str, n: u32) -> (RootCa, Declaration) {
        let ca = RootCa::generate(&ClusterName::new(name).unwrap()).unwrap();
        let said = Declaration { trust_bundle_pem: ca.bundle().pem(), ..declaration(name, n) };
        (ca, said)
    }

    #[test]
    fn a_peer_goes_to_another_ca_by_way_of_both_and_in_no_other_way() {
        let (ca, west) = cluster("west", 2);
        let (_, east) = cluster("east", 1);
        let next = ca.successor().unwrap();
        let both = ca.bundle().merge(&next.bundle()).unwrap();
        let say = |present: &TrustBundle, said: &TrustBundle| {
            let present = Declaration { trust_bundle_pem: present.pem(), ..west.clone() };
            judge(&present, &[&east], said.pem().as_bytes())
        };
        assert_eq!(say(&ca.bundle(), &ca.bundle()).unwrap(), None);
        assert_eq!(say(&ca.bundle(), &both).unwrap(), Some(both.clone()));
        assert_eq!(say(&both, &next.bundle()).unwrap(), Some(next.bundle()));
        assert_eq!(say(&both, &ca.bundle()).unwrap(), Some(ca.bundle()), "aborted");
        assert!(matches!(say(&ca.bundle(), &next.bundle()), Err(Refusal::Stranger)));
    }

    #[test]
    fn a_peer_cannot_say_a_ca_of_this_cluster_nor_of_another_nor_what_is_no_bundle() {
        let (ca, west) = cluster("west", 2);
        let (own_ca, east) = cluster("east", 1);
        let (third_ca, north) = cluster("north", 3);
        let say = |said: &[u8]| judge(&west, &[&east, &north], said);
        for (foreign, owner) in [(own_ca, "east"), (third_ca, "north")] {
            let said = ca.bundle().merge(&foreign.bundle()).unwrap();
            let refused = say(said.pem().as_bytes()).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(&format!("with a CA of {owner}")) && text.contains("cannot speak"), "{text}");
        }
        let leaf = ca.issue_remote(certs::Validity::lasting(certs::Validity::LEAF)).unwrap();
        let with_key = format!("{}{}", ca.bundle().pem(), *leaf.key_pem());
        let refused = say(with_key.as_bytes()).unwrap_err();
        assert!(matches!(refused, Refusal::Bundle(bundle::Error::HoldsKey)));
        assert!(!format!("{refused:?}").contains("PRIVATE"));
        let mut many = ca.bundle().pem();
        for _ in 0..TrustBundle::MAX_CAS {
            many.push_str(&ca.successor().unwrap().bundle().pem());
        }
        assert!(matches!(say(many.as_bytes()), Err(Refusal::Bundle(bundle::Error::TooMany))));
        assert!(matches!(say(b""), Err(Refusal::Bundle(bundle::Error::Empty))));
        assert!(matches!(say(&[0xff]), Err(Refusal::NoText)));
        assert!(matches!(say(&vec![b' '; MAX_BYTES + 1]), Err(Refusal::TooLarge { .. })));
        assert!(matches!(say(leaf.certificate_pem().as_bytes()), Err(Refusal::Bundle(bundle::Error::NotCa { .. }))));
    }

    #[test]
    fn what_is_trusted_is_read_back_and_nothing_else_is() {
        let (ca, _) = cluster("west", 2);
        let cas = BTreeSet::from([ca.hash(), ca.successor().unwrap().hash()]);
        assert_eq!(decode_trusted(&encode_trusted(&cas)), Some(cas));
        for bad in [&b"[\"sha256:00\"]"[..], b"{}", b"", &vec![b'['; MAX_BYTES + 1]] {
            assert_eq!(decode_trusted(bad), None);
        }
    }
}
