//! The two clusters as the cases see them: objects made and looked for, and a pod in each that asks.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::kubectl::{Kubectl, has_condition};
use topology_tests::kubernetes::release::Release;

use crate::hello::{self, NAME};

/// How long imports and conditions may take to be seen, as the suite has it.
pub(crate) const SEEN: Duration = Duration::from_secs(20);
/// And pods, slices and answers.
pub(crate) const SERVED: Duration = Duration::from_mins(1);
const REQUEST: &str = "request";

pub(crate) struct World<'a> {
    releases: [Release<'a>; 2],
}

/// One of the two clusters, and the namespace of a case in it.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    release: &'a Release<'a>,
    namespace: &'a str,
}

impl<'a> World<'a> {
    /// Starts the pods that ask.
    pub(crate) fn new(releases: [Release<'a>; 2]) -> Result<Self> {
        for release in &releases {
            release.kubectl().apply(&hello::asking(release.name()).to_string())?;
        }
        for release in &releases {
            wait_for("the pod that asks", SERVED, || {
                let pod = release.kubectl().get(&["pod", REQUEST, "-n", "default"])?;
                Ok(has_condition(&pod, "Ready").then_some(()))
            })?;
        }
        Ok(Self { releases })
    }

    pub(crate) fn sides<'s>(&'s self, namespace: &'s str) -> [Side<'s>; 2] {
        self.releases.each_ref().map(|release| Side { release, namespace })
    }

    /// Makes a case's namespace in both clusters.
    pub(crate) fn begin(&self, namespace: &str) -> Result<()> {
        for release in &self.releases {
            release.kubectl().run(&["create", "namespace", namespace])?;
        }
        Ok(())
    }

    /// And leaves it to its end: the next case has another.
    pub(crate) fn end(&self, namespace: &str) -> Result<()> {
        for release in &self.releases {
            release.kubectl().run(&["delete", "namespace", namespace, "--wait=false"])?;
        }
        Ok(())
    }
}

impl Side<'_> {
    pub(crate) fn cluster(&self) -> &str {
        self.release.name()
    }

    /// The domain name of `hello`, of the cluster set or of the cluster.
    pub(crate) fn domain(&self, zone: &str) -> String {
        format!("{NAME}.{}.svc.{zone}", self.namespace)
    }

    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        let mut object = object.clone();
        object["metadata"]["namespace"] = self.namespace.into();
        self.kubectl().apply(&object.to_string())
    }

    /// Makes the Service, with what differs.
    pub(crate) fn serve(&self, changes: &Value) -> Result<()> {
        self.apply(&hello::service(changes))
    }

    /// Makes its pods, and waits until they are ready.
    pub(crate) fn run(&self, kind: &str, replicas: u32) -> Result<()> {
        self.apply(&hello::workload(kind, self.cluster(), replicas))?;
        self.kubectl().rolled_out(self.namespace, &format!("{kind}/{NAME}").to_lowercase(), SERVED)
    }

    pub(crate) fn export(&self) -> Result<()> {
        self.export_with(&json!({}))
    }

    pub(crate) fn export_with(&self, spec: &Value) -> Result<()> {
        self.apply(&json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": { "name": NAME }, "spec": spec,
        }))
    }

    pub(crate) fn unexport(&self) -> Result<()> {
        self.kubectl().run(&["delete", "serviceexport", NAME, "-n", self.namespace]).map(drop)
    }

    /// Returns once the second in which the export was made is over.
    pub(crate) fn export_is_older(&self) -> Result<()> {
        let export = self.find("serviceexport", NAME)?.context("no export")?;
        let created: jiff::Timestamp = export["metadata"]["creationTimestamp"].as_str().context("no time")?.parse()?;
        let over = created.as_second() + 1;
        wait_for("the second to be over", SEEN, || Ok((jiff::Timestamp::now().as_second() >= over).then_some(())))
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        let args = ["get", kind, name, "-n", self.namespace, "--ignore-not-found", "-o", "json"];
        let text = self.kubectl().run(&args)?;
        if text.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&text)?)) }
    }

    pub(crate) fn import(&self) -> Result<Option<Value>> {
        self.find("serviceimports.v1beta1.multicluster.x-k8s.io", NAME)
    }

    /// The import, once it is as it should be.
    pub(crate) fn awaits_import(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(&format!("{}: {what}", self.cluster()), SEEN, || match self.import()? {
            Some(import) if is_it(&import) => Ok(Some(import)),
            Some(import) => bail!("{}", import["spec"]),
            None => bail!("there is no import"),
        })
    }

    pub(crate) fn awaits_no_import(&self) -> Result<()> {
        wait_for(&format!("{}: no import", self.cluster()), SEEN, || Ok(self.import()?.is_none().then_some(())))
    }

    /// That it stays so for a while.
    pub(crate) fn stays(&self, for_a: Duration, what: &str, is_it: impl Fn(Option<&Value>) -> bool) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < for_a {
            let import = self.import()?;
            ensure!(is_it(import.as_ref()), "{}: {what}: after {:?}: {import:?}", self.cluster(), begun.elapsed());
        }
        Ok(())
    }

    /// The condition of the export, once it has that status.
    pub(crate) fn awaits_condition(&self, kind: &str, status: &str) -> Result<Value> {
        wait_for(&format!("{}: {kind}={status} of the export", self.cluster()), SEEN, || {
            let export = self.find("serviceexports.v1beta1.multicluster.x-k8s.io", NAME)?.context("no export")?;
            let conditions = export["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is_it = |condition: &&Value| condition["type"] == kind && condition["status"] == status;
            match conditions.iter().find(is_it) {
                Some(condition) => Ok(Some(condition.clone())),
                None => bail!("{conditions:?}"),
            }
        })
    }

    /// Slices of the MCS API for `hello`.
    pub(crate) fn slices(&self) -> Result<Vec<Value>> {
        let label = format!("multicluster.kubernetes.io/service-name={NAME}");
        let list = self.kubectl().get(&["endpointslices", "-n", self.namespace, "-l", &label])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Names and addresses of the pods of `hello` that are ready.
    pub(crate) fn pods(&self) -> Result<Vec<(String, String)>> {
        let list = self.kubectl().get(&["pods", "-n", self.namespace, "-l", &format!("app={NAME}")])?;
        let ready = list["items"].as_array().into_iter().flatten().filter(|pod| has_condition(pod, "Ready"));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(ready.filter_map(|pod| Some((text(&pod["metadata"]["name"])?, text(&pod["status"]["podIP"])?))).collect())
    }

    /// What a script says in the pod that asks, whether it fails or not.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        let script = format!("{{ {script}; }} 2>&1; true");
        self.kubectl().run(&["exec", "-n", "default", REQUEST, "--", "sh", "-c", &script])
    }

    fn kubectl(&self) -> &Kubectl {
        self.release.kubectl()
    }
}
