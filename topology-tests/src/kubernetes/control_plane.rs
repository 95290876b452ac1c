//! A cluster's control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, one of each. They live in the
//! namespace of the cluster's router, at the address by which its nodes reach anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_tools::Tools;

use super::certs::{MASTERS, Pki, Subject};
use super::component::Component;
use super::forward::Forward;
use super::kubectl::Kubectl;
use crate::cgroup;
use crate::names::LabName;
use crate::netns;
use crate::place::Place;
use crate::topology::ClusterPlan;

const API_PORT: u16 = 6443;
const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";
const READY: Duration = Duration::from_secs(90);

pub struct ControlPlane {
    pub etcd: Component,
    pub apiserver: Component,
    pub controllers: Component,
    pub scheduler: Component,
    pub pki: Pki,
    /// As an administrator, from the machine.
    pub kubectl: Kubectl,
    /// For programs of the machine.
    pub kubeconfig: std::path::PathBuf,
    /// Where nodes and pods reach it.
    pub url: String,
    _forward: Forward,
}

/// What all components need to be started.
struct Start<'a> {
    tools: &'a Tools,
    plan: &'a ClusterPlan,
    folder: &'a Path,
    logs: &'a Path,
    place: Place,
    pki: &'a Pki,
    url: String,
}

/// The address of a cluster's `n`th Service: the first is the API server's, the tenth DNS's.
pub fn service_ip(plan: &ClusterPlan, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(plan.service_cidr.network()) + n)
}

impl ControlPlane {
    /// Starts all and waits until the API server is ready and has made the first service account.
    pub fn start(tools: &Tools, lab: &LabName, plan: &ClusterPlan, place: &Place, logs: &Path) -> Result<Self> {
        let folder = lab.state_dir().join(&plan.name);
        let system = lab.system_cgroup().join(&plan.name);
        cgroup::create(&system)?;
        let api = SocketAddr::from((plan.gateway, API_PORT));
        let namespace = netns::path(&lab.netns(&plan.name));
        let place = Place { net: namespace.clone(), mnt: None, cgroup: Some(system), ..place.clone() };
        let addresses = [Ipv4Addr::LOCALHOST, plan.gateway, service_ip(plan, 1)];
        let pki = Pki::create(&folder.join("pki"), &addresses)?;
        let url = format!("https://{api}");
        let start = Start { tools, plan, folder: &folder, logs, place, pki: &pki, url: url.clone() };
        let etcd = start.etcd()?;
        let apiserver = start.apiserver()?;
        let forward = Forward::open(&namespace, api)?;
        let kubeconfig = folder.join("admin.kubeconfig");
        let outside = format!("https://{}", forward.address());
        pki.write_kubeconfig(&kubeconfig, &plan.name, &outside, &Subject::of_group("admin", MASTERS))?;
        let kubectl = Kubectl::new(&tools.program("kubectl")?, &kubeconfig);
        wait_ready(&apiserver, &kubectl)?;
        let controllers = start.controllers()?;
        let scheduler = start.scheduler()?;
        kubectl.wait_exists(&["serviceaccount", "default"], READY)?;
        Ok(Self { etcd, apiserver, controllers, scheduler, pki, kubectl, kubeconfig, url, _forward: forward })
    }
}

/// Waits until the API server says that it is ready.
pub fn wait_ready(apiserver: &Component, kubectl: &Kubectl) -> Result<()> {
    let is_ready = || kubectl.run(&["get", "--raw", "/readyz"]).is_ok_and(|said| said == "ok");
    apiserver.wait_ready("kube-apiserver to be ready", READY, is_ready)
}

impl Start<'_> {
    fn component(&self, name: &str, configure: impl Fn(&mut Command) + Send + Sync + 'static) -> Result<Component> {
        let (place, program) = (self.place.clone(), self.tools.program(name)?);
        Component::start(&format!("{}-{name}", self.plan.name), self.logs, move || {
            let mut command = place.command(&program);
            configure(&mut command);
            command
        })
    }

    fn etcd(&self) -> Result<Component> {
        let data = self.folder.join("etcd");
        self.component("etcd", move |command| {
            command.args(["--name", "one", "--log-level", "warn", "--data-dir"]).arg(&data);
            command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
            command.args(["--listen-peer-urls", ETCD_PEER, "--initial-advertise-peer-urls", ETCD_PEER]);
            // What a power cut would lose is lost with the run anyway.
            command.arg("--initial-cluster").arg(format!("one={ETCD_PEER}")).arg("--unsafe-no-fsync");
        })
    }

    fn apiserver(&self) -> Result<Component> {
        let file = |name: &str| self.pki.file(name).display().to_string();
        let ip = self.plan.gateway;
        let flags = [
            format!("--etcd-servers={ETCD}"),
            format!("--bind-address={ip}"),
            format!("--advertise-address={ip}"),
            format!("--secure-port={API_PORT}"),
            format!("--service-cluster-ip-range={}", self.plan.service_cidr),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--requestheader-client-ca-file={}", file("ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
            // No kube-proxy translates Services here: webhooks and aggregated APIs are called at their pods.
            "--enable-aggregator-routing=true".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
        ];
        self.component("kube-apiserver", move |command| {
            command.args(&flags);
        })
    }

    fn controllers(&self) -> Result<Component> {
        let config = self.user_config("system:kube-controller-manager", "controller-manager")?;
        let (accounts, ca, ca_key) = (self.pki.file("sa.key"), self.pki.file("ca.crt"), self.pki.file("ca.key"));
        let services = self.plan.service_cidr;
        self.component("kube-controller-manager", move |command| {
            connect(command, &config, 10257);
            command.arg("--service-account-private-key-file").arg(&accounts).arg("--root-ca-file").arg(&ca);
            command.arg("--cluster-signing-cert-file").arg(&ca).arg("--cluster-signing-key-file").arg(&ca_key);
            // Each node's range is in its object before its kubelet starts.
            command.args(["--use-service-account-credentials=true", "--allocate-node-cidrs=false"]);
            command.arg(format!("--service-cluster-ip-range={services}"));
        })
    }

    fn scheduler(&self) -> Result<Component> {
        let config = self.user_config("system:kube-scheduler", "scheduler")?;
        self.component("kube-scheduler", move |command| connect(command, &config, 10259))
    }

    fn user_config(&self, user: &str, file: &str) -> Result<String> {
        let path = self.folder.join(format!("{file}.kubeconfig"));
        self.pki.write_kubeconfig(&path, &self.plan.name, &self.url, &Subject::user(user))?;
        Ok(path.to_str().context("the state folder's name is not text")?.to_owned())
    }
}

/// How a component of the control plane reaches the API server, and who may ask it something.
fn connect(command: &mut Command, kubeconfig: &str, port: u16) {
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        command.arg(format!("--{flag}={kubeconfig}"));
    }
    command.args(["--bind-address=127.0.0.1", &format!("--secure-port={port}"), "--leader-elect=false"]);
}
