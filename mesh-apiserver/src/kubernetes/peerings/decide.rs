//! What is to be done for one ClusterPeering: a pure function of the object, the membership and what was tried before.

use std::time::{Duration, Instant};

use federation::peer::{Declaration, PeerRecord};
use kube::api::DynamicObject;
use mesh_types::ClusterName;

use super::FINALIZER;
use super::words::Trouble;
use crate::kubernetes::crd::{ClusterPeeringSpec, ClusterPeeringStatus};

/// After a failure; doubled by each, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// An object as it was read.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) generation: i64,
    pub(super) is_deleted: bool,
    pub(super) finalizers: Vec<String>,
    pub(super) spec: Result<ClusterPeeringSpec, String>,
    pub(super) status: ClusterPeeringStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Rest,
    /// It gets the finalizer, before anything that would have to be taken back.
    Guard,
    Join,
    /// It takes over a membership that is there.
    Adopt,
    Part,
    /// Nothing is left of it: the finalizer goes.
    LetGo,
}

/// What is remembered of an object between two looks. A restart forgets it, which costs a look at its Secret.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The generation that was done.
    pub(super) settled: Option<i64>,
    pub(super) trouble: Option<Trouble>,
    /// The reason that an Event has told.
    pub(super) told: Option<&'static str>,
    /// When the status was written last.
    pub(super) written: Option<Instant>,
    tried: Option<(i64, Instant)>,
    failures: u32,
}

impl Wish {
    /// `None` for what has no name, which the API server does not let be.
    pub(super) fn of(object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        let read = |field: &str| object.data.get(field).cloned().unwrap_or_default();
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            is_deleted: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            spec: serde_json::from_value(read("spec")).map_err(|error| error.to_string()),
            status: serde_json::from_value(read("status")).unwrap_or_default(),
        })
    }

    fn is_guarded(&self) -> bool {
        self.finalizers.iter().any(|name| name == FINALIZER)
    }

    /// Why nothing can come of it, whatever the other cluster says.
    pub(super) fn refused(&self, own: &Declaration) -> Option<Trouble> {
        let spec = match &self.spec {
            Ok(spec) => spec,
            Err(error) => return Some(Trouble::malformed(error)),
        };
        match ClusterName::new(self.name.as_str()) {
            Err(error) => return Some(Trouble::malformed(&error.to_string())),
            Ok(name) if name == own.name => return Some(Trouble::own_name(&name)),
            Ok(_) => {}
        }
        if spec.token.is_some() && spec.declared.is_some() {
            return Some(Trouble::malformed("spec has token and declared: give one of them"));
        }
        let asked: mesh_types::view::Encryption = spec.encryption?.into();
        (asked != own.encryption).then(|| Trouble::encryption(asked, own.encryption))
    }
}

pub(super) fn next(wish: &Wish, record: Option<&PeerRecord>, settled: Option<i64>) -> Step {
    let is_held = record.is_some_and(|record| record.held_by.as_deref() == Some(&wish.uid));
    if wish.is_deleted {
        return match (wish.is_guarded(), is_held) {
            (false, _) => Step::Rest,
            (true, true) => Step::Part,
            (true, false) => Step::LetGo,
        };
    }
    let Ok(spec) = &wish.spec else { return Step::Rest };
    if !wish.is_guarded() {
        return Step::Guard;
    }
    match record {
        None if spec.token.is_none() && spec.declared.is_none() => Step::Rest,
        None => Step::Join,
        Some(_) if !is_held => Step::Adopt,
        // What is newly declared; a token says nothing more once it was redeemed.
        Some(_) if spec.declared.is_some() && settled != Some(wish.generation) => Step::Join,
        Some(_) => Step::Rest,
    }
}

