//! What stands in each kind of leaf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh_types::{ClusterName, NodeName};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use super::{Error, RootCa, trust_domain};
use crate::leaf::Leaf;
use crate::principal::API_SERVER;
use crate::secret::SecretKey;
use crate::validity::Validity;

/// Names of a server beyond those it always has: where clients dial something else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
}

/// The kinds of leaf. `Server` is an API server's, for serving and among replicas.
pub(super) enum Kind<'a> {
    Server(&'a ServerNames),
    /// For calling other clusters.
    Remote,
    Admin,
    Local,
    Agent(&'a NodeName),
    /// A user of the store.
    User(&'a str),
}

impl RootCa {
    /// The API server's leaf: for serving, and for calling its replicas. Sent with the CA, so that a client that knows
    /// no more than the CA's hash can verify it.
    pub fn issue_server(&self, names: &ServerNames, validity: Validity) -> Result<Leaf, Error> {
        self.issue(&Kind::Server(names), validity)
    }

    /// `remote-<this cluster>`, by which this cluster calls others.
    pub fn issue_remote(&self, validity: Validity) -> Result<Leaf, Error> {
        self.issue(&Kind::Remote, validity)
    }

    /// `admin-<this cluster>`: may do everything.
    pub fn issue_admin(&self, validity: Validity) -> Result<Leaf, Error> {
        self.issue(&Kind::Admin, validity)
    }

    /// `local-<this cluster>`: Cilium's agents reading the caches.
    pub fn issue_local(&self, validity: Validity) -> Result<Leaf, Error> {
        self.issue(&Kind::Local, validity)
    }

    /// For a user of the store, who may do what it was granted there. The name must be one that is nobody else's: a server
    /// takes `admin-<cluster>` for its administrator, whatever the certificate was made for.
    pub fn issue_user(&self, name: &str, validity: Validity) -> Result<Leaf, Error> {
        self.issue(&Kind::User(name), validity)
    }

    fn issue(&self, kind: &Kind<'_>, validity: Validity) -> Result<Leaf, Error> {
        let key = SecretKey::generate()?;
        let pair = key.pair().map_err(|source| Error::Sign { name: kind.common_name(&self.cluster), source })?;
        let mut chain = vec![self.sign(kind, &pair, validity)?];
        if matches!(kind, Kind::Server(_)) {
            chain.push(self.certificate.clone());
        }
        Ok(Leaf::from_der(chain, key, "the new certificate")?)
    }

    pub(super) fn sign(
        &self,
        kind: &Kind<'_>,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, Error> {
        let name = kind.common_name(&self.cluster);
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(random_serial());
        let (word, owner) = kind.spiffe_path(&self.cluster);
        let spiffe_id = format!("{}/{word}/{owner}", trust_domain(&self.uuid));
        params.subject_alt_names = vec![SanType::URI(text(&spiffe_id)?)];
        if let Kind::Server(names) = kind {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            params.subject_alt_names.extend(server_names(&self.cluster, names)?);
        }
        validity.within(self.not_after).apply_to(&mut params);
        let signed = params.signed_by(key, &self.issuer).map_err(|source| Error::Sign { name, source })?;
        Ok(signed.der().clone())
    }
}

impl Kind<'_> {
    fn common_name(&self, cluster: &ClusterName) -> String {
        match self {
            Self::Server(_) => API_SERVER.to_owned(),
            Self::Remote => format!("remote-{cluster}"),
            Self::Admin => format!("admin-{cluster}"),
            Self::Local => format!("local-{cluster}"),
            Self::Agent(node) => format!("agent-{node}"),
            Self::User(name) => (*name).to_owned(),
        }
    }

    fn spiffe_path<'a>(&'a self, cluster: &'a ClusterName) -> (&'static str, &'a str) {
        match self {
            Self::Server(_) => ("server", API_SERVER),
            Self::Remote => ("remote", cluster.as_str()),
            Self::Admin => ("admin", cluster.as_str()),
            Self::Local => ("local", cluster.as_str()),
            Self::Agent(node) => ("agent", &node.0),
            Self::User(name) => ("user", name),
        }
    }
}

/// Cilium peers dial `<cluster>.mesh.cilium.io`; a wildcard there matches Cilium's own servers.
fn server_names(cluster: &ClusterName, extra: &ServerNames) -> Result<Vec<SanType>, Error> {
    let fixed = ["*.mesh.cilium.io".to_owned(), format!("{cluster}.mesh.isthmus.io"), "localhost".to_owned()];
    let mut names = Vec::new();
    for name in fixed.iter().chain(&extra.dns) {
        names.push(SanType::DnsName(text(name)?));
    }
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for ip in loopback.iter().chain(&extra.ips) {
        names.push(SanType::IpAddress(*ip));
    }
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    Ok(unique)
}

pub(super) fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

pub(super) fn text(name: &str) -> Result<Ia5String, Error> {
    Ia5String::try_from(name).map_err(|_not_ascii| Error::Name { name: name.to_owned() })
}

/// RFC 5280 4.1.2.2: positive, at most 20 bytes. Random, since a renewed leaf may keep its key.
pub(super) fn random_serial() -> SerialNumber {
    let mut bytes = Uuid::new_v4().into_bytes();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}
