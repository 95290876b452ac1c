use federation::contract::endpoint_slice::{Conditions, Endpoint, EndpointPort, EndpointSliceValue, SERVICE_NAME};
use federation::contract::service_export::{CLUSTER_SET_IP, ExportedPort, HEADLESS};
use federation::contract::{Layout, keys};
use federation::{Health, Loss, State};

use super::*;
use crate::examples::{object as read, slice};
use crate::objects::Object;
use crate::source::{Batch, Change};

const EARLY: &str = "2026-03-04T05:06:07Z";
const LATE: &str = "2026-03-04T05:06:08Z";

fn cart() -> ServiceName {
    ServiceName::new("shop", "cart")
}

fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

/// The own cluster `a` with what it has.
struct World {
    local: Local,
    remote: Remote,
}

impl World {
    fn new() -> Self {
        let mut world = Self { local: Local::default(), remote: Remote::default() };
        world.apply(read(&json!({"kind": "Namespace", "metadata": {"name": "shop"}})));
        world.note(&keys::peer(&cluster("b")), Some(b"{}"));
        world.note(&keys::cluster_config(&cluster("b")), Some(b"{}"));
        world
    }

    fn apply(&mut self, object: Object) {
        let changes = vec![Change::Apply(Box::new(object))];
        self.local.note(&Batch { changes, ..Batch::default() });
    }

    fn note(&mut self, key: &str, value: Option<&[u8]>) {
        let (_, error) = self.remote.note(key.as_bytes(), value);
        assert!(error.is_none(), "{error:?}");
    }

    fn export_here(&mut self, created: &str, spec: &Value, annotations: &Value) {
        self.apply(read(&json!({
            "kind": "ServiceExport", "metadata": {"name": "cart", "namespace": "shop", "creationTimestamp": created},
        })));
        self.apply(read(&json!({
            "kind": "Service", "metadata": {"name": "cart", "namespace": "shop", "annotations": annotations}, "spec": spec,
        })));
        self.apply(slice("cart-x", &[("10.1.0.1", '+')]));
    }

    /// Cluster b exports the Service as well, with one backend of its derived Service.
    fn export_there(&mut self, created: &str, kind: &str) {
        let port = ExportedPort { name: "grpc".into(), protocol: "TCP".into(), app_protocol: None, port: 7070 };
        let export = ServiceExportValue {
            cluster: "b".into(),
            name: "cart".into(),
            namespace: "shop".into(),
            export_creation_timestamp: Some(created.into()),
            ports: vec![port],
            kind: kind.into(),
            session_affinity: "None".into(),
            ip_families: vec!["IPv4".into()],
            ..ServiceExportValue::default()
        };
        self.note(&Layout::Cache.service_export(&cluster("b"), &cart()), Some(&export.encode()));
        let endpoint = Endpoint {
            addresses: vec!["10.2.0.1".into()],
            conditions: Conditions { ready: Some(true), serving: None, terminating: None },
            ..Endpoint::default()
        };
        let port = EndpointPort { name: Some("grpc".into()), port: Some(8080), ..EndpointPort::default() };
        let slice = EndpointSliceValue {
            cluster: "b".into(),
            namespace: "shop".into(),
            name: "derived-x".into(),
            labels: BTreeMap::from([(SERVICE_NAME.into(), names::derived(&cart()).name)]),
            address_type: "IPv4".into(),
            endpoints: vec![endpoint],
            ports: vec![port],
            ..EndpointSliceValue::default()
        };
        self.note(&Layout::Cache.endpoint_slice(&cluster("b"), "shop", "derived-x"), Some(&slice.encode()));
        let canary = Layout::Cache.canary(federation::contract::Resource::EndpointSlices, &cluster("b"));
        self.note(&canary, Some(b"now"));
    }

    fn wanted(&self) -> Wanted {
        Wanted::of(&cart(), &self.local, &self.remote, &cluster("a"), ClusterId::new(1).unwrap())
    }
}

/// Source cluster and first address of each slice.
fn backends(wanted: &Wanted) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |slice: &Value| {
        let cluster = text(&slice["metadata"]["labels"][names::SOURCE_CLUSTER]);
        (cluster, text(&slice["endpoints"][0]["addresses"][0]))
    };
    let mut all: Vec<_> = wanted.slices.values().map(of).collect();
    all.sort();
    all
}

fn spec() -> Value {
    json!({"clusterIP": "10.101.0.7", "clusterIPs": ["10.101.0.7"], "ports": [{"name": "grpc", "port": 7070, "protocol": "TCP"}]})
}

