//! What is written is what is read, for every kind of value; and whatever is read never panics.

use std::collections::BTreeMap;

use mesh_types::view::{Ip, Service, ServiceBackend};
use mesh_types::{
    BackendState, ClusterId, ClusterName, Frontend, Label, LabelSet, NamedPort, Node, NodeName, Preference, Protocol,
    SecurityIdentity, ServiceName,
};
use proptest::prelude::*;

use super::super::cluster_config::{Capabilities, ENDPOINT_SLICES_ONLY, SERVICES_AND_ENDPOINT_SLICES, SERVICES_ONLY};
use super::super::endpoint_slice::{Conditions, Endpoint, EndpointPort, ForZone, Hints, SliceName};
use super::super::ip::IpPort;
use super::super::node::Cidr;
use super::super::service_export::{CLUSTER_SET_IP, ClientIp, ExportedPort, HEADLESS, SessionAffinityConfig};
use super::super::validate::Rules;
use super::super::{
    ClusterConfig, EndpointSliceValue, ExportClock, IpValue, NodeValue, Resource, ServiceExportValue, ServiceValue,
    identity,
};
use super::{own_node, vectors};

fn ports() -> impl Strategy<Value = Vec<NamedPort>> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    prop::collection::btree_map("[a-z]{0,6}", (protocol, 1..=u16::MAX), 0..4).prop_map(|ports| {
        ports.into_iter().map(|(name, (protocol, port))| NamedPort { name, protocol, port }).collect()
    })
}

fn prefix() -> impl Strategy<Value = ipnet::IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(a, len)| ipnet::IpNet::new(a.into(), len).unwrap().trunc()),
        (any::<[u8; 16]>(), 0..=128u8).prop_map(|(a, len)| ipnet::IpNet::new(a.into(), len).unwrap().trunc()),
    ]
}

proptest! {
    #[test]
    fn every_node_reads_back(
        mut cidrs in prop::collection::vec(prefix(), 0..5),
        ips in prop::collection::vec(any::<std::net::IpAddr>(), 0..4),
        key in any::<Option<[u8; 32]>>(),
        wireguard_port in 1..=u16::MAX,
        vxlan_port in 1..=u16::MAX,
    ) {
        // The layout keeps the order within a family only: one field for the first, one for the rest.
        cidrs.sort_by_key(|net| net.addr().is_ipv6());
        let mut node = Node { internal_ips: ips, wireguard_key: key, wireguard_port, vxlan_port, ..own_node() };
        node.pod_cidrs = cidrs;
        let mut back = NodeValue::decode(&NodeValue::from_node(&node).encode()).unwrap().to_node().unwrap();
        back.pod_cidrs.sort_by_key(|net| net.addr().is_ipv6());
        prop_assert_eq!(back, node);
    }

    #[test]
    fn every_service_reads_back(
        frontends in prop::collection::btree_map(any::<std::net::Ipv4Addr>(), ports(), 0..3),
        backends in prop::collection::btree_map(any::<std::net::Ipv4Addr>(), (ports(), prop::option::of("[a-z]{1,4}")), 0..4),
        shared in any::<bool>(),
    ) {
        let cluster = ClusterName::new("east").unwrap();
        let name = ServiceName::new("shop", "cart");
        let mut word = Service {
            cluster: cluster.clone(),
            name: name.clone(),
            frontends: frontends.into_iter().map(|(ip, ports)| Frontend { address: ip.into(), ports }).collect(),
            global: true,
            shared,
            prefers: Preference::default(),
        };
        word.frontends.sort_by_key(|f| f.address.to_string());
        let mut backends: Vec<ServiceBackend> = backends
            .into_iter()
            .map(|(ip, (ports, zone))| ServiceBackend {
                cluster: cluster.clone(), service: name.clone(), address: ip.into(), ports,
                state: BackendState::Active, node: None, zone, weight: 1,
            })
            .collect();
        backends.sort_by_key(|b| b.address.to_string());
        let value = ServiceValue::from_service(&word, ClusterId::new(7).unwrap(), &backends);
        let back = ServiceValue::decode(&value.encode()).unwrap().to_service().unwrap();
        prop_assert_eq!(back, (word, backends));
    }
}

fn words() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z./-]{1,8}", ".{0,8}", 0..4)
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let conditions = (any::<Option<bool>>(), any::<Option<bool>>(), any::<Option<bool>>());
    let hints = prop::option::of(prop::collection::vec("[a-z]{0,3}", 0..3));
    let text = || prop::option::of(".{0,8}");
    (prop::collection::vec(".{0,12}", 0..3), conditions, text(), text(), text(), hints).prop_map(
        |(addresses, (ready, serving, terminating), hostname, node_name, zone, hints)| Endpoint {
            addresses,
            conditions: Conditions { ready, serving, terminating },
            hostname,
            node_name,
            zone,
            hints: hints.map(|zones| Hints { for_zones: zones.into_iter().map(|name| ForZone { name }).collect() }),
        },
    )
}

