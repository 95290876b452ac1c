//! ObjectMeta.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What the names of annotations begin with that the mesh reads. All others (a last applied configuration may be larger than
/// the rest of its object) are dropped while they are read.
const READ_ANNOTATIONS: [&str; 3] = ["mesh.isthmus.io/", "service.cilium.io/", "io.cilium/"];

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
    /// Only those of the mesh.
    #[serde(default, deserialize_with = "read_annotations")]
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

fn read_annotations<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let read: Option<Annotations> = Option::deserialize(from)?;
    Ok(read.map(|read| read.0).unwrap_or_default())
}

struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pick;

        impl<'de> Visitor<'de> for Pick {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut picked = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if READ_ANNOTATIONS.iter().any(|prefix| name.starts_with(prefix)) {
                        picked.insert(name, map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Annotations(picked))
            }
        }

        from.deserialize_map(Pick)
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::{exchange, preference, service, withdrawal};

    use super::*;

    #[test]
    fn annotations_of_the_mesh_are_kept_and_all_others_dropped() {
        let text = r#"{"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "other": "x",
                       "mesh.isthmus.io/global": "true", "io.cilium/global-service": "false"}}"#;
        let meta: Meta = serde_json::from_str(text).unwrap();
        let names: Vec<&str> = meta.annotations.keys().map(String::as_str).collect();
        assert_eq!(names, ["io.cilium/global-service", "mesh.isthmus.io/global"]);
        assert_eq!(serde_json::from_str::<Meta>(r#"{"annotations": null}"#).unwrap().annotations, BTreeMap::new());
        let wrong = serde_json::from_str::<Meta>(r#"{"annotations": {"mesh.isthmus.io/global": true}}"#).unwrap_err();
        assert!(wrong.to_string().starts_with("invalid type: boolean `true`, expected a string"), "{wrong}");
    }

    #[test]
    fn every_annotation_that_the_mesh_knows_is_kept() {
        let mut known = vec![exchange::EXPORT_TO, exchange::IMPORT_FROM, withdrawal::WITHDRAW_AFTER];
        known.extend([preference::FAILOVER, preference::WEIGHTS, preference::SPILLOVER]);
        known.extend(service::GLOBAL.into_iter().chain(service::SHARED).chain(preference::AFFINITY));
        for name in known {
            assert!(READ_ANNOTATIONS.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        }
    }
}
