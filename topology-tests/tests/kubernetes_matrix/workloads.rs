//! A server and a client in each cluster; a Service for each cluster's servers, in both clusters.

use topology_tests::kubernetes::images::WORKLOAD;

pub(crate) fn of(cluster: &str) -> String {
    let pod = |name: &str, ports: &str| {
        format!(
            r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {{ name: {name}, namespace: default }}
spec:
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: workload
        image: {WORKLOAD}
        imagePullPolicy: IfNotPresent
        env:
        - {{ name: CLUSTER, value: {cluster} }}
        - {{ name: NODE, valueFrom: {{ fieldRef: {{ fieldPath: spec.nodeName }} }} }}
        - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
        - {{ name: PORTS, value: "{ports}" }}
---
"#
        )
    };
    let service = |of: &str| {
        // Its pods are in one cluster only; in the other, the Service is the way to them.
        format!(
            r#"
apiVersion: v1
kind: Service
metadata: {{ name: web-{of}, namespace: default, annotations: {{ mesh.isthmus.io/global: "true" }} }}
spec:
  selector: {{ app: web-{of} }}
  ports:
  - {{ name: http, port: 80, targetPort: 8080 }}
  - {{ name: echo, port: 90, targetPort: 9090, protocol: UDP }}
---
"#
        )
    };
    pod(&format!("web-{cluster}"), "8080/TCP,9090/UDP")
        + &pod("asker", "")
        + &service("cluster-a")
        + &service("cluster-b")
}
