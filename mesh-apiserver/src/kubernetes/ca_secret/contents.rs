//! What is in the Secret, and the changes of it. Pure, and wiped when dropped.

use certs::{CaHash, Cas, RootCa};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mesh_types::ClusterName;
use zeroize::Zeroize as _;

use super::SecretError;
use crate::kubernetes::NamespacedName;

/// Certificate and key.
type Pair = [&'static str; 2];

const CURRENT: Pair = ["ca.crt", "ca.key"];
const NEXT: Pair = ["next.crt", "next.key"];

/// A Secret as it was read. What the HTTP client holds of it while it is sent or received is not wiped.
pub(super) struct Contents {
    secret: Secret,
    place: NamespacedName,
    cluster: ClusterName,
}

impl Contents {
    pub(super) fn new(secret: Secret, place: NamespacedName, cluster: ClusterName) -> Self {
        Self { secret, place, cluster }
    }

    /// To be sent.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Nothing of a CA is there.
    pub(super) fn is_empty(&self) -> bool {
        [CURRENT, NEXT].into_iter().flatten().all(|name| self.get(name).is_none())
    }

    pub(super) fn cas(&self) -> Result<Cas, SecretError> {
        let missing = || SecretError::Incomplete { place: self.place.clone(), missing: CURRENT[0] };
        let current = self.read(CURRENT)?.ok_or_else(missing)?;
        let next = self.read(NEXT)?.filter(|next| next.hash() != current.hash());
        Ok(Cas { current, next })
    }

    pub(super) fn set_current(&mut self, ca: &RootCa) {
        self.set(CURRENT, ca);
    }

    pub(super) fn set_next(&mut self, ca: &RootCa) {
        self.set(NEXT, ca);
    }

    /// Whether that changed anything.
    pub(super) fn promote(&mut self, hash: &CaHash) -> Result<bool, SecretError> {
        let cas = self.cas()?;
        if cas.current.hash() == *hash {
            return Ok(self.discard_next(hash));
        }
        let missing = || SecretError::NoNext { place: self.place.clone(), hash: *hash };
        let next = cas.next.filter(|next| next.hash() == *hash).ok_or_else(missing)?;
        self.set(CURRENT, &next);
        self.remove(NEXT);
        Ok(true)
    }

    /// Whether that changed anything.
    pub(super) fn discard_next(&mut self, hash: &CaHash) -> bool {
        let is_there = NEXT.into_iter().any(|name| self.get(name).is_some());
        // What cannot be read is of no use to anybody.
        let is_anothers = matches!(self.read(NEXT), Ok(Some(next)) if next.hash() != *hash);
        if is_there && !is_anothers {
            self.remove(NEXT);
        }
        is_there && !is_anothers
    }

    fn read(&self, [certificate, key]: Pair) -> Result<Option<RootCa>, SecretError> {
        let incomplete = |missing| SecretError::Incomplete { place: self.place.clone(), missing };
        match (self.get(certificate), self.get(key)) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(incomplete(certificate)),
            (Some(_), None) => Err(incomplete(key)),
            (Some(certificate_pem), Some(key_pem)) => {
                let origin = format!("Secret {}: {certificate}", self.place);
                Ok(Some(RootCa::from_pem(certificate_pem, key_pem, &self.cluster, &origin)?))
            }
        }
    }

    /// An empty value is none: that is how a chart reserves the name.
    fn get(&self, name: &str) -> Option<&[u8]> {
        let value = self.secret.data.as_ref()?.get(name)?;
        (!value.0.is_empty()).then_some(&value.0)
    }

    fn set(&mut self, [certificate, key]: Pair, ca: &RootCa) {
        self.remove([certificate, key]);
        let data = self.secret.data.get_or_insert_default();
        data.insert(certificate.to_owned(), ByteString(ca.certificate_pem().into_bytes()));
        data.insert(key.to_owned(), ByteString(ca.key_pem().as_bytes().to_vec()));
    }

    fn remove(&mut self, pair: Pair) {
        for name in pair {
            if let Some(mut value) = self.secret.data.as_mut().and_then(|data| data.remove(name)) {
                value.0.zeroize();
            }
        }
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        for value in self.secret.data.iter_mut().flat_map(|data| data.values_mut()) {
            value.0.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Contents {
        let place = "mesh/ca".parse().unwrap();
        Contents::new(Secret::default(), place, ClusterName::new("a").unwrap())
    }

    fn held() -> (Contents, CaHash) {
        let mut contents = empty();
        let ca = RootCa::generate(&ClusterName::new("a").unwrap()).unwrap();
        contents.set_current(&ca);
        (contents, ca.hash())
    }

    fn hashes(contents: &Contents) -> Vec<CaHash> {
        contents.cas().unwrap().hashes().collect()
    }

    #[test]
    fn the_next_ca_moves_up_once_and_the_former_key_is_gone() {
        let (mut contents, first) = held();
        let next = contents.cas().unwrap().current.successor().unwrap();
        contents.set_next(&next);
        assert_eq!(hashes(&contents), [first, next.hash()]);
        assert!(contents.promote(&next.hash()).unwrap());
        assert!(!contents.promote(&next.hash()).unwrap(), "repeating it changes nothing");
        assert_eq!(hashes(&contents), [next.hash()]);
        assert_eq!(contents.secret().data.as_ref().unwrap().len(), 2);
        let text = contents.promote(&first).unwrap_err().to_string();
        assert!(text.contains(&first.to_string()) && text.contains("Secret mesh/ca"), "{text}");
    }

    #[test]
    fn a_next_ca_that_is_not_wanted_leaves_the_current_one_and_that_of_another_rotation_alone() {
        let (mut contents, first) = held();
        let next = contents.cas().unwrap().current.successor().unwrap();
        contents.set_next(&next);
        assert!(!contents.discard_next(&first));
        assert!(contents.discard_next(&next.hash()));
        assert!(!contents.discard_next(&next.hash()));
        assert_eq!(hashes(&contents), [first]);
        contents.set_next(&next);
        contents.secret.data.as_mut().unwrap().remove(NEXT[1]);
        assert!(contents.discard_next(&first), "half of one is of no use");
        assert_eq!(hashes(&contents), [first]);
    }

    #[test]
    fn what_is_no_whole_ca_is_refused_by_name_and_shows_no_key() {
        assert!(empty().is_empty());
        let reserved = || (CURRENT[0].to_owned(), ByteString(Vec::new()));
        let mut contents = empty();
        contents.secret.data = Some([reserved()].into());
        assert!(contents.is_empty());
        let (mut contents, _) = held();
        let key = contents.secret.data.as_mut().unwrap().remove(CURRENT[1]).unwrap();
        let text = contents.cas().unwrap_err().to_string();
        assert!(text.contains("Secret mesh/ca holds no ca.key"), "{text}");
        let cut = ByteString(key.0[..90].to_vec());
        contents.secret.data.as_mut().unwrap().insert(CURRENT[1].to_owned(), cut);
        let error = contents.cas().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("Secret mesh/ca") && !text.contains("MIG"), "{text}");
        let (mut contents, _) = held();
        contents.cluster = ClusterName::new("b").unwrap();
        let text = contents.cas().unwrap_err().to_string();
        assert!(text.contains("Secret mesh/ca: ca.crt is the CA of cluster \"a\""), "{text}");
    }
}
