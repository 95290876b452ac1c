//! Applies the MeshConfig while the mesh runs, and says in its status what counts and what cannot change.
//!
//! Without the object everything is as this server was started. It runs in the term of the replica that holds the controller's
//! role, whose work these settings are about.

use std::time::Duration;

use federation::Tuning;
use jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use mesh_runtime::ErrorChain;
use serde_json::json;
use tokio::sync::watch;

use super::client::Client;
use super::crd::{Encryption, MeshConfig, MeshConfigSpec, MeshConfigStatus, SINGLETON, Said, merged};
use super::mesh_objects::Started;
use super::shelf::{Objects, Shelf};

/// A status that could not be written is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(super) struct MeshConfigs {
    client: Client,
    started: Started,
    tuning: watch::Sender<Tuning>,
}

/// A field that does not count, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    field: &'static str,
    why: String,
}

impl MeshConfigs {
    pub(super) fn new(client: Client, started: Started, tuning: watch::Sender<Tuning>) -> Self {
        Self { client, started, tuning }
    }

    /// Until dropped.
    pub(super) async fn run(self) {
        let shelf = Shelf::new::<MeshConfig>(self.client.clone());
        let (told, objects) = watch::channel(Objects::default());
        tokio::join!(shelf.follow(told), self.keep(&shelf, objects));
    }

    async fn keep(&self, shelf: &Shelf, mut objects: watch::Receiver<Objects>) {
        loop {
            let known = objects.borrow_and_update().clone();
            if let Some(known) = known {
                self.apply(shelf, known.get(SINGLETON)).await;
            }
            tokio::select! {
                // Whoever tells lives as long as this.
                Ok(()) = objects.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn apply(&self, shelf: &Shelf, object: Option<&DynamicObject>) {
        let spec = object.map(|object| object.data.get("spec").cloned().unwrap_or_default());
        let spec = spec.map(serde_json::from_value::<MeshConfigSpec>).transpose();
        let (tuning, refused) = match spec {
            Ok(spec) => settle(&spec.unwrap_or_default(), &self.started),
            Err(error) => {
                let refused = Refused { field: "spec", why: error.to_string() };
                (*self.tuning.borrow(), vec![refused])
            }
        };
        let is_news = self.tuning.send_if_modified(|known| {
            let is_news = *known != tuning;
            *known = tuning;
            is_news
        });
        if is_news {
            tracing::info!(?tuning, "settings have changed");
        }
        let Some(object) = object else { return };
        let former: MeshConfigStatus =
            serde_json::from_value(object.data.get("status").cloned().unwrap_or_default()).unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let status = status(&former, tuning, &refused, generation, &Timestamp::now().to_string());
        if former == status {
            return;
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let write = |client| {
            let patch = &patch;
            async move { shelf.api(client).patch_status(SINGLETON, &PatchParams::default(), patch).await }
        };
        if let Err(error) = self.client.ask("patch", "the status of MeshConfig default", write).await {
            tracing::warn!(error = %ErrorChain(&error), "a status is not written: tried again");
        }
    }
}

/// What counts, and what of the spec does not.
fn settle(spec: &MeshConfigSpec, started: &Started) -> (Tuning, Vec<Refused>) {
    let mut refused = Vec::new();
    let mut read = |field, text: &Option<String>, otherwise: Duration| match text.as_deref().map(duration) {
        None => otherwise,
        Some(Some(read)) => read,
        Some(None) => {
            refused.push(Refused { field, why: "is no duration such as 15s, 500ms or 2m".to_owned() });
            otherwise
        }
    };
    let mut tuning = started.tuning;
    let stale_after = read("staleAfter", &spec.stale_after, tuning.liveness.stale_after);
    let withdraw_after = read("withdrawAfter", &spec.withdraw_after, tuning.liveness.withdraw_after);
    tuning.disconnect_grace = read("disconnectGrace", &spec.disconnect_grace, tuning.disconnect_grace);
    if stale_after <= withdraw_after {
        (tuning.liveness.stale_after, tuning.liveness.withdraw_after) = (stale_after, withdraw_after);
    } else {
        let field = if spec.stale_after.is_some() { "staleAfter" } else { "withdrawAfter" };
        let why =
            format!("withdrawAfter ({withdraw_after:?}) would be shorter than staleAfter ({stale_after:?}): set both");
        refused.push(Refused { field, why });
    }
    if let Some(asked) = spec.encryption
        && mesh_types::view::Encryption::from(asked) != started.encryption
    {
        let word = if asked == Encryption::Wireguard { "wireguard" } else { "none" };
        let why = format!(
            "cannot change while the mesh runs, since both sides of every tunnel have to: helm upgrade --set \
             cluster.encryption={word} in every cluster"
        );
        refused.push(Refused { field: "encryption", why });
    }
    let max = started.layout.max_clusters();
    if spec.max_connected_clusters.is_some_and(|asked| asked != max) {
        let why =
            format!("is {max} and cannot change: identity numbers are built on it; a new cluster may have another");
        refused.push(Refused { field: "maxConnectedClusters", why });
    }
    (tuning, refused)
}

fn status(
    former: &MeshConfigStatus,
    tuning: Tuning,
    refused: &[Refused],
    generation: i64,
    now: &str,
) -> MeshConfigStatus {
    let said = if refused.is_empty() {
        ("Applied", "every field counts".to_owned())
    } else {
        let texts: Vec<String> =
            refused.iter().map(|refused| format!("spec.{} {}", refused.field, refused.why)).collect();
        let of_start = |refused: &Refused| ["encryption", "maxConnectedClusters"].contains(&refused.field);
        let reason = if refused.iter().all(of_start) { "NotAtRunTime" } else { "Invalid" };
        (reason, format!("{}. All else counts", texts.join("; ")))
    };
    let said = Said { kind: "Applied", status: refused.is_empty(), reason: said.0.to_owned(), message: said.1 };
    MeshConfigStatus {
        stale_after: Some(shown(tuning.liveness.stale_after)),
        withdraw_after: Some(shown(tuning.liveness.withdraw_after)),
        disconnect_grace: Some(shown(tuning.disconnect_grace)),
        conditions: merged(&former.conditions, vec![said], generation, now),
    }
}

/// As CEL and the schema have it: `500ms`, `15s`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let millis = units.iter().find_map(|(unit, millis)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*millis)
    });
    millis.filter(|millis| *millis > 0).map(Duration::from_millis)
}

fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use mesh_types::IdentityLayout;

