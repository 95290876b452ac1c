//! Events of ClusterPeerings: what happened once, for whoever looks with `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use kube::api::{Api, ObjectMeta, PostParams};
use mesh_runtime::ErrorChain;

use super::decide::Wish;
use crate::kubernetes::client::Client;
use crate::kubernetes::crd::ClusterPeering;

/// Events of objects without a namespace are in this one.
const NAMESPACE: &str = "default";
const REPORTER: &str = "isthmus.io/mesh-apiserver";

pub(super) struct Events(Client);

impl Events {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    /// An Event that cannot be made is no trouble of the object's.
    pub(super) async fn tell(&self, wish: &Wish, reason: &str, note: &str, is_warning: bool) {
        let event = Event {
            // A prefix that ends with a dot, as in the names that clients of Kubernetes make up, is refused.
            metadata: ObjectMeta { generate_name: Some(format!("{}-", wish.name)), ..ObjectMeta::default() },
            action: Some("Keep".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(note.to_owned()),
            reason: Some(reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(ClusterPeering::api_version(&()).into_owned()),
                kind: Some(ClusterPeering::kind(&()).into_owned()),
                name: Some(wish.name.clone()),
                uid: Some(wish.uid.clone()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some("mesh-apiserver".to_owned()),
            type_: Some(if is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let create = |client| {
            let event = &event;
            async move { Api::<Event>::namespaced(client, NAMESPACE).create(&PostParams::default(), event).await }
        };
        if let Err(error) = self.0.ask("create", "events.events.k8s.io in namespace default", create).await {
            tracing::warn!(peering = wish.name, reason, error = %ErrorChain(&error), "an Event is not made");
        }
    }
}
