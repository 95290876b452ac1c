//! What Cilium's exporter writes, in its order and in its words (`cilium-wire-contract.md`, 2; `cilium-observed.md`, 5).

use super::Cilium;

/// The cluster's number as it was given out, under which identities are numbered.
pub(super) const ID: u32 = 3;

impl Cilium {
    pub(super) async fn put(&self, key: &str, value: &str) {
        self.admin.kv_client().put(key, value, None).await.unwrap();
    }

    pub(super) async fn delete(&self, key: &str) {
        self.admin.kv_client().delete(key, None).await.unwrap();
    }

    /// The Go client's `time.RFC3339`.
    pub(super) async fn heartbeat(&self) {
        self.put("cilium/.heartbeat", "2026-11-28T10:00:00Z").await;
    }

    pub(super) async fn config(&self, id: u32, more: &str) {
        let text =
            format!(r#"{{"id":{id},"capabilities":{{"syncedCanaries":true,"maxConnectedClusters":255{more}}}}}"#);
        self.put("cilium/cluster-config/c", &text).await;
    }

    pub(super) async fn canary(&self, resource: &str) {
        self.put(&format!("cilium/synced/c/cilium/state/{resource}/v1"), "2026-11-28T10:00:00Z").await;
    }

    pub(super) async fn canaries(&self) {
        for resource in ["nodes", "identities", "ip", "services"] {
            self.canary(resource).await;
        }
    }

    /// A node of a dual-stack cluster, as one of Cilium 1.20 with WireGuard is exported.
    pub(super) async fn node(&self, name: &str, ip: &str, id: u32) {
        let text = format!(
            r#"{{"Name":"{name}","Cluster":"c","IPAddresses":[{{"Type":"InternalIP","IP":"{ip}"}},{{"Type":"InternalIP","IP":"fd03::1"}},{{"Type":"CiliumInternalIP","IP":"10.3.0.1"}}],"IPv4AllocCIDR":{{"IP":"10.3.0.0","Mask":"////AA=="}},"IPv4SecondaryAllocCIDRs":null,"IPv6AllocCIDR":null,"IPv6SecondaryAllocCIDRs":null,"IPv4HealthIP":"10.3.0.9","IPv6HealthIP":"","IPv4IngressIP":"","IPv6IngressIP":"","ClusterID":{id},"Source":"custom-resource","EncryptionKey":0,"Labels":{{"kubernetes.io/hostname":"{name}"}},"Annotations":{{"network.cilium.io/wg-pub-key":"{KEY}"}},"WireguardPubKey":"{KEY}","BootID":"7d2b1b9e-9b3c-4b43-8d3b-2c9b3bb3f9a1"}}"#
        );
        self.put(&format!("cilium/state/nodes/v1/c/{name}"), &text).await;
    }

    /// Identity `local` of the cluster's, for the workload `app`.
    pub(super) async fn identity(&self, local: u32, app: &str, id: u32) {
        let number = (id << 16) + local;
        let labels = format!("k8s:app={app};k8s:io.cilium.k8s.policy.cluster=c;k8s:io.kubernetes.pod.namespace=shop;");
        self.put(&format!("cilium/state/identities/v1/id/{number}"), &labels).await;
    }

    pub(super) async fn pod(&self, ip: &str, local: u32, id: u32) {
        let number = (id << 16) + local;
        let text = format!(
            r#"{{"IP":"{ip}","HostIP":"192.0.3.1","ID":{number},"Key":255,"Metadata":"","K8sNamespace":"shop","K8sPodName":"cart-{local}","K8sServiceAccount":"default"}}"#
        );
        self.put(&format!("cilium/state/ip/v1/default/{ip}"), &text).await;
    }

    /// Service `shop/cart` with these backends.
    pub(super) async fn service(&self, backends: &[&str], id: u32) {
        let backend = |ip: &&str| format!(r#""{ip}":{{"grpc":{{"Protocol":"TCP","Port":8080}}}}"#);
        let backends = backends.iter().map(backend).collect::<Vec<_>>().join(",");
        let text = format!(
            r#"{{"cluster":"c","namespace":"shop","name":"cart","frontends":{{"10.103.0.1":{{"grpc":{{"Protocol":"TCP","Port":7070}}}}}},"backends":{{{backends}}},"hostnames":{{}},"labels":{{}},"selector":{{"app":"cart"}},"includeExternal":true,"shared":true,"clusterID":{id}}}"#
        );
        self.put("cilium/state/services/v1/c/shop/cart", &text).await;
    }

    /// A slice of `shop/cart`: an address, and whether it is ready and whether it is terminating.
    pub(super) async fn slice(&self, name: &str, endpoints: &[(&str, bool, bool)]) {
        use federation::contract::endpoint_slice::{
            Conditions, Endpoint, EndpointPort, EndpointSliceValue, SERVICE_NAME,
        };
        let endpoint = |(ip, ready, terminating): &(&str, bool, bool)| Endpoint {
            addresses: vec![(*ip).to_owned()],
            conditions: Conditions { ready: Some(*ready), serving: Some(true), terminating: Some(*terminating) },
            ..Endpoint::default()
        };
        let value = EndpointSliceValue {
            cluster: "c".to_owned(),
            cluster_id: ID,
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            labels: [(SERVICE_NAME.to_owned(), "cart".to_owned())].into(),
            address_type: "IPv4".to_owned(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            ports: vec![EndpointPort {
                name: Some("grpc".to_owned()),
                protocol: Some("TCP".to_owned()),
                port: Some(8080),
                app_protocol: None,
            }],
            ..EndpointSliceValue::default()
        };
        let key = format!("cilium/state/endpointslices/v1/c/shop/{name}");
        self.admin.kv_client().put(key, value.encode(), None).await.unwrap();
    }

    /// One node, one workload of two pods behind a Service: facts first, then the configuration and the canaries.
    pub(super) async fn export(&self, id: u32) {
        self.heartbeat().await;
        self.node("n1", "192.0.3.1", id).await;
        self.identity(1, "cart", id).await;
        for ip in ["10.3.0.10", "10.3.0.11"] {
            self.pod(ip, 1, id).await;
        }
        self.service(&["10.3.0.10", "10.3.0.11"], id).await;
        self.config(id, "").await;
        self.canaries().await;
    }
}

/// The base64 of 32 bytes.
const KEY: &str = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