    use super::*;

    fn started() -> Started {
        let liveness = federation::liveness::Settings::default();
        Started {
            tuning: Tuning { liveness, disconnect_grace: Duration::from_mins(3) },
            encryption: mesh_types::view::Encryption::Wireguard,
            layout: IdentityLayout::Clusters255,
        }
    }

    fn settled(spec: serde_json::Value) -> (String, String, String, Vec<Refused>) {
        let (tuning, refused) = settle(&serde_json::from_value(spec).unwrap(), &started());
        let Tuning { liveness, disconnect_grace } = tuning;
        (shown(liveness.stale_after), shown(liveness.withdraw_after), shown(disconnect_grace), refused)
    }

    #[test]
    fn what_is_set_counts_and_the_rest_is_as_the_server_was_started() {
        let (stale, withdraw, grace, refused) = settled(json!({}));
        assert_eq!((stale.as_str(), withdraw.as_str(), grace.as_str(), refused.len()), ("15s", "45s", "180s", 0));
        let (stale, withdraw, grace, refused) = settled(json!({ "staleAfter": "500ms", "disconnectGrace": "2m" }));
        assert_eq!((stale.as_str(), withdraw.as_str(), grace.as_str(), refused.len()), ("500ms", "45s", "120s", 0));
    }

    #[test]
    fn what_cannot_change_is_refused_by_name_and_the_rest_counts() {
        let (stale, _, _, refused) =
            settled(json!({ "staleAfter": "20s", "encryption": "none", "maxConnectedClusters": 511 }));
        assert_eq!(stale, "20s");
        let fields: Vec<_> = refused.iter().map(|refused| refused.field).collect();
        assert_eq!(fields, ["encryption", "maxConnectedClusters"]);
        let (tuning, _) = settle(&MeshConfigSpec::default(), &started());
        let status = status(&MeshConfigStatus::default(), tuning, &refused, 3, "now");
        let condition = &status.conditions[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "NotAtRunTime"));
        assert!(condition.message.contains("helm upgrade --set cluster.encryption=none"), "{condition:?}");
        assert!(condition.message.contains("spec.maxConnectedClusters is 255"), "{condition:?}");
        let (.., refused) = settled(json!({ "encryption": "wireguard", "maxConnectedClusters": 255 }));
        assert_eq!(refused, [], "to say what is so changes nothing");
    }

    #[test]
    fn periods_that_do_not_go_together_leave_both_as_they_were() {
        let (stale, withdraw, _, refused) = settled(json!({ "staleAfter": "2m" }));
        assert_eq!((stale.as_str(), withdraw.as_str()), ("15s", "45s"));
        assert_eq!(refused[0].field, "staleAfter");
        let (.., refused) = settled(json!({ "withdrawAfter": "soon" }));
        assert_eq!(refused[0].field, "withdrawAfter");
    }
}
