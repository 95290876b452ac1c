//! Tokens by which a cluster joins another, or a node its cluster: `isthmus1.<base64url of JSON>`.
//!
//! A token carries where to call, the hash of the CA to expect there, who may use it, and (for a cluster) what the issuer
//! claims, so that the joiner can compare before anything is changed. The store keeps only the hash of the whole text:
//! a token with any field altered is another token. Its text is a secret; `Debug` leaves it out.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ipnet::IpNet;
use mesh_types::view::Encryption;
use mesh_types::{ClusterId, ClusterName, IdentityLayout, NodeName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::CaHash;

/// What every token of this form begins with.
pub const PREFIX: &str = "isthmus1.";
/// Random bytes in a token: nobody guesses one.
const SECRET_LEN: usize = 32;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Joining the issuer's cluster with another one.
    Join,
    /// Enrolling a node's agent.
    Node,
}

/// Who alone may use a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bearer {
    Cluster { name: ClusterName, id: ClusterId },
    Node(NodeName),
}

/// What a cluster claims for itself: everything that two clusters compare before they join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub name: ClusterName,
    pub id: ClusterId,
    pub uuid: Uuid,
    pub layout: IdentityLayout,
    pub encryption: Encryption,
    pub pod_prefixes: Vec<IpNet>,
    pub node_prefixes: Vec<IpNet>,
    pub service_prefixes: Vec<IpNet>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub kind: Kind,
    /// Names the token in the store and in messages; no secret.
    pub id: String,
    secret: String,
    /// The CA of the server to expect.
    pub ca: CaHash,
    /// `host:port` of the issuer's mesh port.
    pub endpoints: Vec<String>,
    pub issuer: Claims,
    pub bearer: Bearer,
    pub expires_unix_seconds: u64,
}

/// A text that is no token. Never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("this is not an Isthmus token: one starts with {PREFIX:?}. Make one with `meshctl token create`")]
    NotAToken,
    #[error("the token is damaged: copy the whole line, without spaces or line breaks, or make a new one")]
    Damaged,
    #[error("no random number could be drawn for a token")]
    Random,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { name, id } => write!(f, "cluster {name} (id {id})"),
            Self::Node(name) => write!(f, "node {name}"),
        }
    }
}

impl Token {
    /// A fresh token with a random id and secret. Its kind follows from who may use it.
    pub fn issue(
        issuer: Claims,
        ca: CaHash,
        endpoints: Vec<String>,
        bearer: Bearer,
        expires_unix_seconds: u64,
    ) -> Result<Self, Error> {
        let kind = match bearer {
            Bearer::Cluster { .. } => Kind::Join,
            Bearer::Node(_) => Kind::Node,
        };
        let (mut id, mut secret) = ([0; 8], Zeroizing::new([0; SECRET_LEN]));
        aws_lc_rs::rand::fill(&mut id).map_err(|_says_no_more| Error::Random)?;
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_says_no_more| Error::Random)?;
        let (id, secret) = (hex::encode(id), BASE64URL.encode(*secret));
        Ok(Self { kind, id, secret, ca, endpoints, issuer, bearer, expires_unix_seconds })
    }

    /// The text to hand over.
    pub fn text(&self) -> Zeroizing<String> {
        let json = Zeroizing::new(serde_json::to_vec(self).expect("strings and numbers always encode"));
        Zeroizing::new(format!("{PREFIX}{}", BASE64URL.encode(&*json)))
    }

    /// White space around the text is ignored.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(Error::NotAToken)?;
        let json = Zeroizing::new(BASE64URL.decode(body).map_err(|_may_quote_the_text| Error::Damaged)?);
        serde_json::from_slice(&json).map_err(|_may_quote_the_text| Error::Damaged)
    }

    pub fn is_expired(&self, now_unix_seconds: u64) -> bool {
        now_unix_seconds >= self.expires_unix_seconds
    }
}

/// SHA-256 of a token's text, in hex: what the store keeps.
pub fn hash(text: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, text.trim().as_bytes()).as_ref())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("issuer", &self.issuer.name)
            .field("bearer", &self.bearer)
            .field("expires_unix_seconds", &self.expires_unix_seconds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ca, cluster};

    fn token() -> Token {
        let issuer = Claims {
            name: cluster("b"),
            id: ClusterId::new(2).unwrap(),
            uuid: Uuid::nil(),
            layout: IdentityLayout::Clusters255,
            encryption: Encryption::Wireguard,
            pod_prefixes: vec!["10.2.0.0/16".parse().unwrap()],
            node_prefixes: Vec::new(),
            service_prefixes: Vec::new(),
        };
        let bearer = Bearer::Cluster { name: cluster("a"), id: ClusterId::new(1).unwrap() };
        Token::issue(issuer, ca("b").bundle().hashes()[0], vec!["192.0.2.1:2382".into()], bearer, 100).unwrap()
    }

    #[test]
    fn a_token_reads_back_and_shows_no_secret() {
        let token = token();
        let text = token.text();
        assert_eq!(Token::parse(&format!("  {}\n", *text)).unwrap(), token);
        assert_eq!(hash(&format!("{}\n", *text)), hash(&text));
        assert!(!format!("{token:?}").contains(&token.secret));
        assert_eq!((token.kind, token.is_expired(99), token.is_expired(100)), (Kind::Join, false, true));
        assert_ne!(token.secret, self::token().secret);
    }

    #[test]
    fn what_is_not_a_whole_token_is_refused_without_quoting_it() {
        assert_eq!(Token::parse("kubeadm join"), Err(Error::NotAToken));
        assert_eq!(Token::parse(""), Err(Error::NotAToken));
        let text = token().text();
        for cut in [PREFIX.len(), PREFIX.len() + 9, text.len() - 1, text.len() - 40] {
            assert_eq!(Token::parse(&text[..cut]), Err(Error::Damaged), "cut at {cut}");
        }
    }

    #[test]
    fn any_change_makes_it_another_token() {
        let token = token();
        let longer = Token { expires_unix_seconds: u64::MAX, ..token.clone() };
        assert_ne!(hash(&longer.text()), hash(&token.text()));
    }
}
