//! How an object that is there stands to what is wanted of it. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::resolve::Import;
use crate::kubernetes::Target;
use crate::objects::{EndpointSlice, Service, ServiceImport};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has what is wanted, and nothing beside of what this server might have written.
    Equal,
    /// It has all that is wanted, and something beside.
    More,
    Less,
}

pub(super) fn of_import(found: &ServiceImport, wanted: &Value) -> Standing {
    let Ok(wanted) = serde_json::from_value::<ServiceImport>(wanted.clone()) else { return Standing::Less };
    let standing =
        of_maps([(&found.metadata.labels, &wanted.metadata.labels), (&found.annotations, &wanted.annotations)]);
    if found.spec == wanted.spec { standing } else { Standing::Less }
}

pub(super) fn of_service(found: &Service, wanted: &Value) -> Standing {
    let Ok(wanted) = serde_json::from_value::<Service>(wanted.clone()) else { return Standing::Less };
    let standing = of_maps([
        (&found.metadata.labels, &wanted.metadata.labels),
        (&found.metadata.annotations, &wanted.metadata.annotations),
    ]);
    if found.asks_for(&wanted) { standing } else { Standing::Less }
}

pub(super) fn of_slice(found: &EndpointSlice, wanted: &Value) -> Standing {
    let Ok(wanted) = serde_json::from_value::<EndpointSlice>(wanted.clone()) else { return Standing::Less };
    let standing = of_maps([(&found.metadata.labels, &wanted.metadata.labels)]);
    if found.has_backends_of(&wanted) { standing } else { Standing::Less }
}

/// Of what the API server made of what was written. A status it keeps as it is.
pub(super) fn of_answer(target: Target, answer: &Value, wanted: &Value) -> Standing {
    let answer = answer.clone();
    let standing = match target {
        Target::Import => serde_json::from_value(answer).map(|found| of_import(&found, wanted)),
        Target::Service => serde_json::from_value(answer).map(|found| of_service(&found, wanted)),
        Target::Slice => serde_json::from_value(answer).map(|found| of_slice(&found, wanted)),
        Target::ImportStatus | Target::ExportStatus => Ok(Standing::Equal),
    };
    standing.unwrap_or(Standing::Less)
}

/// Whether a derived Service can become what the import wants: only one that is made anew can get an address, or lose it.
pub(super) fn is_fit(service: &Service, import: &Import) -> bool {
    service.is_headless() == import.is_headless
}

pub(super) fn addresses_of(service: &Service) -> Vec<IpAddr> {
    service.cluster_ips().into_iter().filter(IpAddr::is_ipv4).collect()
}

type Words = BTreeMap<String, String>;

fn of_maps<const N: usize>(maps: [(&Words, &Words); N]) -> Standing {
    let has_all = |(found, wanted): &(&Words, &Words)| wanted.iter().all(|(key, value)| found.get(key) == Some(value));
    if !maps.iter().all(has_all) {
        Standing::Less
    } else if maps.iter().all(|(found, wanted)| found.len() == wanted.len()) {
        Standing::Equal
    } else {
        Standing::More
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(labels: &Value, address: &str) -> Value {
        json!({
            "metadata": {"name": "s", "namespace": "shop", "labels": labels}, "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}], "ports": [],
        })
    }

    #[test]
    fn what_others_add_is_more_and_what_they_take_is_less() {
        let wanted = slice(&json!({"a": "1"}), "10.0.0.1");
        let table = [
            (slice(&json!({"a": "1"}), "10.0.0.1"), Standing::Equal),
            (slice(&json!({"a": "1", "b": "2"}), "10.0.0.1"), Standing::More),
            (slice(&json!({"b": "2"}), "10.0.0.1"), Standing::Less),
            (slice(&json!({"a": "1"}), "10.0.0.2"), Standing::Less),
        ];
        for (found, standing) in table {
            assert_eq!(of_answer(Target::Slice, &found, &wanted), standing, "{found}");
        }
    }

    #[test]
    fn what_an_api_server_adds_to_a_service_is_no_difference() {
        let wanted = json!({
            "metadata": {"name": "s", "labels": {"a": "1"}},
            "spec": {"type": "ClusterIP", "ipFamilies": ["IPv4"], "sessionAffinity": "None",
                     "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
        });
        let mut found = wanted.clone();
        found["spec"]["clusterIP"] = json!("10.96.0.7");
        found["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
        found["spec"]["internalTrafficPolicy"] = json!("Cluster");
        found["spec"]["ports"][0]["targetPort"] = json!(80);
        assert_eq!(of_answer(Target::Service, &found, &wanted), Standing::Equal);
        found["spec"]["ports"][0]["port"] = json!(81);
        assert_eq!(of_answer(Target::Service, &found, &wanted), Standing::Less);
    }
}
