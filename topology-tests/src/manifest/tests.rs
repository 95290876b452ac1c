use super::*;

const TWO: &str = r#"
# a comment before the first document
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: ledger, namespace: shop }
spec:
  replicas: 2
  template:
    metadata: { labels: { app: ledger } }
    spec:
      containers:
        - name: server
          ports:
            - { name: http, containerPort: 8080 }
            - { name: echo, containerPort: 7, protocol: UDP }
          readinessProbe: { httpGet: { path: /ready, port: http } }
---
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger"}, "spec": {"ports": [{"port": 80, "targetPort": "http"}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
"#;

#[test]
fn documents_of_both_syntaxes_are_read_and_the_rest_is_named() {
    let read = Manifests::parse(TWO, "two.yaml").unwrap();
    let workload = &read.workloads[0];
    assert_eq!((workload.name.as_str(), workload.namespace.as_str(), workload.replicas), ("ledger", "shop", 2));
    assert_eq!(workload.template.resolve(&PortRef::Name("http".into()), "TCP"), Some(8080));
    assert_eq!(workload.template.resolve(&PortRef::Name("echo".into()), "TCP"), None);
    assert_eq!(namespace_of(&read.services[0]), "default");
    assert_eq!(read.ignored, ["ConfigMap settings"]);
}

#[test]
fn a_broken_document_is_named_by_its_number() {
    let error = Manifests::parse("kind: Service\n---\nkind: [", "bad.yaml").unwrap_err();
    assert!(error.to_string().starts_with("document 2 of bad.yaml is not YAML"), "{error}");
}

#[test]
fn a_service_can_be_annotated_by_name() {
    let mut read = Manifests::parse(TWO, "two.yaml").unwrap();
    assert!(read.annotate_service("ledger", "mesh.isthmus.io/global", "true"));
    assert!(!read.annotate_service("absent", "mesh.isthmus.io/global", "true"));
    assert_eq!(read.services[0]["metadata"]["annotations"]["mesh.isthmus.io/global"], "true");
}
