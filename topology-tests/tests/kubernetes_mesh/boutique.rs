//! An application of many services split over two clusters: Online Boutique where its manifests are at hand
//! (`ISTHMUS_MANIFESTS`), else the project's own shop of the same shape. Its images are replaced by the lab's workload, which
//! answers on the same ports in the same protocols, and says who it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::images::WORKLOAD;
use topology_tests::kubernetes::kubectl::has_condition;
use topology_tests::kubernetes::processes::check_from;
use topology_tests::kubernetes::release::Release;
use topology_tests::load::check::Question;
use topology_tests::manifest::{documents, name_of};

const NAMESPACE: &str = "shop";
/// What runs in the first cluster: the front end and who calls it. All else runs in the second.
const FRONT: [&str; 5] = ["frontend", "frontend-external", "loadgenerator", "storefront", "visitors"];
const READY: Duration = Duration::from_mins(2);
const REACHED: Duration = Duration::from_secs(30);

/// The objects of the application.
pub(crate) struct Boutique {
    pub(crate) origin: String,
    objects: Vec<Value>,
}

impl Boutique {
    pub(crate) fn load() -> Result<Self> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let named = std::env::var_os("ISTHMUS_MANIFESTS").map(|named| package.join("..").join(named));
        let folder = named.unwrap_or_else(|| package.join("manifests/boutique"));
        let mut objects = Vec::new();
        for file in yaml_files(&folder)? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            objects.extend(documents(&text, &file.display().to_string())?);
        }
        let origin = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { origin, objects })
    }

    fn services(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(|object| object["kind"] == "Service")
    }

    /// Its half of the workloads, and all Services: a Service without pods here is reached at those of the other cluster.
    fn half(&self, cluster: &str, is_front: bool) -> Vec<Value> {
        let mut half = vec![json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } })];
        for object in &self.objects {
            let mut object = object.clone();
            object["metadata"]["namespace"] = NAMESPACE.into();
            match object["kind"].as_str() {
                Some("Deployment") if FRONT.contains(&name_of(&object)) == is_front => {
                    run_the_workload(&mut object, cluster);
                }
                Some("Service") => object["metadata"]["annotations"]["mesh.isthmus.io/global"] = "true".into(),
                Some("ServiceAccount") => {}
                _ => continue,
            }
            half.push(object);
        }
        half
    }

    /// Applies both halves and waits until all their pods are ready.
    pub(crate) fn start(&self, clusters: [&Release<'_>; 2]) -> Result<()> {
        for (n, cluster) in clusters.iter().enumerate() {
            let half = self.half(cluster.name(), n == 0);
            cluster.kubectl().apply(&json!({ "apiVersion": "v1", "kind": "List", "items": half }).to_string())?;
        }
        for cluster in clusters {
            ready_pods(cluster)?;
        }
        Ok(())
    }

    /// Asks every Service from every pod of the cluster that it does not run in, by the cluster IP that it has there. Gives how
    /// many ways that were.
    pub(crate) fn reach_all(&self, run: &Kubernetes, clusters: [&Release<'_>; 2]) -> Result<usize> {
        let mut ways = 0;
        for (from, to, is_front) in [(clusters[0], clusters[1], false), (clusters[1], clusters[0], true)] {
            let mut questions = Vec::new();
            for service in self.services().filter(|service| FRONT.contains(&name_of(service)) == is_front) {
                questions.push(question(&cluster_ip(from, name_of(service))?, service)?);
            }
            ensure!(!questions.is_empty(), "{} has no Service of the application", to.name());
            for (node, pod) in ready_pods(from)? {
                let place = run.pod_place(from.cluster.node(&node)?, &pod)?;
                wait_for(&format!("every Service of {} in {pod}", to.name()), REACHED, || {
                    let answers = check_from(&place, &questions)?;
                    let wrong: Vec<_> =
                        answers.iter().filter(|a| a.error.is_some() || a.answer.cluster != to.name()).collect();
                    ensure!(answers.len() == questions.len() && wrong.is_empty(), "{wrong:?}");
                    Ok(Some(()))
                })?;
                ways += questions.len();
            }
        }
        Ok(ways)
    }

    /// Removes it from both clusters, and waits until it is gone.
    pub(crate) fn remove(clusters: [&Release<'_>; 2]) -> Result<()> {
        for cluster in clusters {
            cluster.kubectl().run(&["delete", "namespace", NAMESPACE, "--timeout=60s"])?;
        }
        Ok(())
    }
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    files.sort();
    Ok(files)
}

/// The lab's workload in the place of every container, with its ports, its probes and its rights. What runs before them is
/// the replaced program's own affair.
fn run_the_workload(deployment: &mut Value, cluster: &str) {
    let pod = &mut deployment["spec"]["template"]["spec"];
    if let Some(pod) = pod.as_object_mut() {
        pod.remove("initContainers");
    }
    let containers = pod["containers"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    for container in containers {
        let of_pod = |field: &str| json!({ "fieldRef": { "fieldPath": field } });
        let ports: Vec<String> = container["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|port| {
                Some(format!("{}/{}", port["containerPort"].as_u64()?, port["protocol"].as_str().unwrap_or("TCP")))
            })
            .collect();
        if let Some(container) = container.as_object_mut() {
            container.remove("command");
            container.remove("args");
        }
        container["image"] = WORKLOAD.into();
        container["imagePullPolicy"] = "IfNotPresent".into();
        container["env"] = json!([
            { "name": "CLUSTER", "value": cluster },
            { "name": "NODE", "valueFrom": of_pod("spec.nodeName") },
            { "name": "POD", "valueFrom": of_pod("metadata.name") },
            { "name": "PORTS", "value": ports.join(",") },
        ]);
    }
}

/// Node and name of each pod of the application, all of them ready.
fn ready_pods(cluster: &Release<'_>) -> Result<Vec<(String, String)>> {
    wait_for(&format!("the application's pods of {} to be ready", cluster.name()), READY, || {
        let list = |kind: &str| cluster.kubectl().get(&[kind, "-n", NAMESPACE]);
        let (deployments, pods) = (list("deployments")?, list("pods")?);
        let count = |list: &Value| list["items"].as_array().map_or(0, Vec::len);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let all = pods["items"].as_array().into_iter().flatten().filter(|pod| has_condition(pod, "Ready"));
        let ready: Vec<_> =
            all.filter_map(|pod| Some((text(&pod["spec"]["nodeName"])?, text(&pod["metadata"]["name"])?))).collect();
        ensure!(
            ready.len() == count(&deployments) && count(&pods) == ready.len() && !ready.is_empty(),
            "{} of {} pods are ready, for {} deployments",
            ready.len(),
            count(&pods),
            count(&deployments)
        );
        Ok(Some(ready))
    })
}

fn cluster_ip(cluster: &Release<'_>, service: &str) -> Result<String> {
    let object = cluster.kubectl().get(&["service", service, "-n", NAMESPACE])?;
    let ip = object["spec"]["clusterIP"].as_str();
    Ok(ip.with_context(|| format!("Service {service} of {} has no address", cluster.name()))?.to_owned())
}

/// How to ask a Service's first port: by the name that its authors gave it.
fn question(ip: &str, service: &Value) -> Result<Question> {
    let port = &service["spec"]["ports"][0];
    let number = port["port"].as_u64().with_context(|| format!("{} has no port", name_of(service)))?;
    let protocol = match port["name"].as_str().unwrap_or_default() {
        name if name.starts_with("grpc") => "grpc",
        name if name.starts_with("http") => "http",
        _ => "tcp",
    };
    Ok(format!("{protocol}://{ip}:{number}").parse()?)
}
