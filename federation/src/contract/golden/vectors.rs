//! What Cilium v1.20.2 writes: the output of its own `Marshal` (Go 1.26) for objects made up here. Nothing of it is
//! Cilium's text.

/// A slice: base64 of the value as it stands in the store.
pub(super) const SLICE_FRAME: &str = concat!(
    "KLUv/QQADQYA0ksrKFBrHDAzM4WHy6lshAWHd2J8IR2cjlEMOcWqnKUs26ZeEiMfSZbklAIMKSk0uGYs4JgTUkpgcD1V6/B4cbCeC2UQoBEi",
    "fRSmyRYZVJpRQB+NHXtjx0y9NWZjv7JWBISYbLFBpaPImc4znYOHuaHRRFp4DQiEuq8j/vcxAfQRlzQ/URP7l4FFOdffl9h/QFQMKxbX+vS6",
    "Vnc8sKhQNSWaa31iRbUerscExHv5Pw4FADWNCWojY64XUplTnEFFASsERq8=",
);

/// The same slice: the message in the frame, in hex, one line a field.
const SLICE_MESSAGE: &str = concat!(
    "0a0465617374",
    "1007",
    "1a0473686f70",
    "220a636172742d78376b3270",
    "2a0b0a03617070120463617274",
    "2a220a1a6b756265726e657465732e696f2f736572766963652d6e616d65120463617274",
    "320c0a047465616d120474696c6c",
    "3a0449507634",
    "422d0a0a31302e37312e372e343412060801100118003208776f726b65722d373a0161420a0a030a01610a030a0162",
    "421c0a0a31302e37312e372e343512060800100118011a06636172742d31",
    "42100a0a31302e37312e372e343612020800",
    "420e0a0a31302e37312e372e34371200",
    "4a0e0a04677270631203544350189e37",
    "4a090a0012035544501835",
);

/// [`SLICE_MESSAGE`] as bytes.
pub(super) fn slice_message() -> Vec<u8> {
    let places = (0..SLICE_MESSAGE.len()).step_by(2);
    places.map(|at| u8::from_str_radix(&SLICE_MESSAGE[at..at + 2], 16).unwrap()).collect()
}

/// The same slice: its JSON view.
pub(super) const SLICE_JSON: &str = concat!(
    r#"{"cluster":"east","clusterID":7,"namespace":"shop","name":"cart-x7k2p","#,
    r#""labels":{"app":"cart","kubernetes.io/service-name":"cart"},"annotations":{"team":"till"},"addressType":"IPv4","#,
    r#""endpoints":[{"addresses":["10.71.7.44"],"conditions":{"ready":true,"serving":true,"terminating":false},"#,
    r#""nodeName":"worker-7","zone":"a","hints":{"forZones":[{"name":"a"},{"name":"b"}]}},"#,
    r#"{"addresses":["10.71.7.45"],"conditions":{"ready":false,"serving":true,"terminating":true},"hostname":"cart-1"},"#,
    r#"{"addresses":["10.71.7.46"],"conditions":{"ready":false}},{"addresses":["10.71.7.47"],"conditions":{}}],"#,
    r#""ports":[{"name":"grpc","protocol":"TCP","port":7070},{"name":"","protocol":"UDP","port":53}]}"#,
);

/// A service export with every field, and with the two that 1.20 writes twice.
pub(super) const SERVICE_EXPORT: &str = concat!(
    r#"{"cluster":"east","name":"cart","namespace":"shop","annotations":{"team":"a"},"labels":{"tier":"back"},"#,
    r#""Labels":{"tier":"back"},"Annotations":{"team":"a"},"exportCreationTimestamp":"2026-03-04T05:06:07Z","#,
    r#""ports":[{"name":"grpc","protocol":"TCP","appProtocol":"h2c","port":7070},{"port":53}],"type":"ClusterSetIP","#,
    r#""sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10}},"ipFamilies":["IPv4"],"#,
    r#""internalTrafficPolicy":"Cluster","trafficDistribution":"PreferClose"}"#,
);

/// Addresses: the end of the key, and the value.
pub(super) const IPS: [(&str, &str); 4] = [
    (
        "10.71.7.44",
        concat!(
            r#"{"IP":"10.71.7.44","Mask":null,"HostIP":"192.0.2.17","ID":459953,"Key":0,"Metadata":"","K8sNamespace":"shop","#,
            r#""K8sPodName":"cart-6c9","K8sServiceAccount":"default","NamedPorts":[{"Name":"http","Port":8080,"Protocol":"TCP"}]}"#,
        ),
    ),
    ("10.71.7.0/24", r#"{"IP":"10.71.7.0","Mask":"////AA==","HostIP":"","ID":2,"Key":0,"Metadata":""}"#),
    ("fd71::44", r#"{"IP":"fd71::44","Mask":null,"HostIP":"fc00::1","ID":459953,"Key":255,"Metadata":""}"#),
    ("fd71:7::/64", r#"{"IP":"fd71:7::","Mask":"//////////8AAAAAAAAAAA==","HostIP":"","ID":2,"Key":0,"Metadata":""}"#),
];

/// A cluster's configuration with every capability.
pub(super) const CLUSTER_CONFIG: &str = concat!(
    r#"{"id":7,"capabilities":{"syncedCanaries":true,"cached":true,"maxConnectedClusters":255,"#,
    r#""serviceExportsEnabled":false,"endpointSlicesExportMode":"services-and-endpointslices"}}"#,
);
