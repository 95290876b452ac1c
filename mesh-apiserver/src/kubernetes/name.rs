//! The name of one object in a namespace, as flags give it.

use std::fmt;
use std::str::FromStr;

/// `NAMESPACE/NAME`, both as Kubernetes allows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespacedName {
    pub namespace: String,
    pub name: String,
}

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not NAMESPACE/NAME, such as isthmus-system/isthmus-ca")]
pub struct Malformed(String);

impl NamespacedName {
    /// The user name of the ServiceAccount of this name.
    pub fn account_user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

impl FromStr for NamespacedName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts = text.split_once('/').filter(|(namespace, name)| is_label(namespace) && is_name(name));
        let (namespace, name) = parts.ok_or_else(|| Malformed(text.to_owned()))?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// RFC 1123: what a namespace may be called.
pub(crate) fn is_label(text: &str) -> bool {
    let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    text.len() <= 63 && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-') && !text.is_empty()
}

/// Labels parted by dots: what most objects may be called.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_namespace_and_is_one_that_kubernetes_takes() {
        let name: NamespacedName = "isthmus-system/agent.v1".parse().unwrap();
        assert_eq!(name.account_user(), "system:serviceaccount:isthmus-system:agent.v1");
        assert_eq!(name.to_string(), "isthmus-system/agent.v1");
        for bad in ["", "agent", "/agent", "a/", "a/b/c", "a.b/c", "A/b", "a/b..c", "a/-b", "a/b:c", "a/b c"] {
            assert!(bad.parse::<NamespacedName>().is_err(), "{bad:?}");
        }
    }
}
