//! The rights for the MCS API are those that docs/kubernetes/mcs-rbac.yaml names, with which mesh-apiserver's own tests run it, and
//! are given to nobody who has not asked for them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::helm::{Helm, chart};

const ROLE: &str = "isthmus-isthmus-mesh-apiserver-mcs";

#[test]
fn rights_to_write_are_the_documented_ones_and_come_with_the_value_alone() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let path = chart().join("../../docs/kubernetes/mcs-rbac.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let documented: Value = serde_saphyr::from_str(&text).context("the documented role is no YAML")?;
    let of = |set| Ok::<_, anyhow::Error>(helm.objects(set)?.into_iter().filter(is_of_mcs).collect::<Vec<_>>());
    let given = of("everything")?;
    ensure!(given.len() == 2, "a role and its binding: {given:?}");
    let role = given.iter().find(|object| object["kind"] == "ClusterRole").context("no role")?;
    ensure!(role["rules"] == documented["rules"], "{} and {}", role["rules"], documented["rules"]);
    ensure!(of("default")?.is_empty(), "rights that nobody asked for");
    Ok(())
}

fn is_of_mcs(object: &Value) -> bool {
    object["metadata"]["name"] == ROLE
}
