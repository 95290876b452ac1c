//! Who serves and who asks. Servers end as Kubernetes asks of well-behaved ones: they go on for a moment after they were told,
//! since every client hears of it a little later.

use topology_tests::kubernetes::images::WORKLOAD;

/// A pod on every node to ask from, and the Service `web` by its name alone.
pub(crate) fn askers(cluster: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {{ name: asker, namespace: default }}
spec:
  selector: {{ matchLabels: {{ app: asker }} }}
  template:
    metadata: {{ labels: {{ app: asker }} }}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: asker
        image: {WORKLOAD}
        imagePullPolicy: IfNotPresent
        env:
        - {{ name: CLUSTER, value: {cluster} }}
        - {{ name: NODE, valueFrom: {{ fieldRef: {{ fieldPath: spec.nodeName }} }} }}
        - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
        - {{ name: PORTS, value: "" }}
---
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: default, annotations: {{ mesh.isthmus.io/global: "true" }} }}
spec:
  selector: {{ app: web }}
  ports: [{{ name: http, port: 80, targetPort: 8080 }}]
"#
    )
}

/// A server on every node, behind the global Service `web` and behind `plain`, which is the cluster's own affair.
pub(crate) fn servers(cluster: &str) -> String {
    format!(
        r"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, namespace: default }}
spec:
  replicas: 2
  strategy: {{ rollingUpdate: {{ maxSurge: 1, maxUnavailable: 0 }} }}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      terminationGracePeriodSeconds: 10
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {{ matchLabels: {{ app: web }} }}
        matchLabelKeys: [pod-template-hash]
      containers:
      - name: web
        image: {WORKLOAD}
        imagePullPolicy: IfNotPresent
        lifecycle: {{ preStop: {{ sleep: {{ seconds: 4 }} }} }}
        env:
        - {{ name: CLUSTER, value: {cluster} }}
        - {{ name: NODE, valueFrom: {{ fieldRef: {{ fieldPath: spec.nodeName }} }} }}
        - {{ name: POD, valueFrom: {{ fieldRef: {{ fieldPath: metadata.name }} }} }}
        - {{ name: PORTS, value: 8080/TCP }}
        ports: [{{ name: http, containerPort: 8080 }}]
        readinessProbe: {{ httpGet: {{ path: /, port: http }}, periodSeconds: 1 }}
---
apiVersion: v1
kind: Service
metadata: {{ name: plain, namespace: default }}
spec:
  selector: {{ app: web }}
  ports: [{{ name: http, port: 80, targetPort: 8080 }}]
"
    )
}
