//! What several test modules need: clusters, and leaves that no honest issuer would make.

use std::time::Duration;

use mesh_types::ClusterName;
use rcgen::{CertificateParams, DistinguishedName, DnType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::{Leaf, RootCa, SecretKey, Validity};

pub(crate) fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

pub(crate) fn ca(name: &str) -> RootCa {
    RootCa::generate(&cluster(name)).unwrap()
}

pub(crate) fn soon() -> Validity {
    Validity::lasting(Duration::from_hours(1))
}

pub(crate) fn chain(leaf: &Leaf) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(leaf.certificate_pem().as_bytes()).map(Result::unwrap).collect()
}

/// A leaf with any names, as somebody who holds a CA's key can make.
pub(crate) fn forged(ca: &RootCa, names: &[&str]) -> Leaf {
    let key = SecretKey::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    soon().apply_to(&mut params);
    let certificate = params.signed_by(&key.pair().unwrap(), &ca.issuer).unwrap();
    Leaf::from_der(vec![certificate.der().clone()], key, "a forger").unwrap()
}
