//! `contract`: the values that a remote cluster writes. An input's first byte picks the kind, the rest is the value.
//!
//! What must hold: a value is refused with a reason or read; what was read is written to a value that reads the same; what
//! it means in the mesh's words can be asked; and what the rules accept is the peer's to say.

use std::fmt::Debug;

use federation::contract::endpoint_slice::SliceName;
use federation::contract::keys::CacheKey;
use federation::contract::validate::Rules;
use federation::contract::{
    ClusterConfig, EndpointSliceValue, Error, ExportClock, IpValue, NodeValue, Resource, ServiceExportValue,
    ServiceValue, identity,
};
use mesh_types::prefix::any_contains;
use mesh_types::{ClusterId, ClusterName, IdentityLayout};

/// How many kinds of input there are.
const KINDS: u8 = 9;

pub fn run(input: &[u8]) {
    let Some((kind, value)) = input.split_first() else { return };
    let east = east();
    let accepts = |resource, key: &str| east.check(resource, key, value).is_ok();
    match kind % KINDS {
        0 => {
            let labels = read(value, identity::decode, identity::encode);
            assert!(labels.is_some() || !accepts(Resource::Identities, "459953"));
        }
        1 => node(value, &east),
        2 => ip(value, &east),
        3 => {
            let Some(service) = read(value, ServiceValue::decode, ServiceValue::encode) else { return };
            if accepts(Resource::Services, &service.service_name().to_string()) {
                let (_, backends) = service.to_service().unwrap();
                assert!(backends.iter().all(|backend| any_contains(&east.pod_prefixes, backend.address)));
            }
        }
        4 => {
            let Some(export) = read(value, ServiceExportValue::decode, ServiceExportValue::encode) else { return };
            let is_accepted = accepts(Resource::ServiceExports, &export.service_name().to_string());
            assert!(export.created().is_ok() && (!is_accepted || export.cluster == "east"));
        }
        5 => slice(value, &east),
        // A fuzzer does not find a frame's checksum: it is given one, so that it gets at the message.
        6 => slice(&zstd::bulk::compress(value, 1).unwrap(), &east),
        7 => {
            if let Some(config) = read(value, ClusterConfig::decode, ClusterConfig::encode) {
                let exports = |resource| config.capabilities.exports(resource);
                assert!(exports(Resource::Services) || exports(Resource::EndpointSlices), "backends are somewhere");
            }
            if let Ok(config) = east.check_config(value) {
                assert_eq!(config.id, 7);
                assert!(config.into_cached().capabilities.cached);
            }
        }
        _ => {
            read(value, ExportClock::decode, |clock: &ExportClock| clock.encode());
            let key = std::str::from_utf8(value).ok().and_then(CacheKey::parse);
            assert!(key.is_none_or(|key| !key.rest.is_empty()));
        }
    }
}

/// Reads, and reads again what is written of it.
fn read<T: PartialEq + Debug>(
    value: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Error>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let read = decode(value).ok()?;
    let written = encode(&read);
    let again = decode(&written).unwrap();
    assert_eq!(encode(&again), written);
    assert_eq!(again, read);
    Some(read)
}

fn node(value: &[u8], east: &Rules) {
    let Some(node) = read(value, NodeValue::decode, NodeValue::encode) else { return };
    let word = node.to_node();
    if east.check(Resource::Nodes, &node.name, value).is_ok() {
        let word = word.unwrap();
        // Without an IPv6 prefix of it declared, its IPv6 addresses are used nowhere.
        let is_used =
            |ip: &&std::net::IpAddr| ip.is_ipv4() || east.node_prefixes.iter().any(|net| net.addr().is_ipv6());
        assert!(word.internal_ips.iter().filter(is_used).all(|ip| any_contains(&east.node_prefixes, *ip)));
        assert_eq!((word.cluster.as_str(), word.cluster_id.get()), ("east", 7));
    }
}

fn ip(value: &[u8], east: &Rules) {
    let Some(ip) = read(value, IpValue::decode, IpValue::encode) else { return };
    let Ok(prefix) = ip.prefix() else { return };
    let word = ip.to_ip(&east.name);
    if east.check(Resource::Ip, &prefix.to_string(), value).is_ok() {
        let word = word.unwrap();
        assert!(east.layout.may_say(east.id, word.identity));
        let exported = IpValue::from_ip(&word, ip.key);
        assert!(exported.is_none_or(|exported| exported.prefix().unwrap() == prefix));
    }
}

fn slice(value: &[u8], east: &Rules) {
    let Some(slice) = read(value, EndpointSliceValue::decode, EndpointSliceValue::encode) else { return };
    let backends = slice.to_backends();
    if let (Ok(backends), Some(service)) = (&backends, slice.service()) {
        let name = SliceName { cluster: &east.name, cluster_id: east.id, service: &service, slice: &slice.name };
        let again = EndpointSliceValue::from_backends(name, backends).unwrap().to_backends().unwrap();
        let facts =
            |backend: &mesh_types::view::ServiceBackend| (backend.address, backend.state, backend.ports.clone());
        assert!(again.iter().map(facts).eq(backends.iter().map(facts)));
    }
    if east.check(Resource::EndpointSlices, &format!("{}/{}", slice.namespace, slice.name), value).is_ok() {
        assert!(backends.unwrap().iter().all(|backend| any_contains(&east.pod_prefixes, backend.address)));
    }
}

fn east() -> Rules {
    Rules {
        name: ClusterName::new("east").unwrap(),
        id: ClusterId::new(7).unwrap(),
        layout: IdentityLayout::Clusters255,
        pod_prefixes: vec!["10.71.0.0/16".parse().unwrap(), "fd71::/16".parse().unwrap()],
        node_prefixes: vec!["192.0.2.0/24".parse().unwrap()],
        service_prefixes: vec!["10.96.0.0/16".parse().unwrap()],
    }
}

