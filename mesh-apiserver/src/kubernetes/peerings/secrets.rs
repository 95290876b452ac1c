//! Reads what ClusterPeerings refer to: a token, or a trust bundle. What is read is wiped when it was used.

use certs::TrustBundle;
use federation::Declaration;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use mesh_runtime::ErrorChain;
use mesh_types::{ClusterId, ClusterName};
use zeroize::{Zeroize as _, Zeroizing};

use super::words::Trouble;
use crate::kubernetes::client::Client;
use crate::kubernetes::crd::{Declared, SecretRef};

pub(super) struct Secrets {
    client: Client,
    /// No object makes this server read another namespace.
    namespace: String,
}

impl Secrets {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    pub(super) async fn value(&self, of: &SecretRef) -> Result<Zeroizing<String>, Trouble> {
        let (namespace, SecretRef { name, key }) = (&self.namespace, of);
        let get = |client| async move { Api::<Secret>::namespaced(client, namespace).get_opt(name).await };
        let found = self.client.ask("get", &format!("Secret {namespace}/{name}"), get).await;
        let mut secret =
            found.map_err(|error| Trouble::unread(&error))?.ok_or_else(|| Trouble::no_secret(namespace, of))?;
        let data = secret.data.get_or_insert_default();
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        let value = data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
        let value = value.map(Zeroizing::new).filter(|value| !value.trim().is_empty());
        let value = value.ok_or_else(|| Trouble::no_key(namespace, of, &keys));
        for value in data.values_mut() {
            value.0.zeroize();
        }
        value
    }

    /// What the object and its trust bundle say of the other cluster together.
    pub(super) async fn declaration(
        &self,
        name: &str,
        said: &Declared,
        own: &Declaration,
    ) -> Result<Declaration, Trouble> {
        let of = &said.trust_bundle.secret_ref;
        let text = self.value(of).await?;
        let place = format!("Secret {}/{}, {}", self.namespace, of.name, of.key);
        let bundle = TrustBundle::from_pem(&text)
            .map_err(|error| Trouble::declared(format!("{place}: {}", ErrorChain(&error))))?;
        let uuid = bundle.cluster_uuid().ok_or_else(|| {
            Trouble::declared(format!(
                "{place}: these are not the CAs of one Isthmus cluster: take ca.crt of that cluster's trust ConfigMap"
            ))
        })?;
        Ok(Declaration {
            name: ClusterName::new(name).map_err(Trouble::declared)?,
            id: ClusterId::new(said.id).map_err(Trouble::declared)?,
            uuid,
            trust_bundle_pem: bundle.pem(),
            etcd_endpoints: said.endpoints.clone(),
            mesh_endpoints: Vec::new(),
            pod_prefixes: prefixes("podCIDRs", &said.pod_cidrs)?,
            node_prefixes: prefixes("nodeCIDRs", &said.node_cidrs)?,
            service_prefixes: prefixes("serviceCIDRs", &said.service_cidrs)?,
            layout: own.layout,
            encryption: own.encryption,
            version: "declared".to_owned(),
        })
    }
}

fn prefixes(field: &str, texts: &[String]) -> Result<Vec<IpNet>, Trouble> {
    let one = |text: &String| text.parse().ok().filter(|net: &IpNet| net.trunc() == *net);
    let all: Option<Vec<IpNet>> = texts.iter().map(one).collect();
    all.ok_or_else(|| Trouble::malformed(&format!("spec.declared.{field} is not a list of prefixes without host bits")))
}
