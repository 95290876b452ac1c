//! Where each exported fact lies in the store, by who may have it. Pure.
//!
//! ```text
//!  no rule           cilium/state/...                                 everybody's
//!  export-to: b,c    isthmus/v1/audience/{own,b,c}/cilium/state/...   one copy for each
//!  export-to: none   isthmus/v1/audience/own/cilium/state/...         the own agents' alone
//! ```
//! It owns the export rules and, of every fact that has a scope, in which places it is. It must never look at a value.
//! Everything that belongs to a namespace is set here ([`Audiences::set`]); only what everybody may have whatever the rules
//! (nodes, the cluster's own word) goes to the planner directly.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use federation::contract::keys;
use mesh_types::exchange::{Rules, Scope};
use mesh_types::{ClusterName, ServiceName};

use super::planner::Planner;

/// # Invariants
/// - A fact is desired in the places that the rules give it and in no other.
/// - The rule of a namespace without an object lives as long as a fact of it: what is left of a Namespace that was deleted
///   becomes nobody's who was not to have it.
pub(super) struct Audiences {
    own: ClusterName,
    rules: Rules,
    /// The rules have changed since somebody asked.
    is_news: bool,
    facts: BTreeMap<Bytes, Fact>,
    by_scope: BTreeSet<(Scope, Bytes)>,
    /// Namespaces that have a rule and no object.
    orphaned: BTreeSet<String>,
}

struct Fact {
    scope: Scope,
    value: Bytes,
    places: BTreeSet<Bytes>,
}