/// A value of each kind, as Cilium or Isthmus writes it. Of a slice the frame, and the message alone.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let slice: [&[u8]; 5] = [
        b"\x0a\x04east\x10\x07\x1a\x04shop\x22\x06cart-1",
        b"\x2a\x22\x0a\x1akubernetes.io/service-name\x12\x04cart\x3a\x04IPv4",
        b"\x42\x2d\x0a\x0a10.71.7.44\x12\x06\x08\x01\x10\x01\x18\x00\x32\x08worker-7\x3a\x01a\x42\x0a\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b",
        b"\x42\x10\x0a\x0a10.71.7.46\x12\x02\x08\x00",
        b"\x4a\x0e\x0a\x04grpc\x12\x03TCP\x18\x9e\x37\x4a\x09\x0a\x00\x12\x03UDP\x18\x35",
    ];
    let slice = slice.concat();
    let texts: [(u8, &str); 15] = [
        (0, "k8s:app=cart;k8s:io.cilium.k8s.policy.cluster=east;k8s:io.kubernetes.pod.namespace=shop;"),
        (
            1,
            r#"{"Name":"w1","Cluster":"east","IPAddresses":[{"Type":"InternalIP","IP":"192.0.2.17"}],"IPv4AllocCIDR":{"IP":"10.71.7.0","Mask":"////AA=="},"IPv6AllocCIDR":{"IP":"fd71:7::","Mask":"//////////8AAAAAAAAAAA=="},"ClusterID":7,"Annotations":{"mesh.isthmus.io/vxlan-port":"8473"},"WireguardPubKey":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","BootID":""}"#,
        ),
        (
            1,
            r#"{"Name":"w1","Cluster":"east","IPv4SecondaryAllocCIDRs":[{"IP":"10.71.9.0","Mask":"////gA=="}],"IPv6SecondaryAllocCIDRs":null,"ClusterID":7,"Labels":{"a":"b"},"NodeIdentity":0}"#,
        ),
        (
            2,
            r#"{"IP":"10.71.7.44","Mask":null,"HostIP":"192.0.2.17","ID":459953,"Key":255,"Metadata":"","K8sNamespace":"shop","K8sPodName":"cart-6c9","NamedPorts":[{"Name":"http","Port":8080,"Protocol":"TCP"}]}"#,
        ),
        (2, r#"{"IP":"10.71.7.0","Mask":"////AA==","HostIP":"","ID":2}"#),
        (2, r#"{"IP":"fd71:7::","Mask":"//////////8AAAAAAAAAAA==","ID":2}"#),
        (
            2,
            r#"{"IP":"fd71::44","ID":459953,"K8sPodUID":"5f0c","K8sWorkloadName":"cart","K8sWorkloadKind":"Deployment","K8sServiceAccount":"default"}"#,
        ),
        (
            3,
            r#"{"cluster":"east","namespace":"shop","name":"cart","frontends":{"10.96.7.20":{"grpc":{"Protocol":"TCP","Port":7070}}},"backends":{"10.71.7.44":{"grpc":{"Protocol":"TCP","Port":7070}}},"hostnames":{"10.71.7.44":"cart-0"},"zones":{"10.71.7.44":{"zone":"a","forZones":[{"name":"a"}]}},"labels":{},"selector":{"app":"cart"},"includeExternal":true,"shared":true,"clusterID":7}"#,
        ),
        (
            3,
            r#"{"cluster":"east","namespace":"shop","name":"cart","backends":{"fd71::44":{"":{"Protocol":"UDP","Port":53}}},"clusterID":7}"#,
        ),
        (
            4,
            r#"{"cluster":"east","name":"cart","namespace":"shop","Labels":{"tier":"back"},"Annotations":{"team":"a"},"exportCreationTimestamp":"2026-03-04T05:06:07Z","ports":[{"name":"grpc","protocol":"TCP","appProtocol":"h2c","port":7070},{"port":53}],"type":"ClusterSetIP","sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10}},"ipFamilies":["IPv4","IPv6"],"internalTrafficPolicy":"Local","trafficDistribution":"PreferClose"}"#,
        ),
        (
            4,
            r#"{"cluster":"east","name":"cart","namespace":"shop","annotations":{},"labels":{"tier":"back"},"exportCreationTimestamp":"2026-03-04T05:06:07+01:00","ports":null,"type":"Headless","sessionAffinity":""}"#,
        ),
        (
            7,
            r#"{"id":7,"capabilities":{"syncedCanaries":true,"cached":true,"maxConnectedClusters":255,"serviceExportsEnabled":false,"endpointSlicesExportMode":"services-and-endpointslices"}}"#,
        ),
        (7, r#"{"id":7,"capabilities":{"endpointSlicesExportMode":"endpointslices-only"}}"#),
        (8, r#"{"unix_nanos":1772600767000000000}"#),
        (8, "cilium/cache/identities/v1/east/id/459953"),
    ];
    let texts = texts.iter().map(|(kind, text)| (*kind, text.as_bytes().to_vec()));
    let frames = [1, 9].map(|level| (5, zstd::bulk::compress(&slice, level).unwrap()));
    // Without the length of the content, as Cilium's frames are.
    let stream = (5, zstd::encode_all(slice.as_slice(), 3).unwrap());
    let messages = [slice.clone(), slice[..65].to_vec(), Vec::new()].map(|message| (6, message));
    let all = texts.chain(frames).chain([stream]).chain(messages);
    all.map(|(kind, value)| [vec![kind], value].concat()).collect()
}
