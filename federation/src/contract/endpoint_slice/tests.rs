use mesh_types::view::ServiceBackend;
use mesh_types::{BackendState, ClusterId, ClusterName, NamedPort, NodeName, Protocol};

use super::*;

fn slice() -> EndpointSliceValue {
    let endpoint = |address: &str, ready| Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Conditions { ready: Some(ready), ..Conditions::default() },
        ..Endpoint::default()
    };
    EndpointSliceValue {
        cluster: "east".into(),
        cluster_id: 7,
        namespace: "shop".into(),
        name: "cart-1".into(),
        labels: BTreeMap::from([(SERVICE_NAME.to_owned(), "cart".to_owned())]),
        address_type: "IPv4".into(),
        endpoints: vec![endpoint("10.71.7.44", true), endpoint("10.71.7.45", false)],
        ports: vec![EndpointPort { port: Some(7070), ..EndpointPort::default() }],
        ..EndpointSliceValue::default()
    }
}

fn backend(address: &str) -> ServiceBackend {
    ServiceBackend {
        cluster: ClusterName::new("east").unwrap(),
        service: ServiceName::new("shop", "cart"),
        address: address.parse().unwrap(),
        ports: vec![NamedPort { name: String::new(), protocol: Protocol::Tcp, port: 7070 }],
        state: BackendState::Active,
        node: None,
        zone: None,
        weight: 1,
    }
}

/// The whole chain of causes, as it is logged.
fn words(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn refused(message: &[u8]) -> String {
    words(&EndpointSliceValue::decode(&frame::pack(message)).unwrap_err())
}

#[test]
fn a_state_becomes_conditions_that_say_it() {
    for state in [BackendState::Active, BackendState::Terminating, BackendState::NotReady] {
        assert_eq!(Conditions::from(state).state(), state);
    }
}

#[test]
fn what_is_not_said_stays_unsaid() {
    let back = EndpointSliceValue::decode(&slice().encode()).unwrap();
    assert_eq!(back.endpoints[0].conditions, Conditions { ready: Some(true), serving: None, terminating: None });
    assert_eq!((back.ports[0].name.as_ref(), back.endpoints[0].hints.as_ref()), (None, None));
    assert_eq!(
        back.named_ports().unwrap(),
        backend("10.71.7.44").ports,
        "no name is the name \"\", no protocol is TCP"
    );
}

#[test]
fn not_ready_endpoints_are_backends_and_one_without_address_or_a_port_without_number_is_none() {
    let mut slice = slice();
    slice.endpoints.push(Endpoint::default());
    slice.ports.push(EndpointPort::default());
    let backends = slice.to_backends().unwrap();
    let states: Vec<_> = backends.iter().map(|backend| backend.state).collect();
    assert_eq!(states, [BackendState::Active, BackendState::NotReady]);
    assert_eq!(backends[0], backend("10.71.7.44"));
}

#[test]
fn an_address_that_stands_there_twice_is_one_backend_in_the_better_state() {
    let mut slice = slice();
    slice.endpoints[1].addresses = vec!["10.71.7.44".into()];
    slice.endpoints[1].node_name = Some("w1".into());
    slice.endpoints.reverse();
    let expected = ServiceBackend { node: Some(NodeName("w1".into())), ..backend("10.71.7.44") };
    assert_eq!(slice.to_backends().unwrap(), [expected]);
}

#[test]
fn backends_that_no_slice_can_say_together_are_refused() {
    let (cluster, service) = (ClusterName::new("east").unwrap(), ServiceName::new("shop", "cart"));
    let cluster_id = ClusterId::new(7).unwrap();
    let name = SliceName { cluster: &cluster, cluster_id, service: &service, slice: "cart-1" };
    let of = |backends: &[ServiceBackend]| EndpointSliceValue::from_backends(name, backends);
    let error = of(&[backend("10.71.7.44"), backend("fd71::44")]).unwrap_err();
    assert_eq!(error.to_string(), "addresses: \"fd71::44\" is not of the address family of the slice");
    let other_ports = ServiceBackend { ports: vec![], ..backend("10.71.7.45") };
    assert!(of(&[backend("10.71.7.44"), other_ports]).unwrap_err().to_string().starts_with("ports: \"10.71.7.45\""));
    assert_eq!(of(&[backend("fd71::44")]).unwrap().address_type, "IPv6");
    assert!(of(&[]).unwrap().to_backends().unwrap().is_empty());
}

#[test]
fn a_field_without_meaning_is_named_with_its_value() {
    let changed = |change: fn(&mut EndpointSliceValue)| {
        let mut slice = slice();
        change(&mut slice);
        slice.to_backends().unwrap_err().to_string()
    };
    assert!(changed(|s| s.cluster = "East".into()).starts_with("cluster: \"East\""));
    assert!(changed(|s| s.labels.clear()).starts_with("kubernetes.io/service-name: \"\""));
    assert!(changed(|s| s.address_type = "FQDN".into()).starts_with("addressType: \"FQDN\""));
    assert!(changed(|s| s.address_type = "IPv6".into()).starts_with("addresses: \"10.71.7.44\""));
    assert!(changed(|s| s.endpoints[1].addresses[0] = "cart".into()).starts_with("addresses: \"cart\""));
    assert!(
        changed(|s| s.endpoints[0].addresses[0] = "fe80::1%eth0".into()).starts_with("addresses: \"fe80::1%eth0\"")
    );
    for (number, text) in [(0, "ports: \"0\""), (-1, "ports: \"-1\""), (65_536, "ports: \"65536\"")] {
        let mut slice = slice();
        slice.ports[0].port = Some(number);
        assert!(slice.named_ports().unwrap_err().to_string().starts_with(text));
    }
    assert!(changed(|s| s.ports[0].protocol = Some("ICMP".into())).starts_with("ports: \"ICMP\""));
}

#[test]
fn further_addresses_have_no_backend_but_are_judged() {
    let mut slice = slice();
    slice.endpoints[0].addresses.push("10.9.9.9".into());
    assert_eq!(slice.to_backends().unwrap().len(), 2);
    assert_eq!(slice.addresses().unwrap().len(), 3);
    slice.endpoints[0].addresses.push("fd71::44".into());
    assert!(slice.addresses().unwrap_err().to_string().starts_with("addresses: \"fd71::44\""));
}

#[test]
fn unknown_fields_are_read_over() {
    let mut message = slice().encode_to_vec();
    message.extend([0x7a, 0x03, b'n', b'e', b'w']); // field 15, text
    message.extend([0x80, 0x01, 0x07]); // field 16, number
    assert_eq!(EndpointSliceValue::decode(&frame::pack(&message)).unwrap(), slice());
}

#[test]
fn a_message_that_cannot_be_read_names_the_field() {
    assert!(refused(&[0x0a, 0x01, 0xff]).contains("EndpointSliceValue.cluster"), "not UTF-8");
    assert!(refused(&[0x42, 0x02, 0x12, 0x09]).contains("endpoints"), "cut short");
    assert!(refused(&[0x42, 0x04, 0x12, 0x02, 0x0a, 0x00]).contains("Conditions.ready"), "of another type");
    assert!(refused(&[0x10]).contains("EndpointSliceValue.cluster_id"), "cut short");
}

#[test]
fn only_one_whole_frame_is_read() {
    let frame = slice().encode();
    let refused = |value: &[u8]| words(&EndpointSliceValue::decode(value).unwrap_err());
    assert_eq!(refused(b""), "not a zstd frame, which a value of kind endpoint-slice is");
    assert_eq!(refused(b"{}"), refused(b""));
    assert_eq!(refused(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]), refused(b""), "a skippable frame holds nothing");
    let mut twice = frame.clone();
    twice.extend(&frame);
    assert_eq!(refused(&twice), format!("{} bytes follow the zstd frame of kind endpoint-slice", frame.len()));
    for cut in 4..frame.len() {
        assert!(refused(&frame[..cut]).starts_with("the zstd frame of kind endpoint-slice is broken: "), "{cut}");
    }
    let mut damaged = frame;
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert!(refused(&damaged).contains("checksum"), "{}", refused(&damaged));
}

