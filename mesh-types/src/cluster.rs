//! Cluster names and numbers, as Cilium defines them (`pkg/clustermesh/types/{types,option}.go`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A cluster's number in the mesh: 1..=255, or 1..=511 in 511-cluster mode. 0 means "not in a mesh" and is not representable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ClusterId(u32);

/// A cluster's name: at most 32 characters, lower-case letters, digits and `-`, not starting or ending with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

/// Why a cluster's name or number was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("cluster id {0} is out of range: use 1 to {max}", max = ClusterId::MAX)]
    IdRange(u32),
    #[error("cluster id {0:?} is not a number: use 1 to {max}", max = ClusterId::MAX)]
    IdSyntax(String),
    #[error(
        "cluster name {0:?} is not valid: use at most 32 characters of a-z, 0-9 and '-', not starting or ending with '-'"
    )]
    Name(String),
}

impl ClusterId {
    /// The largest number that any mode allows.
    pub const MAX: u32 = 511;

    pub fn new(id: u32) -> Result<Self, Error> {
        if (1..=Self::MAX).contains(&id) { Ok(Self(id)) } else { Err(Error::IdRange(id)) }
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ClusterId {
    type Error = Error;
    fn try_from(id: u32) -> Result<Self, Error> {
        Self::new(id)
    }
}

impl From<ClusterId> for u32 {
    fn from(id: ClusterId) -> Self {
        id.0
    }
}

impl FromStr for ClusterId {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        let id = s.parse().map_err(|_not_a_number| Error::IdSyntax(s.to_owned()))?;
        Self::new(id)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ClusterName {
    /// The longest name that Cilium accepts, in characters.
    pub const MAX_LEN: usize = 32;

    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let body = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let ends_ok = bytes.first().copied().is_some_and(body) && bytes.last().copied().is_some_and(body);
        if ends_ok && bytes.len() <= Self::MAX_LEN && bytes.iter().all(|&b| body(b) || b == b'-') {
            Ok(Self(name))
        } else {
            Err(Error::Name(name))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClusterName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl FromStr for ClusterName {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ClusterName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_ciliums_pattern() {
        for good in ["a", "cluster-1", "0", "a-b--c", &"x".repeat(32)] {
            assert!(ClusterName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"x".repeat(33)] {
            assert_eq!(ClusterName::new(bad), Err(Error::Name(bad.to_owned())));
        }
    }

    #[test]
    fn ids_outside_1_to_511_are_refused_with_the_range() {
        assert_eq!(ClusterId::new(0), Err(Error::IdRange(0)));
        assert!(ClusterId::new(511).is_ok());
        assert_eq!("512".parse::<ClusterId>().unwrap_err().to_string(), "cluster id 512 is out of range: use 1 to 511");
    }
}
