//! The rights that the chart gives mesh-apiserver are those that it uses, and no others: the real server runs with the chart's
//! settings, account and roles on a real kube-apiserver, whose audit log says what it asked.
//!
//! Whoever gives the server another right lets [`use_all_rights`] show what it is for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::Method;
use serde_json::{Value, json};
use topology_tests::binaries::Binaries;
use topology_tests::proc::{Proc, output};

use crate::api::Connection;
use crate::dry_run::{Kubernetes, NAMESPACE, SOON, create, create_if_absent};
use crate::helm::Helm;

mod compare;

use compare::{Asked, Grant, differences};

const USER: &str = "system:serviceaccount:isthmus:isthmus-mesh-apiserver";
const ACCOUNT: &str = "/api/v1/namespaces/isthmus/serviceaccounts/isthmus-mesh-apiserver/token";
const SECRET: &str = "/api/v1/namespaces/isthmus/secrets/isthmus-ca";
const TRUST: &str = "/api/v1/namespaces/isthmus/configmaps/isthmus-trust";
const PEERING: &str = "/apis/mesh.isthmus.io/v1alpha1/clusterpeerings/west";
const CONFIG: &str = "/apis/mesh.isthmus.io/v1alpha1/meshconfigs/default";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_uses_every_right_that_the_chart_gives_it_and_needs_no_other() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let Some(kubernetes) = Kubernetes::start_with_audit("rights", USER).await? else { return Ok(()) };
    let mut connection = kubernetes.api().connect().await?;
    let rendered = helm.objects("default")?;
    for object in &rendered {
        let is_of_rights = object["apiVersion"] == "rbac.authorization.k8s.io/v1" || object["kind"] == "ServiceAccount";
        if is_of_rights || object["kind"] == "CustomResourceDefinition" {
            create_if_absent(&mut connection, object).await?;
        }
    }
    create(&mut connection, &service_exports(), "").await?;
    let server = Settings::of(&rendered, &kubernetes, &mut connection).await?;
    use_all_rights(&server, &mut connection).await?;

    let granted = Grant::of(&rendered)?;
    let asked = Asked::read(&kubernetes.audit_log(), USER)?;
    println!("{} rights given, {} different questions asked", granted.len(), asked.len());
    let different = differences(&granted, &asked);
    ensure!(different.is_empty(), "{}", different.join("\n"));
    ensure!(granted.len() > 20 && asked.len() > 20, "{granted:?}\n{asked:?}");
    Ok(())
}

/// Each right for what it is there. Everything that is asked is waited for by what it leads to.
async fn use_all_rights(settings: &Settings, connection: &mut Connection) -> Result<()> {
    // What is made, followed and told from nothing.
    let first = settings.start("first")?;
    first.ready().await?;
    until(connection, "the trust of agents", TRUST, |map| !map["data"]["ca.crt"].is_null()).await?;
    let other = json!({ "data": { "ca.crt": "of somebody else" } });
    patch(connection, TRUST, &other).await?;
    until(connection, "the trust of agents again", TRUST, |map| map["data"]["ca.crt"] != "of somebody else").await?;
    first.ask_as_a_user(connection).await?;
    let spec = json!({ "token": { "secretRef": { "name": "absent", "key": "token" } } });
    create(connection, &object("ClusterPeering", "west", &spec), "").await?;
    until(connection, "the peering's trouble", PEERING, |peering| {
        peering["status"]["conditions"].to_string().contains("SecretMissing")
    })
    .await?;
    create(connection, &object("MeshConfig", "default", &json!({ "staleAfter": "20s" })), "").await?;
    until(connection, "the settings", CONFIG, |config| config["status"]["staleAfter"] == "20s").await?;
    drop(first);
    // A Secret that is there and empty is filled.
    patch(connection, SECRET, &json!({ "data": { "ca.crt": "", "ca.key": "" } })).await?;
    let second = settings.start("second")?;
    second.ready().await?;
    until(connection, "the CA", SECRET, |secret| secret["data"]["ca.key"].as_str().is_some_and(|key| !key.is_empty()))
        .await
}

/// As the chart starts it, but for where its state, its ports and the API server are.
struct Settings {
    environment: Vec<(String, String)>,
    folder: PathBuf,
    kubeconfig: PathBuf,
}

struct Server {
    proc: Proc,
    folder: PathBuf,
    metrics: String,
}

