//! What of an install's values a check before it needs: the image that looks into nodes, where they have their cgroups, and
//! whether there is to be a tunnel in a process. Reads the files that `meshctl install -f` is given; judges nothing.

use std::path::PathBuf;

use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::verb::release;

const AGENT: &str = "node-agent";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) image: Option<String>,
    pub(super) cgroup: Option<String>,
    pub(super) has_userspace_tunnel: bool,
}

/// Of all files, the later over the earlier.
pub(super) fn read(files: &[PathBuf]) -> Result<Planned, Failure> {
    let mut all = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| Failure::new(Exit::Usage, &name, &error))?;
        let values: Value = serde_saphyr::from_str(&text)
            .map_err(|_shows_lines| Failure::said(Exit::Usage, &name, "it is no YAML with values of the chart"))?;
        all.push(values);
    }
    Ok(planned(&all))
}

fn planned(all: &[Value]) -> Planned {
    let last = |path: &str| all.iter().rev().find_map(|values| values.pointer(path));
    let text = |path: &str| last(path).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (registry, tag) = (text("/image/registry"), text("/image/tag"));
    let (name, digest) = (text("/agent/image/name"), text("/agent/image/digest"));
    let is_named = registry.or(tag).or(name).or(digest).is_some();
    let image = || {
        let from = format!("{}/{}", registry.unwrap_or(release::REGISTRY), name.unwrap_or(AGENT));
        match digest {
            Some(digest) => format!("{from}@{digest}"),
            None => format!("{from}:{}", tag.unwrap_or(env!("CARGO_PKG_VERSION"))),
        }
    };
    Planned {
        image: is_named.then(image),
        cgroup: text("/agent/hostPaths/cgroup").map(str::to_owned),
        has_userspace_tunnel: last("/tunnel/enabled").and_then(Value::as_bool).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_image_is_the_one_that_the_chart_would_run() {
        let image = |values: &[Value]| planned(values).image;
        assert_eq!(image(&[json!({ "cluster": { "id": 1 } })]), None);
        let ours = json!({ "image": { "registry": "r.example/i", "tag": "2" } });
        assert_eq!(image(std::slice::from_ref(&ours)).unwrap(), "r.example/i/node-agent:2");
        let later = json!({ "image": { "tag": "3" }, "agent": { "image": { "digest": "sha256:a" } } });
        assert_eq!(image(&[ours.clone(), later]).unwrap(), "r.example/i/node-agent@sha256:a");
        assert_eq!(
            image(&[json!({ "image": { "tag": "3" } })]).unwrap(),
            format!("{}/node-agent:3", release::REGISTRY)
        );
    }

    #[test]
    fn files_are_read_as_helm_reads_them_and_a_bad_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
        std::fs::write(&good, "# mine\nagent: {hostPaths: {cgroup: /c}}\ntunnel:\n  enabled: true\n").unwrap();
        std::fs::write(&bad, "a: [").unwrap();
        let found = read(std::slice::from_ref(&good)).unwrap();
        assert_eq!(found, Planned { image: None, cgroup: Some("/c".to_owned()), has_userspace_tunnel: true });
        assert!(read(&[good, bad.clone()]).unwrap_err().to_string().contains(&bad.display().to_string()));
        assert_eq!(read(&[]).unwrap(), Planned::default());
    }
}
