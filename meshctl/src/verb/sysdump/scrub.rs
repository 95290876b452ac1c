//! Takes secrets out of what goes into a file that people send to others. Objects by their fields, texts by what secrets look
//! like. Pure. What it is not sure of it takes out.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

const REMOVED: &str = "(removed)";
/// Words in names of fields, variables and keys whose values are secrets.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "api_key",
    "api-key",
    "private",
    "authorization",
    "accesskey",
];
/// Names that hold such a word and no secret: they are what a dump is read for.
const HARMLESS: [&str; 9] = [
    "automountserviceaccounttoken",
    "serviceaccounttoken",
    "secretname",
    "secretref",
    "secretkeyref",
    "imagepullsecrets",
    "secrets",
    "tokensecret",
    "privileged",
];

/// A pattern and what stands in its place.
struct Pattern(Regex, &'static str);

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let all = [
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)", "(private key removed)"),
        (r"isthmus1\.[A-Za-z0-9_-]+", "(mesh token removed)"),
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", "(token removed)"),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "$1 (removed)"),
        (r"([a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@", "$1(removed)@"),
        (
            r#"(?i)([a-z0-9_.-]*(?:password|passwd|passphrase|secret[_-]?key|api[_-]?key|private[_-]?key|access[_-]?token|auth[_-]?token)[a-z0-9_.-]*"?\s*[=:]\s*"?)([^\s",;&]+)"#,
            "$1(removed)",
        ),
    ];
    // One that did not compile must not be left out: it would let secrets through.
    let compiled =
        |pattern| Regex::new(pattern).expect("each pattern is written above, and the tests compile them all");
    all.into_iter().map(|(pattern, instead)| Pattern(compiled(pattern), instead)).collect()
});

/// A log, metrics, or a text in an object.
pub(super) fn text(text: &str) -> String {
    let mut clean = text.to_owned();
    for Pattern(pattern, instead) in PATTERNS.iter() {
        if let std::borrow::Cow::Owned(changed) = pattern.replace_all(&clean, *instead) {
            clean = changed;
        }
    }
    clean
}

/// An object of Kubernetes, or anything else that is JSON.
pub(super) fn object(object: &mut Value) {
    if object["kind"] == "Secret" {
        // Where one slipped in: which keys it has may be told.
        for field in ["data", "stringData"] {
            if let Some(values) = object.get_mut(field).and_then(Value::as_object_mut) {
                values.values_mut().for_each(|value| *value = REMOVED.into());
            }
        }
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(notes) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // The whole object as somebody applied it, once more.
            notes.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    values(object);
}

fn values(value: &mut Value) {
    match value {
        Value::String(string) => *string = text(string),
        Value::Array(items) => items.iter_mut().for_each(values),
        Value::Object(fields) => {
            // A variable's name says what its value is.
            let is_secret = fields.get("name").and_then(Value::as_str).is_some_and(is_name);
            for (name, field) in fields.iter_mut() {
                let holds = is_name(name) || (is_secret && name == "value");
                match field {
                    Value::String(string) if holds && !string.is_empty() => REMOVED.clone_into(string),
                    other => values(other),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether what has this name is to be kept back.
fn is_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A path to a file is no secret, and says where it should have been.
    let is_harmless = HARMLESS.contains(&name.as_str())
        || name.ends_with("_file")
        || name.ends_with("-file")
        || name.ends_with("_secret_name");
    !is_harmless && (NAMES.iter().any(|word| name.contains(word)) || name.rsplit('.').next() == Some("key"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLANTED: &str = "hunter2hunter2";

    #[test]
    fn texts_lose_what_looks_like_a_secret_and_nothing_else() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl";
        for (secret, keeps) in [
            (format!("{{\"authorization\": \"Bearer {PLANTED}\"}}"), "authorization"),
            (format!("-----BEGIN EC PRIVATE KEY-----\n{PLANTED}\n-----END EC PRIVATE KEY-----\nafter"), "after"),
            (format!("cut off -----BEGIN PRIVATE KEY-----\n{PLANTED}"), "cut off"),
            (format!("token=isthmus1.{PLANTED} was redeemed"), "was redeemed"),
            (format!("https://user:{PLANTED}@registry/x"), "registry/x"),
            (format!("db_password={PLANTED}, host=x"), "host=x"),
            (format!("\"api-key\": \"{PLANTED}\", \"port\": 1"), "\"port\": 1"),
        ] {
            let clean = text(&secret);
            assert!(!clean.contains(PLANTED) && clean.contains(keeps), "{secret:?} became {clean:?}");
        }
        assert_eq!(text(&format!("a {jwt} b")), "a (token removed) b");
        let log = "level=INFO revision=17 peer=cluster-b: 10.1.1.1:2379 token expired; public key AbCdEf+/=";
        assert_eq!(text(log), log);
    }

    #[test]
    fn objects_lose_values_of_secret_fields_variables_and_keys() {
        let mut pod = json!({
            "kind": "Pod",
            "metadata": {
                "name": "p", "managedFields": [1],
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": PLANTED, "other": "stays" },
            },
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{
                    "env": [
                        { "name": "DB_PASSWORD", "value": PLANTED },
                        { "name": "ISTHMUS_ENROL_TOKEN_FILE", "value": "/var/run/t" },
                        { "name": "URL", "value": format!("https://u:{PLANTED}@h/") },
                    ],
                    "args": [format!("--password={PLANTED}")],
                }],
                "volumes": [{ "secret": { "secretName": "isthmus-ca" } }],
            },
        });
        object(&mut pod);
        let text = pod.to_string();
        assert!(!text.contains(PLANTED), "{text}");
        for kept in ["/var/run/t", "isthmus-ca", "stays", "DB_PASSWORD", "\"automountServiceAccountToken\":false"] {
            assert!(text.contains(kept), "{kept} is gone: {text}");
        }
        let mut map =
            json!({ "kind": "ConfigMap", "data": { "tls.key": PLANTED, "ca.crt": "-----BEGIN CERTIFICATE-----" } });
        object(&mut map);
        assert!(!map.to_string().contains(PLANTED) && map.to_string().contains("BEGIN CERTIFICATE"), "{map}");
        let mut secret = json!({ "kind": "Secret", "type": "Opaque", "data": { "x": PLANTED } });
        object(&mut secret);
        assert_eq!(secret, json!({ "kind": "Secret", "type": "Opaque", "data": { "x": REMOVED } }));
    }

    #[test]
    fn every_pattern_is_a_pattern() {
        assert_eq!(PATTERNS.len(), 6);
    }
}