impl Memory {
    /// Another generation is tried at once.
    pub(super) fn is_due(&self, generation: i64, now: Instant) -> bool {
        let Some((tried, at)) = self.tried else { return true };
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.saturating_sub(1).min(8)).min(LAST_RETRY);
        tried != generation || now >= at + wait
    }

    pub(super) fn failed(&mut self, generation: i64, trouble: &Trouble, now: Instant) {
        let same = self.tried.is_some_and(|(tried, _)| tried == generation);
        // A look that came too early for a trial is none.
        if same && !self.is_due(generation, now) {
            return;
        }
        self.failures = if same { self.failures + 1 } else { 1 };
        self.tried = Some((generation, now));
        self.trouble = Some(trouble.clone());
    }

    pub(super) fn succeeded(&mut self, generation: i64) {
        *self = Self { settled: Some(generation), written: self.written, ..Self::default() };
    }

    pub(super) fn is_news(&self, trouble: &Trouble) -> bool {
        self.told != Some(trouble.reason)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish(spec: serde_json::Value) -> Wish {
        Wish {
            name: "west".to_owned(),
            uid: "u1".to_owned(),
            version: "7".to_owned(),
            generation: 1,
            is_deleted: false,
            finalizers: vec![FINALIZER.to_owned()],
            spec: serde_json::from_value(spec).map_err(|error| error.to_string()),
            status: ClusterPeeringStatus::default(),
        }
    }

    fn token() -> serde_json::Value {
        json!({ "token": { "secretRef": { "name": "west", "key": "token" } } })
    }

    fn declared() -> serde_json::Value {
        json!({ "declared": {
            "id": 2, "endpoints": ["192.0.2.1:2379"], "podCIDRs": ["10.2.0.0/16"], "nodeCIDRs": ["192.0.2.0/24"],
            "trustBundle": { "secretRef": { "name": "west", "key": "ca.crt" } },
        }})
    }

    fn own() -> Declaration {
        let prefix = |text: &str| vec![text.parse().unwrap()];
        Declaration {
            name: ClusterName::new("east").unwrap(),
            id: mesh_types::ClusterId::new(1).unwrap(),
            uuid: uuid::Uuid::from_u128(1),
            trust_bundle_pem: String::new(),
            etcd_endpoints: Vec::new(),
            mesh_endpoints: Vec::new(),
            pod_prefixes: prefix("10.1.0.0/16"),
            node_prefixes: prefix("192.0.1.0/24"),
            service_prefixes: Vec::new(),
            layout: mesh_types::IdentityLayout::Clusters255,
            encryption: mesh_types::view::Encryption::Wireguard,
            version: "test".to_owned(),
        }
    }

    fn record(held_by: Option<&str>) -> PeerRecord {
        let west = Declaration { name: ClusterName::new("west").unwrap(), ..own() };
        PeerRecord { held_by: held_by.map(str::to_owned), ..PeerRecord::isthmus(west, 1) }
    }

    #[test]
    fn an_object_is_guarded_before_it_joins_and_rests_when_it_holds() {
        let bare = Wish { finalizers: vec!["x.io/other".to_owned()], ..wish(token()) };
        assert_eq!(next(&bare, None, None), Step::Guard);
        assert_eq!(next(&wish(token()), None, None), Step::Join);
        assert_eq!(next(&wish(token()), Some(&record(Some("u1"))), None), Step::Rest);
        assert_eq!(next(&wish(json!({})), None, None), Step::Rest, "the other side is to join");
    }

    #[test]
    fn a_membership_of_nobody_or_of_a_former_object_is_adopted() {
        for spec in [token(), declared(), json!({})] {
            for former in [None, Some("u0")] {
                assert_eq!(next(&wish(spec.clone()), Some(&record(former)), None), Step::Adopt);
            }
        }
    }

    #[test]
    fn what_is_newly_declared_is_taken_over_once() {
        let held = record(Some("u1"));
        assert_eq!(next(&wish(declared()), Some(&held), None), Step::Join);
        assert_eq!(next(&wish(declared()), Some(&held), Some(1)), Step::Rest);
        assert_eq!(next(&Wish { generation: 2, ..wish(declared()) }, Some(&held), Some(1)), Step::Join);
    }

    #[test]
    fn a_deleted_object_parts_what_it_holds_and_nothing_else() {
        let deleted = Wish { is_deleted: true, ..wish(token()) };
        assert_eq!(next(&deleted, Some(&record(Some("u1"))), None), Step::Part);
        assert_eq!(next(&deleted, None, None), Step::LetGo);
        for others in [record(None), record(Some("u2"))] {
            assert_eq!(next(&deleted, Some(&others), None), Step::LetGo, "meshctl's, or another object's");
        }
        let foreign = Wish { finalizers: vec!["x.io/other".to_owned()], ..deleted };
        assert_eq!(next(&foreign, Some(&record(Some("u1"))), None), Step::Rest);
        let malformed = Wish { is_deleted: true, ..wish(json!({ "token": 1 })) };
        assert_eq!(next(&malformed, None, None), Step::LetGo, "also of one that nobody understands");
    }

    #[test]
    fn what_can_never_be_is_refused_with_its_reason() {
        let refused = |wish: &Wish| wish.refused(&own()).map(|trouble| trouble.reason);
        assert_eq!(refused(&wish(token())), None);
        assert_eq!(refused(&wish(json!({ "token": "t" }))), Some("Malformed"));
        assert_eq!(refused(&Wish { name: "West.io".to_owned(), ..wish(token()) }), Some("Malformed"));
        assert_eq!(refused(&Wish { name: "east".to_owned(), ..wish(token()) }), Some("OwnName"));
        let mut clear = token();
        clear["encryption"] = json!("none");
        assert_eq!(refused(&wish(clear)), Some("EncryptionDiffers"));
        let mut both = token();
        both["declared"] = declared()["declared"].clone();
        assert_eq!(refused(&wish(both)), Some("Malformed"));
    }

    #[test]
    fn a_failure_is_tried_again_later_and_later_and_another_generation_at_once() {
        let (mut memory, t0) = (Memory::default(), Instant::now());
        let trouble = Trouble::malformed("x");
        let (mut at, mut before) = (t0, t0);
        for wait in [2, 4, 8, 16, 30, 30] {
            assert!(memory.is_due(1, at));
            memory.failed(1, &trouble, at);
            memory.failed(1, &trouble, at + Duration::from_secs(1));
            assert!(!memory.is_due(1, at + Duration::from_millis(wait * 1_000 - 1)), "{wait}");
            before = at + Duration::from_secs(wait - 1);
            at += Duration::from_secs(wait);
        }
        assert!(!memory.is_due(1, before) && memory.is_due(2, before));
        memory.succeeded(1);
        assert!(memory.is_due(1, at) && memory.trouble.is_none() && memory.settled == Some(1));
    }
}
