//! Manifests that nobody here wrote, split over two clusters: every Service is reached by its cluster IP from every pod of
//! the other cluster. The folder is named by `ISTHMUS_MANIFESTS`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use topology_tests::deadline::wait_for;
use topology_tests::load::check::Question;
use topology_tests::manifest::{Manifests, name_of};
use topology_tests::scenario::Setup;

/// What runs in cluster-a: the front end and who calls it. All else runs in cluster-b.
const FRONT: [&str; 3] = ["frontend", "frontend-external", "loadgenerator"];

/// The folder, relative paths taken from the workspace; `None` with the reason on standard output.
fn folder() -> Option<PathBuf> {
    let Ok(named) = std::env::var("ISTHMUS_MANIFESTS") else {
        println!("skipped: ISTHMUS_MANIFESTS names no folder of manifests");
        return None;
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = workspace.join(&named);
    if !folder.is_dir() {
        println!("skipped: ISTHMUS_MANIFESTS={named} is not a folder");
        return None;
    }
    Some(folder)
}

/// Half of the manifests, every Service of it marked global.
fn half(all: &Manifests, is_front: bool) -> Manifests {
    let mut half = all.clone();
    half.workloads.retain(|w| FRONT.contains(&w.name.as_str()) == is_front);
    half.services.retain(|service| FRONT.contains(&name_of(service)) == is_front);
    for service in &mut half.services {
        service["metadata"]["annotations"]["mesh.isthmus.io/global"] = json!("true");
    }
    half
}

/// How to ask a Service's first port: by the name that its authors gave it.
fn question(service: &Value) -> String {
    let spec = &service["spec"];
    let (ip, port) = (spec["clusterIP"].as_str().unwrap(), spec["ports"][0]["port"].as_u64().unwrap());
    let protocol = match spec["ports"][0]["name"].as_str().unwrap_or_default() {
        name if name.starts_with("grpc") => "grpc",
        name if name.starts_with("http") => "http",
        _ => "tcp",
    };
    format!("{protocol}://{ip}:{port}")
}

#[test]
fn every_service_is_reached_from_every_pod_of_the_other_cluster() {
    let Some(folder) = folder() else { return };
    let all = Manifests::load(&folder).unwrap();
    let manifests: BTreeMap<String, Manifests> =
        [("cluster-a".to_owned(), half(&all, true)), ("cluster-b".to_owned(), half(&all, false))].into();
    let Some(s) = Setup::with("boutique", manifests).start().unwrap() else { return };
    s.connect().unwrap();
    let mut reached = 0;
    for (from, to) in [("cluster-a", "cluster-b"), ("cluster-b", "cluster-a")] {
        let questions: Vec<Question> =
            s.lab.control(to).unwrap().services().iter().map(|x| question(x).parse().unwrap()).collect();
        assert!(!questions.is_empty(), "{to} has services");
        for pod in s.lab.pods().into_iter().filter(|pod| pod.cluster == from) {
            wait_for(&format!("every service of {to} from {}", pod.name), Duration::from_secs(10), || {
                let answers = s.lab.check_from(&pod, &questions, 100)?;
                let failed: Vec<_> = answers.iter().filter(|a| a.error.is_some()).collect();
                anyhow::ensure!(failed.is_empty() && answers.len() == questions.len(), "{failed:?}");
                let strangers: Vec<_> = answers.iter().filter(|a| a.answer.cluster != to).collect();
                anyhow::ensure!(strangers.is_empty(), "answered by the wrong cluster: {strangers:?}");
                Ok(Some(()))
            })
            .unwrap();
            reached += questions.len();
        }
    }
    println!("{reached} pairs of pod and service");
    assert_eq!(s.lab.wan.counters().unwrap().clear, 0, "{:?}", s.lab.wan.clear_seen());
    s.end().unwrap();
}
