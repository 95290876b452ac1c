//! A real kube-apiserver takes every object of the chart, every pod that they would make, and shows the cleanup's Job what it
//! asks for, with the rights that the chart gives it and no others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use etcd_peer::{Cluster, EtcdPeer, KubeApiserver, Options};
use hyper::Method;
use serde_json::{Value, json};
use topology_tests::binaries::Binaries;

use crate::api::{Api, Connection};
use crate::apiserver::Apiserver;
use crate::helm::{Helm, SETS, label, workspace};

pub(crate) const NAMESPACE: &str = "isthmus";
/// Of the Prometheus operator: no kind of Kubernetes itself.
const FOREIGN: &str = "monitoring.coreos.com/v1";
/// As clusters with a CNI have it: one set of values asks for it.
const PRIVILEGED: &[&str] = &["--allow-privileged=true"];
const AUDIT_LOG: &str = "audit.log";
/// Checked as a real one, unknown fields refused, and not kept.
const DRY_RUN: &str = "?dryRun=All&fieldValidation=Strict";
/// Two cores that do other things, too.
pub(crate) const SOON: Duration = Duration::from_mins(1);

pub(crate) struct Kubernetes {
    server: Apiserver,
    _etcd: Cluster,
    pub(crate) folder: tempfile::TempDir,
}

impl Kubernetes {
    /// Prints why a test is skipped, where there is no kube-apiserver.
    async fn start(name: &str) -> Result<Option<Self>> {
        Self::start_in(name, tempfile::tempdir().context("a folder for kube-apiserver")?, &[]).await
    }

    /// The same, and it writes down what a user asks.
    pub(crate) async fn start_with_audit(name: &str, user: &str) -> Result<Option<Self>> {
        let folder = tempfile::tempdir().context("a folder for kube-apiserver")?;
        let stages = json!(["RequestReceived"]);
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
            "rules": [{ "level": "Metadata", "users": [user], "omitStages": stages }, { "level": "None" }],
        });
        let file = folder.path().join("audit-policy.json");
        std::fs::write(&file, policy.to_string()).context("write the policy")?;
        let flags = [
            format!("--audit-policy-file={}", file.display()),
            format!("--audit-log-path={}", folder.path().join(AUDIT_LOG).display()),
            "--audit-log-mode=blocking".to_owned(),
        ];
        Self::start_in(name, folder, &flags.each_ref().map(String::as_str)).await
    }

    async fn start_in(name: &str, folder: tempfile::TempDir, more: &[&str]) -> Result<Option<Self>> {
        let Some(kube) = KubeApiserver::find(workspace())? else {
            println!("skipped: no kube-apiserver here; `cargo xtask kube-apiserver` builds one in about 15 minutes");
            return Ok(None);
        };
        let etcd = Cluster::start(&EtcdPeer::obtain(workspace())?, &Options::default())?;
        let logs = workspace().join("target/test-logs/chart");
        std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let store = [format!("--etcd-servers={}", etcd.endpoints().join(","))];
        let log = logs.join(format!("kube-apiserver-{name}.log"));
        let server = Apiserver::start(&kube, folder.path(), &log, &store, &[PRIVILEGED, more].concat()).await?;
        let started = Self { server, _etcd: etcd, folder };
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        // What a controller-manager would make in it.
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": NAMESPACE },
        });
        let mut connection = started.api().connect().await?;
        create(&mut connection, &namespace, "").await?;
        create(&mut connection, &account, "").await?;
        println!("{name}: {}", kube.version);
        Ok(Some(started))
    }

    pub(crate) fn api(&self) -> &Api {
        &self.server.api
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.path().join(AUDIT_LOG)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_takes_every_object_and_every_pod_of_the_chart() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let Some(kubernetes) = Kubernetes::start("dry-run").await? else { return Ok(()) };
    let mut connection = kubernetes.api().connect().await?;
    wait_for_priorities(&mut connection).await?;
    let (mut objects, mut pods) = (0, 0);
    let mut own = Vec::new();
    for set in SETS {
        for object in helm.objects(set)? {
            if object["apiVersion"] == FOREIGN {
                // Seen to be what it is, and never a misspelt kind of Kubernetes.
                let kind = object["kind"].as_str().unwrap_or_default();
                let is_known = ["ServiceMonitor", "PodMonitor"].contains(&kind);
                ensure!(is_known, "{set}: {} is no kind of {FOREIGN}", label(&object));
                continue;
            }
            let taken = create(&mut connection, &object, DRY_RUN).await;
            taken.with_context(|| set.to_owned())?;
            objects += 1;
            own.push((set, object));
        }
    }
    // Pods are admitted with their accounts, which a dry run has not left behind.
    for (_, account) in own.iter().filter(|(_, object)| object["kind"] == "ServiceAccount") {
        create_if_absent(&mut connection, account).await?;
    }
    for (set, object) in own.iter().filter(|(_, object)| object["spec"]["template"].is_object()) {
        let template = &object["spec"]["template"];
        let mut metadata = template["metadata"].clone();
        metadata["name"] = "pod-of-a-template".into();
        metadata["namespace"] = NAMESPACE.into();
        let spec = with_claims(object, &template["spec"]);
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        let taken = create(&mut connection, &pod, DRY_RUN).await;
        taken.with_context(|| format!("{set}: a pod of {}", label(object)))?;
        pods += 1;
    }
    println!("{objects} objects and {pods} pods of {} sets of values were taken", SETS.len());
    ensure!(objects > 50 && pods > 10, "{objects} objects and {pods} pods");
    Ok(())
}

