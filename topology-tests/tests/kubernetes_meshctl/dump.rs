//! `meshctl sysdump` on real clusters, with secrets planted where they would be found.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;
use topology_tests::proc;

use crate::world::{CLUSTERS, NAMESPACE, World};

const PLANTED: &str = "hunter2-in-the-dump";

fn plant(world: &World<'_>) {
    let labels = json!({ "app.kubernetes.io/name": "isthmus" });
    let meta = |name: &str| json!({ "name": name, "namespace": NAMESPACE, "labels": labels });
    let key = format!("-----BEGIN EC PRIVATE KEY-----\n{PLANTED}\n-----END EC PRIVATE KEY-----\n");
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Secret", "metadata": meta("planted"), "stringData": { "x": PLANTED } },
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("planted"), "data": {
            "tls.key": PLANTED, "settings": format!("db_password={PLANTED}\nother=stays"), "pem": key,
        } },
        { "apiVersion": "v1", "kind": "Service", "metadata": {
            "name": "planted", "namespace": NAMESPACE,
            "annotations": { "example.net/url": format!("https://user:{PLANTED}@example.net/") },
        }, "spec": { "ports": [{ "port": 1 }] } },
    ] });
    world.kubectl(CLUSTERS[0]).apply(&objects.to_string()).unwrap();
}

pub(crate) fn holds_what_is_needed_and_no_secret(world: &World<'_>) {
    plant(world);
    let said = world.meshctl.run(&["sysdump", "--all-contexts", "--file", "dump.tar.gz", "-o", "json"]);
    let told = said.json();
    assert_eq!(told["missing"], json!([]), "{said:#?}");
    let out = world.folder.path().join("dump");
    std::fs::create_dir(&out).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(world.folder.path().join("dump.tar.gz")).arg("-C").arg(&out).arg("--strip-components=1");
    proc::output("tar", tar).unwrap();
    let mut files = BTreeMap::new();
    walk(&out, &mut |path| {
        let name = path.strip_prefix(&out).unwrap().display().to_string();
        files.insert(name, std::fs::read_to_string(path).unwrap());
    });
    let kubeconfig = std::fs::read_to_string(&world.meshctl.kubeconfig).unwrap();
    let kubeconfig: serde_json::Value = serde_json::from_str(&kubeconfig).unwrap();
    let own_key = kubeconfig["users"][0]["user"]["client-key-data"].as_str().unwrap();
    for (name, text) in &files {
        for secret in [PLANTED, "PRIVATE KEY-----", own_key] {
            assert!(!text.contains(secret), "{name} has a secret");
        }
    }
    for cluster in CLUSTERS {
        let has = |part: &str| files.keys().any(|name| name.starts_with(&format!("{cluster}/{part}")));
        for part in ["nodes.json", "status.json", "certificates.json", "mesh/pods.json", "logs/", "metrics/", "maps/"] {
            assert!(has(part), "{cluster}/{part} is not in {:?}", files.keys());
        }
    }
    let names = &files["cluster-a/mesh/secrets-without-values.json"];
    assert!(names.contains("planted"), "{names}");
    assert!(files["cluster-a/mesh/configmaps.json"].contains("other=stays"));
    println!("sysdump: {} files, {} bytes, none with a planted secret", files.len(), told["bytes"]);
}

fn walk(folder: &std::path::Path, found: &mut impl FnMut(&std::path::Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { walk(&entry.path(), found) } else { found(&entry.path()) }
    }
}
