//! Keeps memberships as the ClusterPeerings of this cluster's Kubernetes say, and tells in their status how each is.
//!
//! ```text
//!  ClusterPeering, record, memory --decide::next--> step --> Membership, Secrets, finalizer
//!          record, session, trouble --words--> status, Events
//! ```
//! It runs in the term of the replica that holds the controller's role, over its fenced store. Memberships that meshctl or
//! another cluster began, and that no object holds, it leaves alone. It must never show what is in a Secret.

mod decide;
mod events;
mod secrets;
mod words;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use federation::peer::{Declaration, PeerRecord};
use federation::state::Standing;
use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use mesh_runtime::ErrorChain;
use mesh_types::ClusterName;
use serde_json::json;
use tokio::sync::watch;

use self::decide::{Memory, Step, Wish};
use self::events::Events;
use self::secrets::Secrets;
use self::words::Trouble;
use super::client::{Client, Error};
use super::crd::ClusterPeering;
use super::shelf::{Objects, Shelf};
use crate::membership::Membership;

/// What takes an object's membership down before the object goes.
const FINALIZER: &str = "mesh.isthmus.io/parting";
/// How often sessions and objects are looked at; a change of an object is looked at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A message alone that changes (how long a peer has been silent) is written no more often.
const MESSAGES_EVERY: Duration = Duration::from_secs(30);

/// Of one term.
pub(super) struct Peerings {
    shelf: Shelf,
    secrets: Secrets,
    events: Events,
    membership: Membership,
    peers: federation::Handle,
    memories: BTreeMap<String, Memory>,
}

/// What is known at one look.
struct Scene {
    own: Declaration,
    records: Vec<PeerRecord>,
    standings: BTreeMap<ClusterName, Standing>,
}

impl Peerings {
    /// Secrets that objects name are in `namespace`.
    pub(super) fn new(client: &Client, namespace: &str, membership: Membership, peers: federation::Handle) -> Self {
        Self {
            shelf: Shelf::new::<ClusterPeering>(client.clone()),
            secrets: Secrets::new(client.clone(), namespace),
            events: Events::new(client.clone()),
            membership,
            peers,
            memories: BTreeMap::new(),
        }
    }

    /// Until dropped.
    pub(super) async fn run(mut self) {
        let (told, objects) = watch::channel(Objects::default());
        let shelf = Shelf::new::<ClusterPeering>(self.shelf.client().clone());
        tokio::join!(shelf.follow(told), self.keep(objects));
    }