/// With the chart's own account, Role and RoleBinding, and a token of that account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cleanups_job_ends_when_all_nodes_are_clean_and_names_those_that_are_not() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let Some(kubernetes) = Kubernetes::start("cleanup").await? else { return Ok(()) };
    let mut connection = kubernetes.api().connect().await?;
    let rendered = helm.objects("default")?;
    let named = |object: &&Value| object["metadata"]["name"] == "isthmus-cleanup" && object["kind"] != "Job";
    for object in rendered.iter().filter(named) {
        create(&mut connection, object, "").await?;
    }
    let job = rendered.iter().find(|object| object["kind"] == "Job").context("the chart has a Job")?;
    let args = job["spec"]["template"]["spec"]["containers"][0]["args"].as_array().context("it has arguments")?;
    let args: Vec<String> = args.iter().filter_map(Value::as_str).map(str::to_owned).collect();

    let account = kubernetes.folder.path().join("account");
    std::fs::create_dir(&account).context("a folder for the account")?;
    std::fs::copy(kubernetes.folder.path().join("ca.crt"), account.join("ca.crt")).context("copy the CA")?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/isthmus-cleanup/token");
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let answer = connection.call(Method::POST, &path, Some(&request)).await?;
    let token = answer.body["status"]["token"].as_str().with_context(|| answer.message())?;
    std::fs::write(account.join("token"), token).context("write the token")?;

    // Nobody says how far it is, then two of three nodes are clean: both are too few.
    let late = await_cleanup(kubernetes.api(), &account, &args, "1")?;
    ensure!(!late.0 && late.1.contains("nodes without a pod of it"), "{}", late.1);
    for (node, ready) in [("n1", "True"), ("n2", "False"), ("n3", "True")] {
        create_pod(&mut connection, node, ready).await?;
    }
    set_status(&mut connection, 2, 3).await?;
    let late = await_cleanup(kubernetes.api(), &account, &args, "1")?;
    ensure!(!late.0 && late.1.contains("not known to be clean: n2."), "{}", late.1);
    set_status(&mut connection, 3, 3).await?;
    let done = await_cleanup(kubernetes.api(), &account, &args, "30")?;
    ensure!(done.0, "{}", done.1);

    // A token that nobody knows is said to be refused, and is not in what is said.
    std::fs::write(account.join("token"), "of-a-stranger").context("write the token")?;
    let refused = await_cleanup(kubernetes.api(), &account, &args, "1")?;
    ensure!(!refused.0 && refused.1.contains("401 Unauthorized"), "{}", refused.1);
    ensure!(!refused.1.contains("of-a-stranger"), "the token is told: {}", refused.1);
    Ok(())
}