fn endpoint_port() -> impl Strategy<Value = EndpointPort> {
    let text = || prop::option::of(".{0,8}");
    (text(), text(), any::<Option<i32>>(), text()).prop_map(|(name, protocol, port, app_protocol)| EndpointPort {
        name,
        protocol,
        port,
        app_protocol,
    })
}

fn export() -> impl Strategy<Value = ServiceExportValue> {
    let port = ("[a-z]{0,4}", prop_oneof!["", "TCP", "UDP", "SCTP"], prop::option::of("[a-z]{1,4}"), 1..=65_535)
        .prop_map(|(name, protocol, app_protocol, port)| ExportedPort { name, protocol, app_protocol, port });
    let families =
        prop_oneof![Just(vec![]), Just(vec!["IPv4".to_owned()]), Just(vec!["IPv6".to_owned(), "IPv4".to_owned()])];
    let timeout = prop::option::of(prop::option::of(prop::option::of(1..=86_400)));
    let texts = (words(), words(), prop_oneof![CLUSTER_SET_IP, HEADLESS], prop_oneof!["", "None", "ClientIP"]);
    let policies = (prop::option::of("Cluster|Local"), prop::option::of("PreferClose|PreferSameZone|PreferSameNode"));
    (texts, prop::collection::vec(port, 0..4), families, timeout, policies).prop_map(
        |((annotations, labels, kind, session_affinity), ports, ip_families, timeout, policies)| ServiceExportValue {
            cluster: "east".into(),
            name: "cart".into(),
            namespace: "shop".into(),
            annotations,
            labels,
            export_creation_timestamp: Some("2026-03-04T05:06:07Z".into()),
            ports,
            kind,
            session_affinity,
            session_affinity_config: timeout.map(|client_ip| SessionAffinityConfig {
                client_ip: client_ip.map(|timeout_seconds| ClientIp { timeout_seconds }),
            }),
            ip_families,
            internal_traffic_policy: policies.0,
            traffic_distribution: policies.1,
        },
    )
}

fn backends(is_ipv6: bool) -> impl Strategy<Value = Vec<ServiceBackend>> {
    let state = prop_oneof![Just(BackendState::Active), Just(BackendState::Terminating), Just(BackendState::NotReady)];
    let one = (state, prop::option::of("[a-z0-9]{1,6}"), prop::option::of("[a-z]{1,4}"));
    (prop::collection::btree_map(any::<[u8; 16]>(), one, 1..5), ports()).prop_map(move |(backends, ports)| {
        let mut backends: Vec<_> = backends
            .into_iter()
            .map(|(octets, (state, node, zone))| ServiceBackend {
                cluster: ClusterName::new("east").unwrap(),
                service: ServiceName::new("shop", "cart"),
                address: if is_ipv6 { octets.into() } else { [octets[0], octets[1], octets[2], octets[3]].into() },
                ports: ports.clone(),
                state,
                node: node.map(NodeName),
                zone,
                weight: 1,
            })
            .collect();
        backends.sort_by_key(|backend| backend.address);
        backends.dedup_by_key(|backend| backend.address);
        backends
    })
}

