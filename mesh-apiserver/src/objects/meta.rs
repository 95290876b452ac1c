//! ObjectMeta.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Meta {
    #[serde(default)]
    pub name: String,
    #[serde(default = "default_namespace", deserialize_with = "namespace_or_default")]
    pub namespace: String,
    #[serde(default)]
    pub uid: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn namespace_or_default<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let given: Option<String> = Option::deserialize(from)?;
    Ok(given.filter(|n| !n.is_empty()).unwrap_or_else(default_namespace))
}

/// `labels:` with nothing behind it is null in YAML and means "none", as it does to kubectl.
pub(super) fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