    async fn keep(&mut self, mut objects: watch::Receiver<Objects>) {
        let mut said = String::new();
        loop {
            let known = objects.borrow_and_update().clone();
            if let Some(known) = known {
                let wishes: Vec<Wish> = known.values().filter_map(Wish::of).collect();
                match self.scene().await {
                    Ok(scene) => {
                        said.clear();
                        self.look_at_all(&wishes, &scene).await;
                    }
                    Err(error) if said != error => {
                        tracing::warn!(error, "memberships cannot be read: tried again");
                        said = error;
                    }
                    Err(_said_already) => {}
                }
            }
            tokio::select! {
                // Whoever tells lives as long as this.
                Ok(()) = objects.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn scene(&self) -> Result<Scene, String> {
        let text = |error: &(dyn std::error::Error + 'static)| ErrorChain(error).to_string();
        let own = self.membership.own().await.map_err(|error| text(&error))?;
        let records = self.membership.list().await.map_err(|error| text(&error))?;
        let standings = self.peers.peers().into_iter().map(|known| (known.peer.declaration.name, known.standing));
        Ok(Scene { own, records, standings: standings.collect() })
    }

    async fn look_at_all(&mut self, wishes: &[Wish], scene: &Scene) {
        let mut memories = std::mem::take(&mut self.memories);
        let this = &*self;
        let looks = wishes.iter().map(|wish| {
            let memory = memories.remove(&wish.uid).unwrap_or_default();
            async move { (wish.uid.clone(), this.look(wish, scene, memory).await) }
        });
        let looks: Vec<_> = looks.collect();
        self.memories = join_all(looks).await.into_iter().collect();
        self.let_go_of_orphans(wishes, scene).await;
    }

    /// Somebody took an object away by force: its membership stays, and is nobody's but meshctl's.
    async fn let_go_of_orphans(&self, wishes: &[Wish], scene: &Scene) {
        for record in &scene.records {
            let Some(holder) = &record.held_by else { continue };
            if wishes.iter().any(|wish| wish.uid == *holder) {
                continue;
            }
            let name = &record.declaration.name;
            match self.membership.hold(name, Some(holder), None).await {
                Ok(true) => tracing::warn!(peer = %name, "its ClusterPeering is gone without parting: it stays joined"),
                Ok(false) => {}
                Err(error) => tracing::warn!(peer = %name, error = %ErrorChain(&error), "cannot be let go yet"),
            }
        }
    }

    async fn look(&self, wish: &Wish, scene: &Scene, mut memory: Memory) -> Memory {
        let record = scene.records.iter().find(|record| record.declaration.name.as_str() == wish.name);
        let now = Instant::now();
        let refused = wish.refused(&scene.own).filter(|_| !wish.is_deleted);
        let step = if refused.is_some() { Step::Rest } else { decide::next(wish, record, memory.settled) };
        let done = match step {
            Step::Rest => Ok(None),
            Step::Guard => self.finalizers(wish, true).await.map(|()| None),
            Step::LetGo => self.finalizers(wish, false).await.map(|()| None),
            Step::Part => self.part(wish).await,
            Step::Join | Step::Adopt if !memory.is_due(wish.generation, now) => Ok(memory.trouble.clone()),
            Step::Join => Ok(self.join(wish, scene, record).await.err()),
            Step::Adopt => Ok(self.adopt(wish, scene, record).await.err()),
        };
        let trouble = match done {
            Ok(trouble) => refused.or(trouble),
            Err(error) => {
                tracing::warn!(peering = wish.name, error = %ErrorChain(&error), "an object cannot be kept: tried again");
                return memory;
            }
        };
        if matches!(step, Step::Join | Step::Adopt) {
            match &trouble {
                Some(trouble) => memory.failed(wish.generation, trouble, now),
                None => memory.succeeded(wish.generation),
            }
            if trouble.is_none() {
                self.events.tell(wish, "Joined", "this cluster and the other one are in one mesh", false).await;
            }
        }
        if let Some(trouble) = trouble.as_ref().filter(|trouble| memory.is_news(trouble)) {
            self.events.tell(wish, trouble.reason, &trouble.message, true).await;
        }
        memory.told = trouble.as_ref().map(|trouble| trouble.reason);
        if step != Step::LetGo {
            self.tell(wish, trouble.as_ref(), scene, &mut memory, now).await;
        }
        memory
    }

    /// A step changes the record; what is read here is as it was before, and the next look is a second away.
    async fn tell(&self, wish: &Wish, trouble: Option<&Trouble>, scene: &Scene, memory: &mut Memory, now: Instant) {
        let record = match ClusterName::new(wish.name.as_str()) {
            Ok(name) => self.membership.find(&name).await,
            // A name that no cluster can have is said to be none.
            Err(_no_name) => Ok(None),
        };
        let Ok(record) = record else { return };
        let record = record.as_ref().filter(|record| record.held_by.as_deref() == Some(&wish.uid));
        let standing = record.and_then(|record| scene.standings.get(&record.declaration.name));
        let status = words::status(wish, trouble, record, standing, &Timestamp::now().to_string());
        let is_due = memory.written.is_none_or(|at| now.duration_since(at) >= MESSAGES_EVERY);
        if wish.status == status || (!is_due && words::differ_in_messages_alone(&wish.status, &status)) {
            return;
        }
        let patch = Patch::Merge(json!({ "status": {
            "id": status.id, "uuid": status.uuid, "endpoints": status.endpoints, "state": status.state,
            "conditions": status.conditions,
        }}));
        let write = |client| {
            let patch = &patch;
            async move { self.shelf.api(client).patch_status(&wish.name, &PatchParams::default(), patch).await }
        };
        match self.shelf.client().ask("patch", &format!("the status of ClusterPeering {}", wish.name), write).await {
            Ok(_written) => memory.written = Some(now),
            // It was deleted in the meantime.
            Err(error) if error.is_absence() => {}
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "a status is not written: tried again"),
        }
    }

    async fn join(&self, wish: &Wish, scene: &Scene, record: Option<&PeerRecord>) -> Result<(), Trouble> {
        let Ok(spec) = &wish.spec else { return Ok(()) };
        let joined = if let Some(declared) = &spec.declared {
            let said = self.secrets.declaration(&wish.name, declared, &scene.own).await?;
            self.membership.declared(said).await
        } else if let Some(token) = &spec.token {
            let text = self.secrets.value(&token.secret_ref).await?;
            words::token_is_of(&text, &wish.name)?;
            self.membership.redeem(&text).await
        } else {
            return Ok(());
        };
        let joined = joined.map_err(|error| Trouble::of_join(&error))?;
        let former = record.and_then(|record| record.held_by.as_deref());
        self.hold(wish, &joined.peer.declaration.name, former).await
    }

    /// A membership that is there already.
    async fn adopt(&self, wish: &Wish, scene: &Scene, record: Option<&PeerRecord>) -> Result<(), Trouble> {
        let (Ok(spec), Some(record)) = (&wish.spec, record) else { return Ok(()) };
        if spec.declared.is_some() {
            return self.join(wish, scene, Some(record)).await;
        }
        if let Some(token) = &spec.token {
            // Of one that is joined the token may be gone, or have expired.
            if let Ok(text) = self.secrets.value(&token.secret_ref).await {
                words::token_is_of(&text, &wish.name)?;
                words::token_is_of_record(&text, record)?;
            }
        }
        self.hold(wish, &record.declaration.name, record.held_by.as_deref()).await
    }

    async fn hold(&self, wish: &Wish, name: &ClusterName, former: Option<&str>) -> Result<(), Trouble> {
        if former == Some(&wish.uid) {
            return Ok(());
        }
        match self.membership.hold(name, former, Some(&wish.uid)).await {
            Ok(true) => {
                tracing::info!(peer = %name, "held by its ClusterPeering");
                Ok(())
            }
            Ok(false) => Err(Trouble::contended()),
            Err(error) => Err(Trouble::of_store(&error)),
        }
    }

    async fn part(&self, wish: &Wish) -> Result<Option<Trouble>, Error> {
        let Ok(name) = ClusterName::new(wish.name.as_str()) else { return Ok(None) };
        match self.membership.part(&name, Some(&wish.uid)).await {
            Ok(_was_joined) => {
                let note = "this side has forgotten the other cluster; what was mirrored of it goes after the grace";
                self.events.tell(wish, "Parted", note, false).await;
                Ok(None)
            }
            Err(error) => Ok(Some(Trouble::of_store(&error))),
        }
    }

    async fn finalizers(&self, wish: &Wish, with_own: bool) -> Result<(), Error> {
        let others = wish.finalizers.iter().filter(|name| *name != FINALIZER).cloned();
        let wanted: Vec<String> = others.chain(with_own.then(|| FINALIZER.to_owned())).collect();
        // With the version that was read: who changed it in between is looked at again.
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": wish.version, "finalizers": wanted },
        }));
        let write = |client| {
            let patch = &patch;
            async move { self.shelf.api(client).patch(&wish.name, &PatchParams::default(), patch).await }
        };
        match self.shelf.client().ask("patch", &format!("ClusterPeering {}", wish.name), write).await {
            Err(error) if error.is_conflict() || error.is_absence() => Ok(()),
            done => done.map(drop),
        }
    }
}