/// Whether it succeeded, and what it said.
fn await_cleanup(api: &Api, account: &Path, args: &[String], wait: &str) -> Result<(bool, String)> {
    let program = Binaries::beside_this_one()?.find("node-agent")?;
    let address = api.address;
    let args = args.iter().filter(|arg| !arg.starts_with("--wait"));
    let output = Command::new(program)
        .args(args)
        .args(["--wait", wait, "--service-account"])
        .arg(account)
        .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", address.port().to_string())
        .output()
        .context("run node-agent")?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

async fn set_status(connection: &mut Connection, ready: u32, nodes: u32) -> Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/isthmus-cleanup");
    let mut object = connection.get(&path).await?.body;
    object["status"] = json!({
        "currentNumberScheduled": nodes, "numberMisscheduled": 0, "desiredNumberScheduled": nodes,
        "numberReady": ready, "observedGeneration": object["metadata"]["generation"],
    });
    let answer = connection.call(Method::PUT, &format!("{path}/status"), Some(&object)).await?;
    ensure!(answer.is_success(), "{}", answer.message());
    Ok(())
}

/// As the DaemonSet's controller and a kubelet would leave it.
async fn create_pod(connection: &mut Connection, node: &str, ready: &str) -> Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/isthmus-cleanup");
    let uid = connection.get(&path).await?.body["metadata"]["uid"].clone();
    let owner = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "isthmus-cleanup", "uid": uid });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("cleanup-{node}"), "namespace": NAMESPACE, "ownerReferences": [owner] },
        "spec": { "nodeName": node, "serviceAccountName": "isthmus-cleanup", "containers": [{ "name": "c", "image": "x" }] },
    });
    create(connection, &pod, "").await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/cleanup-{node}");
    let mut pod = connection.get(&path).await?.body;
    pod["status"]["conditions"] = json!([{ "type": "Ready", "status": ready }]);
    let answer = connection.call(Method::PUT, &format!("{path}/status"), Some(&pod)).await?;
    ensure!(answer.is_success(), "{}", answer.message());
    Ok(())
}

/// The volumes that a StatefulSet's controller adds.
fn with_claims(object: &Value, spec: &Value) -> Value {
    let mut spec = spec.clone();
    for claim in object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
        let name = &claim["metadata"]["name"];
        let volume = json!({ "name": name, "persistentVolumeClaim": { "claimName": name } });
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.push(volume);
        }
    }
    spec
}

pub(crate) async fn create(connection: &mut Connection, object: &Value, query: &str) -> Result<()> {
    let answer = connection.call(Method::POST, &format!("{}{query}", path(object)?), Some(object)).await?;
    ensure!(answer.is_success(), "{}: {} {}", label(object), answer.status, answer.message());
    Ok(())
}

pub(crate) async fn create_if_absent(connection: &mut Connection, object: &Value) -> Result<()> {
    let answer = connection.call(Method::POST, &path(object)?, Some(object)).await?;
    ensure!(answer.is_success() || answer.reason() == "AlreadyExists", "{}: {}", label(object), answer.message());
    Ok(())
}

/// Where objects of this kind are made.
fn path(object: &Value) -> Result<String> {
    let (version, kind) =
        (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
    let base = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = match kind {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        "" => bail!("an object without a kind: {object}"),
        kind => format!("{}s", kind.to_ascii_lowercase()),
    };
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{base}/namespaces/{namespace}/{plural}"),
        None => format!("{base}/{plural}"),
    })
}

/// kube-apiserver makes the classes that the chart names a moment after it is ready.
async fn wait_for_priorities(connection: &mut Connection) -> Result<()> {
    let deadline = std::time::Instant::now() + SOON;
    for class in ["system-node-critical", "system-cluster-critical"] {
        let path = format!("/apis/scheduling.k8s.io/v1/priorityclasses/{class}");
        while !connection.get(&path).await?.is_success() {
            ensure!(std::time::Instant::now() < deadline, "no priority class {class} within {SOON:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