proptest! {
    #[test]
    fn every_identity_reads_back(labels in prop::collection::btree_map("[a-zA-Z0-9./_-]{1,20}", "[a-zA-Z0-9=:._-]{0,10}", 0..6)) {
        let labels: LabelSet = labels.into_iter().map(|(key, value)| Label::k8s(key, value)).collect();
        prop_assert_eq!(identity::decode(&identity::encode(&labels)).unwrap(), labels);
    }

    #[test]
    fn every_address_reads_back(
        address in any::<std::net::IpAddr>(),
        host in any::<Option<std::net::IpAddr>>(),
        number in any::<u32>(),
        key in any::<u8>(),
        pod in prop::option::of(("[a-z]{1,6}", "[a-z0-9-]{1,9}")),
    ) {
        let (namespace, pod) = pod.unzip();
        let cluster = ClusterName::new("east").unwrap();
        let word = Ip { cluster: cluster.clone(), prefix: address.into(), identity: SecurityIdentity(number), host, namespace, pod };
        let value = IpValue::from_ip(&word, key).unwrap();
        let text = value.encode();
        prop_assert!(!String::from_utf8_lossy(&text).contains("Mask"));
        prop_assert_eq!(IpValue::decode(&text).unwrap().to_ip(&cluster).unwrap(), word);
    }

    #[test]
    fn every_prefix_and_every_field_of_an_address_reads_back(
        prefix in prefix(),
        texts in prop::array::uniform7(".{0,8}"),
        named_ports in ports(),
        key in any::<u8>(),
    ) {
        let Cidr { ip, mask } = Cidr::from(&prefix);
        let [metadata, namespace, pod_name, pod_uid, workload_name, workload_kind, service_account] = texts;
        let named_ports = named_ports.iter().map(IpPort::from).collect();
        let value = IpValue {
            ip, mask: Some(mask), host_ip: "192.0.2.17".into(), id: 2, key, metadata, namespace, pod_name, pod_uid,
            workload_name, workload_kind, service_account, named_ports,
        };
        let back = IpValue::decode(&value.encode()).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(back.prefix().unwrap(), prefix);
    }

    #[test]
    fn every_configuration_reads_back(
        (id, max_connected_clusters) in (any::<u32>(), any::<u32>()),
        (synced_canaries, cached) in any::<(bool, bool)>(),
        service_exports_enabled in any::<Option<bool>>(),
        mode in 0..3_usize,
    ) {
        let mode = [SERVICES_ONLY, SERVICES_AND_ENDPOINT_SLICES, ENDPOINT_SLICES_ONLY][mode];
        let endpoint_slices_export_mode = mode.to_owned();
        let capabilities = Capabilities {
            synced_canaries, cached, max_connected_clusters, service_exports_enabled, endpoint_slices_export_mode,
        };
        let config = ClusterConfig { id, capabilities };
        prop_assert_eq!(ClusterConfig::decode(&config.encode()).unwrap(), config);
    }

    #[test]
    fn every_clock_reads_back(unix_nanos in any::<u64>()) {
        let clock = ExportClock { unix_nanos };
        prop_assert_eq!(ExportClock::decode(&clock.encode()).unwrap(), clock);
    }

    #[test]
    fn every_service_export_reads_back(export in export()) {
        prop_assert_eq!(ServiceExportValue::decode(&export.encode()).unwrap(), export);
    }

    #[test]
    fn every_slice_reads_back_and_is_written_to_the_same_bytes(
        (labels, annotations) in (words(), words()),
        endpoints in prop::collection::vec(endpoint(), 0..5),
        ports in prop::collection::vec(endpoint_port(), 0..3),
        (cluster, name, address_type, cluster_id) in (".{0,6}", ".{0,6}", ".{0,4}", any::<u32>()),
    ) {
        let slice = EndpointSliceValue {
            cluster, cluster_id, namespace: "shop".into(), name, labels, annotations, address_type, endpoints, ports,
        };
        let bytes = slice.encode();
        let back = EndpointSliceValue::decode(&bytes).unwrap();
        prop_assert_eq!(back.encode(), bytes);
        prop_assert_eq!(back, slice);
    }

    #[test]
    fn every_backend_reads_back_from_its_slice(backends in any::<bool>().prop_flat_map(backends)) {
        let cluster = ClusterName::new("east").unwrap();
        let service = ServiceName::new("shop", "cart");
        let cluster_id = ClusterId::new(7).unwrap();
        let name = SliceName { cluster: &cluster, cluster_id, service: &service, slice: "cart-1" };
        let slice = EndpointSliceValue::from_backends(name, &backends).unwrap();
        let back = EndpointSliceValue::decode(&slice.encode()).unwrap();
        prop_assert_eq!(back.service(), Some(service));
        prop_assert_eq!(back.to_backends().unwrap(), backends);
    }

    #[test]
    fn no_value_makes_a_reader_panic(
        place in 0..usize::MAX, bytes in prop::collection::vec(any::<u8>(), 0..6), kind in 0..6_usize,
    ) {
        let east = Rules {
            name: ClusterName::new("east").unwrap(),
            id: ClusterId::new(7).unwrap(),
            layout: mesh_types::IdentityLayout::Clusters255,
            pod_prefixes: vec!["10.71.0.0/16".parse().unwrap()],
            node_prefixes: vec!["192.0.2.0/24".parse().unwrap()],
            service_prefixes: vec![],
        };
        let slice: EndpointSliceValue = prost::Message::decode(vectors::slice_message().as_slice()).unwrap();
        let (resource, mut value) = match kind {
            0 => (Resource::Nodes, NodeValue::from_node(&own_node()).encode()),
            1 => (Resource::Ip, vectors::IPS[0].1.as_bytes().to_vec()),
            2 => (Resource::ServiceExports, vectors::SERVICE_EXPORT.as_bytes().to_vec()),
            3 => (Resource::EndpointSlices, slice.encode()),
            4 => (Resource::Identities, b"k8s:app=cart;k8s:io.cilium.k8s.policy.cluster=east;".to_vec()),
            _ => (Resource::Services, ServiceValue::default().encode()),
        };
        let at = place % value.len();
        let end = (at + bytes.len()).min(value.len());
        value.splice(at..end, bytes);
        // Either answer is right.
        drop(east.check(resource, "shop/cart", &value));
        drop(east.check_config(&value));
    }
}
