//! The programs know every setting that the chart gives them, and take the values that it gives.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use topology_tests::binaries::Binaries;

use crate::helm::{Helm, SETS, label};

/// Kind of the workload, name of its container, program in it.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("StatefulSet", "mesh-apiserver", "mesh-apiserver"),
    ("DaemonSet", "node-agent", "node-agent"),
    ("DaemonSet", "mesh-tunnel", "mesh-tunnel"),
];

#[test]
fn every_environment_variable_is_one_of_the_program() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let binaries = Binaries::beside_this_one()?;
    let mut checked = 0;
    for set in SETS {
        let objects = helm.objects(set)?;
        for (kind, name, program) in PROGRAMS {
            let Some(container) = container(&objects, kind, name) else { continue };
            let help = Command::new(binaries.find(program)?).arg("--help").output().context("ask for help")?;
            let help = String::from_utf8_lossy(&help.stdout).into_owned();
            for variable in container["env"].as_array().into_iter().flatten() {
                let variable = variable["name"].as_str().context("a variable has a name")?;
                // Read by meshctl, which is in the same image.
                if variable != "MESHCTL_CONFIG" {
                    ensure!(help.contains(&format!("[env: {variable}=")), "{set}: {program} knows no {variable}");
                    checked += 1;
                }
            }
        }
    }
    ensure!(checked > 80, "only {checked} variables were looked at");
    Ok(())
}

/// Started on what is no cluster, each ends with one complaint that is not about its settings, or none.
#[test]
fn the_programs_arguments_are_understood() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let agent = Binaries::beside_this_one()?.find("node-agent")?;
    for object in helm.objects("default")? {
        for container in containers(&object).filter(|container| container["args"].is_array()) {
            let args = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
            // Parsing comes before everything: with --help behind them wrong ones are still refused.
            let said = Command::new(&agent).args(args).arg("--help").output().context("run node-agent")?;
            let text = String::from_utf8_lossy(&said.stderr);
            ensure!(said.status.success(), "{}: {text}", label(&object));
        }
    }
    Ok(())
}

fn containers(object: &Value) -> impl Iterator<Item = &Value> {
    object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten()
}

fn container<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.flat_map(containers).find(|container| container["name"] == name)
}
