//! What the objects of the MCS API are called, and by which labels they are known. Pure.

use mesh_types::ServiceName;
use sha2::{Digest as _, Sha256};

/// Marks the imports and the derived Services that this controller made. Others are never touched.
pub(crate) const MANAGED_BY: &str = "mesh.isthmus.io/managed-by";
/// Marks the slices that it made.
pub(crate) const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The Service of the cluster set that a slice, or a derived Service, belongs to (MCS API).
pub(crate) const MCS_SERVICE: &str = "multicluster.kubernetes.io/service-name";
/// The cluster whose backends a slice has (MCS API).
pub(crate) const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// Value of both marks.
pub(crate) const OWNER: &str = "mesh-apiserver.isthmus.io";

/// What every derived Service's name begins with.
pub(crate) const DERIVED: &str = "derived-";
const HASH: usize = 10;

/// The Service that carries an import's address: of the same name in every cluster, and in Cilium's, so that backends are
/// exchanged under it.
pub(crate) fn derived(service: &ServiceName) -> ServiceName {
    let hash = base32hex(&Sha256::digest(service.to_string()));
    ServiceName::new(service.namespace.clone(), format!("{DERIVED}{}", &hash[..HASH]))
}

/// A slice of it that has what one slice of one cluster has.
pub(crate) fn slice(derived: &ServiceName, cluster: &str, source: &str) -> String {
    let hash = base32hex(&Sha256::digest(format!("{cluster}/{source}")));
    format!("{}-{}", derived.name, &hash[..HASH])
}

/// RFC 4648 section 7 in small letters, without padding; the last bits that fill no letter are left out.
fn base32hex(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let bit = |n: usize| bytes[n / 8] >> (7 - n % 8) & 1;
    let letter = |n: usize| (0..5).fold(0_u8, |value, place| value << 1 | bit(n * 5 + place));
    (0..bytes.len() * 8 / 5).map(|n| char::from(LETTERS[usize::from(letter(n))])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_the_rfc() {
        // RFC 4648 section 10: "foob" is CPNMUOG=, "fooba" is CPNMUOJ1.
        assert_eq!(base32hex(b"fooba"), "cpnmuoj1");
        assert_eq!(base32hex(b"foob"), "cpnmuo");
        assert_eq!(base32hex(b""), "");
    }

    #[test]
    fn names_are_the_same_everywhere_and_fit_kubernetes() {
        let name = derived(&ServiceName::new("shop", "cart"));
        assert_eq!(name, derived(&ServiceName::new("shop", "cart")));
        assert_ne!(name.name, derived(&ServiceName::new("shop", "pay")).name);
        assert!(name.name.len() < 63 && name.namespace == "shop");
        assert_ne!(slice(&name, "a", "b-x"), slice(&name, "b", "b-x"));
    }
}