#[test]
fn an_import_has_the_backends_of_those_who_export_it_and_of_nobody_else() {
    let mut world = World::new();
    world.export_here(EARLY, &spec(), &json!({}));
    let own = ("a".to_owned(), "10.1.0.1".to_owned());
    assert_eq!(backends(&world.wanted()), std::slice::from_ref(&own));
    world.export_there(LATE, CLUSTER_SET_IP);
    let peers = ("b".to_owned(), "10.2.0.1".to_owned());
    assert_eq!(backends(&world.wanted()), [own, peers.clone()]);
    let key = crate::objects::ObjectKey {
        kind: crate::objects::Kind::ServiceExport,
        namespace: "shop".into(),
        name: "cart".into(),
    };
    world.local.note(&Batch { changes: vec![Change::Delete(key)], ..Batch::default() });
    let wanted = world.wanted();
    assert_eq!(
        (backends(&wanted), wanted.export),
        (vec![peers], None),
        "a Service that is not exported is not part of it"
    );
    world.note(&Layout::Cache.service_export(&cluster("b"), &cart()), None);
    let wanted = world.wanted();
    assert!(wanted.import.is_none() && wanted.slices.is_empty());
}

#[test]
fn nothing_is_made_where_the_namespace_is_not() {
    let mut world = World::new();
    world.export_there(EARLY, CLUSTER_SET_IP);
    assert!(world.wanted().import.is_some());
    world.apply(read(&json!({"kind": "Namespace", "metadata": {"name": "shop"}, "status": {"phase": "Terminating"}})));
    assert!(world.wanted().import.is_none(), "and where it is about to go");
}

#[test]
fn a_cluster_that_is_withdrawn_keeps_its_say_and_loses_its_backends() {
    let mut world = World::new();
    world.export_here(LATE, &spec(), &json!({}));
    world.export_there(EARLY, HEADLESS);
    let health = Health {
        state: State::Withdrawn,
        since_unix_nanos: 1,
        reason: "gone".into(),
        loss: Some(Loss::Cluster),
        last_heartbeat_unix_nanos: 0,
        outlived_seconds: 0,
        stale_seconds: 0,
    };
    world.note(&keys::health(&cluster("b")), Some(&health.encode()));
    let wanted = world.wanted();
    assert_eq!(backends(&wanted), [("a".to_owned(), "10.1.0.1".to_owned())]);
    assert!(wanted.import.unwrap().is_headless);
    world.export_here(LATE, &spec(), &json!({"mesh.isthmus.io/withdraw-after": "never"}));
    assert_eq!(backends(&world.wanted()).len(), 2, "as the own Service says");
    world.note(&keys::peer(&cluster("b")), None);
    let wanted = world.wanted();
    assert_eq!(
        (wanted.import.unwrap().clusters, wanted.slices.len()),
        (vec!["a".to_owned()], 1),
        "and one that is parted has none"
    );
}

#[test]
fn who_may_have_a_service_and_what_it_prefers_hold_for_its_derived_one() {
    let mut world = World::new();
    let kept = json!({
        "mesh.isthmus.io/export-to": "b", "mesh.isthmus.io/affinity": "local", "mesh.isthmus.io/shared": "false",
        "service.cilium.io/global": "false",
    });
    world.export_here(EARLY, &spec(), &kept);
    let annotations = world.wanted().annotations;
    let shown: Vec<(&str, &str)> = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let who = ("mesh.isthmus.io/export-to", "b");
    assert_eq!(shown, [("mesh.isthmus.io/affinity", "local"), who, ("mesh.isthmus.io/global", "true")]);
    world.export_here(EARLY, &spec(), &json!({"mesh.isthmus.io/export-to": "b", "mesh.isthmus.io/affinity": "nearby"}));
    let annotations = world.wanted().annotations;
    assert_eq!(annotations.keys().collect::<Vec<_>>(), ["mesh.isthmus.io/export-to", "mesh.isthmus.io/global"]);
}

#[test]
fn objects_are_those_of_the_api() {
    let mut world = World::new();
    world.export_here(EARLY, &spec(), &json!({}));
    let import = world.wanted().import.unwrap();
    let object = import_object(&cart(), &import, &["10.101.0.9".parse().unwrap()]);
    let want = json!({
        "type": "ClusterSetIP", "ips": ["10.101.0.9"], "ipFamilies": ["IPv4"], "sessionAffinity": "None",
        "ports": [{"name": "grpc", "protocol": "TCP", "port": 7070}],
    });
    assert_eq!(object["spec"], want);
    assert!(import_object(&cart(), &import, &[])["spec"].get("ips").is_none());
    let service = service_object(&cart(), &import, "u", &BTreeMap::new());
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "u");
    assert!(service["spec"].get("clusterIP").is_none() && service["spec"].get("selector").is_none());
    let headless = Import { is_headless: true, ..import };
    assert_eq!(service_object(&cart(), &headless, "u", &BTreeMap::new())["spec"]["clusterIP"], "None");
}

#[test]
fn a_mark_is_this_servers_whatever_labels_are_exported() {
    let mut world = World::new();
    world.export_here(EARLY, &spec(), &json!({}));
    let mut import = world.wanted().import.unwrap();
    import.labels = [(MANAGED_BY, "me"), ("tier", "back")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let labels = import_object(&cart(), &import, &[])["metadata"]["labels"].clone();
    assert_eq!(labels, json!({MANAGED_BY: OWNER, "tier": "back"}));
}