impl Audiences {
    pub(super) fn new(own: ClusterName) -> Self {
        Self {
            own,
            rules: Rules::default(),
            is_news: true,
            facts: BTreeMap::new(),
            by_scope: BTreeSet::new(),
            orphaned: BTreeSet::new(),
        }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether the rules have changed since the last call.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Takes over the rules of a former export's namespaces, until their objects say otherwise.
    pub(super) fn restore(&mut self, former: &Rules) {
        for namespace in former.namespaces() {
            let scope = Scope::Namespace(namespace.to_owned());
            if self.rules.set(&scope, former.of(&scope).cloned()) {
                self.orphaned.insert(namespace.to_owned());
            }
        }
    }

    /// A fact as it was set last.
    pub(super) fn value(&self, key: &[u8]) -> Option<&Bytes> {
        self.facts.get(key).map(|fact| &fact.value)
    }

    /// Sets a fact (`key` under `cilium/state/`), or removes it.
    pub(super) fn set(&mut self, planner: &mut Planner, key: String, scope: Scope, value: Option<Bytes>) {
        let key = Bytes::from(key);
        let before = self.facts.remove(&key);
        if let Some(before) = &before {
            self.by_scope.remove(&(before.scope.clone(), key.clone()));
        }
        let places = if value.is_some() { self.places(&key, &scope) } else { BTreeSet::new() };
        for gone in before.iter().flat_map(|fact| fact.places.difference(&places)) {
            planner.set(gone.clone(), None);
        }
        let namespace = before.map_or_else(|| scope.namespace().to_owned(), |fact| fact.scope.namespace().to_owned());
        if let Some(value) = value {
            for place in &places {
                planner.set(place.clone(), Some(value.clone()));
            }
            self.by_scope.insert((scope.clone(), key.clone()));
            self.facts.insert(key, Fact { scope, value, places });
        }
        self.forget_if_empty(&namespace);
    }

    /// What the object of this scope says now; every fact that it concerns moves.
    pub(super) fn rule(&mut self, planner: &mut Planner, scope: &Scope, clusters: Option<BTreeSet<ClusterName>>) {
        if let Scope::Namespace(namespace) = scope {
            self.orphaned.remove(namespace);
        }
        if self.rules.set(scope, clusters) {
            self.is_news = true;
            self.place_again(planner, scope);
        }
    }

    /// The Namespace is gone.
    pub(super) fn orphan(&mut self, namespace: &str) {
        self.orphaned.insert(namespace.to_owned());
        self.forget_if_empty(namespace);
    }

    /// Everything that exists has been set once: rules of former namespaces of which nothing is left go.
    pub(super) fn prune(&mut self) {
        for namespace in std::mem::take(&mut self.orphaned) {
            self.orphaned.insert(namespace.clone());
            self.forget_if_empty(&namespace);
        }
    }

    fn forget_if_empty(&mut self, namespace: &str) {
        if self.orphaned.contains(namespace) && self.keys_of(&Scope::Namespace(namespace.to_owned())).is_empty() {
            self.orphaned.remove(namespace);
            self.is_news |= self.rules.set(&Scope::Namespace(namespace.to_owned()), None);
        }
    }

    fn place_again(&mut self, planner: &mut Planner, scope: &Scope) {
        for key in self.keys_of(scope) {
            let Some(Fact { scope, value, places: before }) = self.facts.remove(&key) else { continue };
            let places = self.places(&key, &scope);
            for gone in before.difference(&places) {
                planner.set(gone.clone(), None);
            }
            for place in places.difference(&before) {
                planner.set(place.clone(), Some(value.clone()));
            }
            self.facts.insert(key, Fact { scope, value, places });
        }
    }

    /// The facts of a scope: of a namespace those of its Services as well.
    fn keys_of(&self, scope: &Scope) -> Vec<Bytes> {
        let of = |from: Scope| self.by_scope.range((from, Bytes::new())..);
        let key = |(_, key): &(Scope, Bytes)| key.clone();
        let own = of(scope.clone()).take_while(|(found, _)| found == scope).map(key);
        let Scope::Namespace(namespace) = scope else { return own.collect() };
        let services = of(Scope::Service(ServiceName::new(namespace.clone(), "")));
        own.chain(services.take_while(|(found, _)| found.namespace() == namespace).map(key)).collect()
    }

    fn places(&self, key: &Bytes, scope: &Scope) -> BTreeSet<Bytes> {
        let Some(clusters) = self.rules.of(scope) else { return BTreeSet::from([key.clone()]) };
        // The own agents see it whoever else does.
        let audience = clusters.iter().chain([&self.own]);
        audience.map(|cluster| [keys::audience(cluster).as_bytes(), key].concat().into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::planner::Limits;
    use super::*;

    fn clusters(list: &[&str]) -> BTreeSet<ClusterName> {
        list.iter().map(|name| ClusterName::new(*name).unwrap()).collect()
    }

    fn shop() -> Scope {
        Scope::Namespace("shop".into())
    }

    fn cart() -> Scope {
        Scope::Service(ServiceName::new("shop", "cart"))
    }

    struct Export {
        audiences: Audiences,
        planner: Planner,
        stored: BTreeMap<String, String>,
    }

    impl Export {
        fn new() -> Self {
            let own = ClusterName::new("a").unwrap();
            Self { audiences: Audiences::new(own), planner: Planner::default(), stored: BTreeMap::new() }
        }

        fn set(&mut self, key: &str, scope: Scope, value: Option<&'static str>) {
            let value = value.map(Bytes::from);
            self.audiences.set(&mut self.planner, format!("cilium/state/{key}"), scope, value);
        }

        fn rule(&mut self, scope: &Scope, clusters: Option<BTreeSet<ClusterName>>) {
            self.audiences.rule(&mut self.planner, scope, clusters);
        }

        /// What is in the store once all is written, without what every key begins with.
        fn stored(&mut self) -> Vec<String> {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            for batch in self.planner.batches(Limits { keys: 10, bytes: 1 << 20 }) {
                self.planner.committed(&batch);
                self.stored.extend(batch.puts.iter().map(|(key, value)| (text(key), text(value))));
                for key in &batch.deletes {
                    self.stored.remove(&text(key));
                }
            }
            let short = |key: &String| key.replace("isthmus/v1/audience/", "@").replace("cilium/state/", "");
            self.stored.iter().map(|(key, value)| format!("{}={value}", short(key))).collect()
        }
    }

    #[test]
    fn a_fact_lies_where_the_rules_put_it_and_moves_with_them() {
        let mut export = Export::new();
        export.set("ip/1", shop(), Some("x"));
        export.set("services/cart", cart(), Some("y"));
        export.set("ip/2", Scope::Namespace("open".into()), Some("z"));
        assert_eq!(export.stored(), ["ip/1=x", "ip/2=z", "services/cart=y"]);
        export.rule(&shop(), Some(clusters(&["b", "c"])));
        let of = |cluster: &str| ["ip/1=x", "services/cart=y"].map(|fact| format!("@{cluster}/{fact}"));
        assert_eq!(
            export.stored(),
            [vec!["ip/2=z".to_owned()], of("a").into(), of("b").into(), of("c").into()].concat()
        );
        export.rule(&cart(), Some(clusters(&["c"])));
        assert_eq!(export.stored(), [&["ip/2=z".to_owned()][..], &of("a"), &of("b")[..1], &of("c")].concat());
        export.set("services/cart", cart(), Some("new"));
        export.set("ip/1", shop(), None);
        assert_eq!(export.stored(), ["ip/2=z", "@a/services/cart=new", "@c/services/cart=new"]);
        export.rule(&cart(), Some(clusters(&[])));
        assert_eq!(export.stored(), ["ip/2=z", "@a/services/cart=new"]);
        export.rule(&cart(), None);
        export.rule(&shop(), None);
        assert_eq!(export.stored(), ["services/cart=new", "ip/2=z"].iter().rev().copied().collect::<Vec<_>>());
    }

    #[test]
    fn the_own_agents_see_what_nobody_else_may() {
        let mut export = Export::new();
        export.set("ip/1", shop(), Some("x"));
        export.rule(&shop(), Some(clusters(&[])));
        assert_eq!(export.stored(), ["@a/ip/1=x"]);
        export.rule(&shop(), Some(clusters(&["a", "b"])));
        assert_eq!(export.stored(), ["@a/ip/1=x", "@b/ip/1=x"]);
    }

    #[test]
    fn what_is_left_of_a_deleted_namespace_stays_with_those_who_had_it() {
        let mut export = Export::new();
        export.rule(&shop(), Some(clusters(&["b"])));
        export.set("identities/1", shop(), Some("x"));
        export.audiences.orphan("shop");
        export.set("identities/2", shop(), Some("y"));
        let kept = ["@a/identities/1=x", "@a/identities/2=y", "@b/identities/1=x", "@b/identities/2=y"];
        assert_eq!(export.stored(), kept);
        export.set("identities/1", shop(), None);
        export.set("identities/2", shop(), None);
        assert_eq!(export.audiences.rules(), &Rules::default());
        export.set("identities/3", shop(), Some("z"));
        assert_eq!(export.stored(), ["identities/3=z"], "another namespace of the same name");
    }

    #[test]
    fn a_former_exports_rules_hold_until_the_scan_has_shown_what_there_is() {
        let mut former = Rules::default();
        former.set(&shop(), Some(clusters(&["b"])));
        former.set(&Scope::Namespace("gone".into()), Some(clusters(&[])));
        let mut export = Export::new();
        export.audiences.restore(&former);
        export.set("identities/1", shop(), Some("x"));
        assert_eq!(export.stored(), ["@a/identities/1=x", "@b/identities/1=x"]);
        export.audiences.prune();
        assert_eq!(export.audiences.rules().namespaces().collect::<Vec<_>>(), ["shop"]);
        export.rule(&shop(), None);
        assert_eq!(export.stored(), ["identities/1=x"], "the Namespace is there and has no rule");
    }
}
