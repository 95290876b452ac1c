//! Rights as roles give them, questions as an audit log has them, and what differs. Pure but for reading the log.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{is_bound, lines, texts};

/// One verb on one resource, in one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    role: String,
    /// `None`: everywhere.
    namespace: Option<String>,
    group: String,
    /// With its subresource: `clusterpeerings/status`.
    resource: String,
    verb: String,
    /// Empty: all.
    names: BTreeSet<String>,
}

/// One question. Several that differ in nothing of this are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    namespace: String,
    group: String,
    resource: String,
    verb: String,
    name: String,
    is_forbidden: bool,
}

impl Grant {
    /// Of all roles that rendered bindings bind to the server's account.
    pub(super) fn of(rendered: &[Value]) -> Result<BTreeSet<Self>> {
        let mut granted = BTreeSet::new();
        for binding in rendered.iter().filter(|object| is_bound(object)) {
            let role = &binding["roleRef"];
            let is_wide = binding["kind"] == "ClusterRoleBinding";
            let namespace = binding["metadata"]["namespace"].as_str().filter(|_| !is_wide).map(str::to_owned);
            let is_its = |object: &&Value| {
                let is_there =
                    role["kind"] == "ClusterRole" || object["metadata"]["namespace"].as_str() == namespace.as_deref();
                object["kind"] == role["kind"] && object["metadata"]["name"] == role["name"] && is_there
            };
            let found = rendered.iter().find(is_its).with_context(|| format!("{role} is not rendered"))?;
            let name = role["name"].as_str().unwrap_or_default();
            for rule in found["rules"].as_array().into_iter().flatten() {
                for group in texts(&rule["apiGroups"]) {
                    for resource in texts(&rule["resources"]) {
                        granted.extend(texts(&rule["verbs"]).into_iter().map(|verb| Self {
                            role: name.to_owned(),
                            namespace: namespace.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb,
                            names: texts(&rule["resourceNames"]),
                        }));
                    }
                }
            }
        }
        Ok(granted)
    }

    fn covers(&self, asked: &Asked) -> bool {
        self.group == asked.group
            && self.resource == asked.resource
            && self.verb == asked.verb
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == asked.namespace)
            && (self.names.is_empty() || self.names.contains(&asked.name))
    }
}

impl Asked {
    /// What one user asked of resources, by the API server's own log.
    pub(super) fn read(log: &Path, user: &str) -> Result<BTreeSet<Self>> {
        let of_user = |event: &Value| event["user"]["username"] == user && event["objectRef"]["resource"].is_string();
        Ok(lines(log)?.iter().filter(|event| of_user(event)).map(Self::of).collect())
    }

    fn of(event: &Value) -> Self {
        let of = &event["objectRef"];
        let text = |field: &str| of[field].as_str().unwrap_or_default().to_owned();
        let resource = match of["subresource"].as_str() {
            Some(sub) => format!("{}/{sub}", text("resource")),
            None => text("resource"),
        };
        Self {
            namespace: text("namespace"),
            group: text("apiGroup"),
            resource,
            verb: event["verb"].as_str().unwrap_or_default().to_owned(),
            name: text("name"),
            is_forbidden: event["responseStatus"]["code"] == 403,
        }
    }
}

/// Rights that nothing was asked by, and questions that no right answered.
pub(super) fn differences(granted: &BTreeSet<Grant>, asked: &BTreeSet<Asked>) -> Vec<String> {
    let unused = granted.iter().filter(|grant| !asked.iter().any(|asked| grant.covers(asked)));
    let unused = unused.map(|Grant { role, group, resource, verb, .. }| {
        format!("role {role}: the right to {verb} {resource} of group {group:?} is not used: take it out, or use it in this test")
    });
    let missing = asked.iter().filter(|asked| asked.is_forbidden);
    let missing = missing.map(|Asked { namespace, group, resource, verb, name, .. }| {
        format!("the right to {verb} {resource} {name:?} of group {group:?} in namespace {namespace:?} is missing in the chart")
    });
    unused.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered() -> Vec<Value> {
        let account = json!([{ "kind": "ServiceAccount", "name": "isthmus-mesh-apiserver", "namespace": "isthmus" }]);
        let rule = |resource: &str, verbs: Value, names: Value| json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs, "resourceNames": names });
        vec![
            json!({ "kind": "ClusterRole", "metadata": { "name": "wide" }, "rules": [rule("pods", json!(["list", "watch"]), json!(null))] }),
            json!({ "kind": "ClusterRoleBinding", "metadata": { "name": "wide" }, "roleRef": { "kind": "ClusterRole", "name": "wide" }, "subjects": account }),
            json!({ "kind": "Role", "metadata": { "name": "own", "namespace": "isthmus" }, "rules": [rule("secrets", json!(["get"]), json!(["ca"]))] }),
            json!({ "kind": "RoleBinding", "metadata": { "name": "own", "namespace": "isthmus" }, "roleRef": { "kind": "Role", "name": "own" }, "subjects": account }),
            json!({ "kind": "Role", "metadata": { "name": "others", "namespace": "isthmus" }, "rules": [rule("nodes", json!(["get"]), json!(null))] }),
        ]
    }

    fn event(verb: &str, resource: &str, name: &str, code: u16) -> Value {
        json!({
            "verb": verb, "responseStatus": { "code": code },
            "objectRef": { "resource": resource, "namespace": "isthmus", "name": name, "apiVersion": "v1" },
        })
    }

    fn different(events: &[Value]) -> Vec<String> {
        differences(&Grant::of(&rendered()).unwrap(), &events.iter().map(Asked::of).collect())
    }

    #[test]
    fn a_right_that_is_not_used_and_one_that_is_missing_are_named() {
        let all = [event("list", "pods", "", 200), event("watch", "pods", "", 200), event("get", "secrets", "ca", 200)];
        assert_eq!(different(&all), Vec::<String>::new());
        let unused = different(&all[..2]);
        assert!(unused[0].starts_with("role own: the right to get secrets"), "{unused:?}");
        let other = different(&[&all[..2], &[event("get", "secrets", "another", 200)]].concat());
        assert_eq!(other.len(), 1, "another Secret is not what the right is for: {other:?}");
        let missing = different(&[&all[..], &[event("update", "nodes", "n1", 403)]].concat());
        assert!(missing[0].starts_with("the right to update nodes \"n1\""), "{missing:?}");
    }
}
