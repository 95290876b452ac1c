//! Reads the few facts of a certificate that trust decisions need. Verifies nothing: signatures, chains and time are
//! rustls' work.

use jiff::Timestamp;
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::ca_hash::CaHash;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Every common name of the subject; a usable certificate has exactly one.
    pub(crate) common_names: Vec<String>,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) is_ca: bool,
    pub(crate) key_hash: CaHash,
    /// SubjectPublicKeyInfo, DER.
    pub(crate) spki: Vec<u8>,
    /// URI subject alternative names.
    pub(crate) uris: Vec<String>,
}

/// The bytes are not an X.509 certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a readable X.509 certificate ({what})")]
pub struct Malformed {
    what: &'static str,
}

pub(crate) fn read(der: &[u8]) -> Result<Facts, Malformed> {
    let (rest, certificate) =
        parse_x509_certificate(der).map_err(|_details_name_offsets_only| Malformed { what: "DER" })?;
    if !rest.is_empty() {
        return Err(Malformed { what: "bytes after its end" });
    }
    let validity = certificate.validity();
    let spki = certificate.tbs_certificate.subject_pki.raw;
    let mut common_names = Vec::new();
    for name in certificate.subject().iter_common_name() {
        let name = name.as_str().map_err(|_not_text| Malformed { what: "common name" })?;
        common_names.push(name.to_owned());
    }
    Ok(Facts {
        common_names,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: timestamp(validity.not_before.timestamp())?,
        not_after: timestamp(validity.not_after.timestamp())?,
        is_ca: certificate.is_ca(),
        key_hash: CaHash::of_spki(spki),
        spki: spki.to_vec(),
        uris: uris(&certificate)?,
    })
}

impl Facts {
    /// The common name to show to people, also when there is none or several.
    pub(crate) fn shown_name(&self) -> String {
        match self.common_names.as_slice() {
            [name] => name.clone(),
            _ => self.subject.clone(),
        }
    }

    /// The uuid of the Isthmus cluster whose CA this is.
    pub(crate) fn cluster_uuid(&self) -> Option<Uuid> {
        self.uris.iter().find_map(|uri| Uuid::parse_str(uri.strip_prefix("spiffe://")?).ok())
    }
}

fn timestamp(unix_seconds: i64) -> Result<Timestamp, Malformed> {
    Timestamp::from_second(unix_seconds).map_err(|_out_of_range| Malformed { what: "validity" })
}

fn uris(certificate: &X509Certificate<'_>) -> Result<Vec<String>, Malformed> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_twice_or_broken| Malformed { what: "subject alternative names" })?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Ok(names.filter_map(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }).collect())
}