#[test]
fn a_frame_that_unpacks_to_more_than_the_limit_is_refused() {
    let most = vec![0; frame::MAX_MESSAGE];
    assert_eq!(frame::unpack(&frame::pack(&most)).unwrap().len(), frame::MAX_MESSAGE);
    let bomb = frame::pack(&vec![0; 64 << 20]);
    assert!(bomb.len() < 8192, "64 MiB in {} bytes", bomb.len());
    let error = EndpointSliceValue::decode(&bomb).unwrap_err();
    assert_eq!(error.to_string(), "more than 2097152 bytes of an endpoint-slice message");
    // A frame without the length of its content, as a stream has it, and with a window of 2 GiB.
    let stream = zstd::encode_all(most.as_slice(), 1).unwrap();
    assert_eq!(frame::unpack(&stream).unwrap().len(), most.len());
    let error = EndpointSliceValue::decode(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]).unwrap_err();
    assert!(words(&error).contains("too much memory"), "{}", words(&error));
}

#[test]
fn a_message_of_more_endpoints_or_ports_than_kubernetes_has_is_refused_before_they_are_made() {
    let of = |field: u8, count: usize| [field, 0x00].repeat(count);
    assert_eq!(refused(&of(0x42, MAX_ENDPOINTS + 1)), "more than 1000 endpoints");
    assert_eq!(refused(&of(0x4a, MAX_PORTS + 1)), "more than 20000 ports");
    let most = EndpointSliceValue::decode(&frame::pack(&of(0x42, MAX_ENDPOINTS))).unwrap();
    assert_eq!(most.endpoints.len(), MAX_ENDPOINTS);
    let mut many = of(0x42, 101);
    many.extend(of(0x4a, 1000));
    assert_eq!(refused(&many), "more than 100000 ports of all endpoints together");
}

#[test]
fn what_every_backend_would_copy_is_short() {
    let mut slice = slice();
    slice.ports[0].name = Some("p".repeat(63));
    assert!(slice.to_backends().is_ok());
    slice.ports[0].name = Some("p".repeat(1 << 20));
    let error = slice.to_backends().unwrap_err().to_string();
    assert!(error.starts_with("ports: \"ppp") && error.len() < 400, "and an error shows only its beginning: {error}");
    slice.labels.insert(SERVICE_NAME.to_owned(), "s".repeat(64));
    assert!(slice.to_backends().unwrap_err().to_string().starts_with("kubernetes.io/service-name: \"sss"));
}