impl Settings {
    async fn of(rendered: &[Value], kubernetes: &Kubernetes, connection: &mut Connection) -> Result<Self> {
        let set =
            rendered.iter().find(|object| object["kind"] == "StatefulSet").context("the chart has a StatefulSet")?;
        let variables = &set["spec"]["template"]["spec"]["containers"][0]["env"];
        let mut environment = Vec::new();
        for variable in variables.as_array().context("it has variables")? {
            let name = variable["name"].as_str().context("a variable has a name")?;
            // What a kubelet fills in is the node's address.
            let value = variable["value"].as_str().unwrap_or("127.0.0.1");
            environment.push((name.to_owned(), value.to_owned()));
        }
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let answer = connection.call(Method::POST, ACCOUNT, Some(&request)).await?;
        let token = answer.body["status"]["token"].as_str().with_context(|| answer.message())?;
        let folder = kubernetes.folder.path().to_owned();
        let (kubeconfig, token_file) = (folder.join("mesh.kubeconfig"), folder.join("mesh.token"));
        std::fs::write(&token_file, token).context("write the token")?;
        let config = json!({
            "kind": "Config", "apiVersion": "v1", "current-context": "mesh",
            "contexts": [{ "name": "mesh", "context": { "cluster": "here", "user": "mesh" } }],
            "clusters": [{ "name": "here", "cluster": {
                "server": format!("https://{}", kubernetes.api().address), "certificate-authority": folder.join("ca.crt"),
            }}],
            "users": [{ "name": "mesh", "user": { "tokenFile": token_file } }],
        });
        std::fs::write(&kubeconfig, config.to_string()).context("write the kubeconfig")?;
        Ok(Self { environment, folder, kubeconfig })
    }

    fn start(&self, name: &str) -> Result<Server> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let [etcd, mesh, metrics] = etcd_peer::free_ports()?.map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(Binaries::beside_this_one()?.find("mesh-apiserver")?);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["--listen-etcd", &etcd, "--listen-mesh", &mesh, "--listen-metrics", &metrics]);
        command.arg("--state-dir").arg(folder.join("state")).arg("--admin-socket").arg(folder.join("admin.sock"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        std::fs::write(folder.join("mesh"), &mesh).context("note the port")?;
        let proc = Proc::start(&format!("mesh-apiserver {name}"), command, &folder.join("log"))?;
        Ok(Server { proc, folder, metrics })
    }
}

impl Server {
    async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while !is_ready(&self.metrics).await {
            let late = !self.proc.is_alive() || Instant::now() > deadline;
            ensure!(!late, "mesh-apiserver is not ready; its log ends with:\n{}", self.proc.log_tail(8));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Somebody with a token of this Kubernetes, who may do what they ask for.
    async fn ask_as_a_user(&self, connection: &mut Connection) -> Result<()> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default/token");
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let answer = connection.call(Method::POST, &path, Some(&request)).await?;
        let token = answer.body["status"]["token"].as_str().with_context(|| answer.message())?;
        let address = std::fs::read_to_string(self.folder.join("mesh")).context("the port")?;
        let ca = std::fs::read_to_string(self.folder.join("state/ca.crt")).context("the mesh's CA")?;
        let trust = certs::Trust::Bundle(certs::TrustBundle::from_pem(&ca)?);
        let tls = certs::ClientTls::new(&trust, None, "localhost")?;
        let channel = certs::channel(&[address], &tls, &certs::ChannelOptions::default());
        let mut admin = mesh_proto::v1::admin_client::AdminClient::new(channel);
        let mut request = tonic::Request::new(mesh_proto::v1::GetVersionRequest {});
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        match admin.get_version(request).await {
            Err(status) if status.code() == tonic::Code::PermissionDenied => Ok(()),
            other => bail!("an account without rights: {other:?}"),
        }
    }
}

async fn is_ready(address: &str) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-fsS", "--max-time", "2", &format!("http://{address}/readyz")]);
    tokio::task::spawn_blocking(move || output("curl", curl)).await.is_ok_and(|said| said.is_ok())
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "mesh.isthmus.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// As a cluster has it whose people use the MCS API.
fn service_exports() -> Value {
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let names = json!({ "plural": "serviceexports", "singular": "serviceexport", "kind": "ServiceExport", "listKind": "ServiceExportList" });
    let versions = json!([{ "name": "v1beta1", "served": true, "storage": true, "schema": schema }]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "serviceexports.multicluster.x-k8s.io" },
        "spec": { "group": "multicluster.x-k8s.io", "scope": "Namespaced", "names": names, "versions": versions },
    })
}

async fn patch(connection: &mut Connection, path: &str, change: &Value) -> Result<()> {
    // A merge by hand: what was read with the change in it.
    let mut found = connection.get(path).await?.body;
    for (field, value) in change["data"].as_object().into_iter().flatten() {
        found["data"][field] = value.clone();
    }
    let answer = connection.call(Method::PUT, path, Some(&found)).await?;
    ensure!(answer.is_success(), "{path}: {}", answer.message());
    Ok(())
}

async fn until(connection: &mut Connection, what: &str, path: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = connection.get(path).await?;
        if answer.is_success() && is_so(&answer.body) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no {what} within {SOON:?}: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Which objects of an account's rights are looked at: those bound to it, by name.
fn is_bound(binding: &Value) -> bool {
    let subjects = binding["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
    subjects.iter().any(|subject| subject["name"] == "isthmus-mesh-apiserver" && subject["namespace"] == NAMESPACE)
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    // The last line may be on its way.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
