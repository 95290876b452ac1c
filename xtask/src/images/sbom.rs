//! The bill of materials of an image: CycloneDX 1.5 as JSON (cyclonedx.org/docs/1.5/json).
//!
//! Tells what is linked, from the lock file; no time and no random serial number, so that it is the same for the same image.

use anyhow::Result;
use serde_json::{Value, json};

use super::contents::Image;
use super::graph::{Graph, Package, Toolchain};

pub(super) fn write(graph: &Graph, image: &Image, reference: &str) -> Result<String> {
    let packages = graph.linked(image.packages())?;
    let components: Vec<Value> = packages
        .iter()
        .map(|package| component(graph, package))
        .chain(graph.toolchain.iter().map(of_toolchain))
        .collect();
    let is_linked = |id: &&String| packages.iter().any(|package| package.id == **id);
    let purl = |id: &String| packages.iter().find(|package| package.id == *id).map(|package| package.purl());
    let mut dependencies: Vec<Value> = packages
        .iter()
        .map(|package| {
            let uses: Vec<String> = graph.uses(package).iter().filter(is_linked).filter_map(purl).collect();
            json!({ "ref": package.purl(), "dependsOn": uses })
        })
        .collect();
    let roots = packages.iter().filter(|package| image.packages().any(|root| root == package.name));
    let roots: Vec<String> = roots.map(|package| package.purl()).collect();
    dependencies.insert(0, json!({ "ref": reference, "dependsOn": roots }));
    let version = reference.rsplit(':').next();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container", "bom-ref": reference, "name": image.name, "version": version,
                "description": image.title,
            },
            "tools": { "components": [{ "type": "application", "name": "isthmus xtask images", "version": env!("CARGO_PKG_VERSION") }] },
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(serde_json::to_string_pretty(&document)?)
}

fn component(graph: &Graph, package: &Package) -> Value {
    let is_own = package.source.is_none();
    let mut component = json!({
        "type": if is_own { "application" } else { "library" },
        "bom-ref": package.purl(),
        "name": package.name,
        "version": package.version,
        "purl": package.purl(),
    });
    if let Some(license) = &package.license {
        // The old way to write OR, which is no SPDX expression.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(hash) = graph.hash(package) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": hash }]);
    }
    component
}

fn of_toolchain(part: &Toolchain) -> Value {
    let purl = format!("pkg:generic/{}@{}", part.name, part.version);
    json!({
        "type": "library",
        "bom-ref": purl,
        "name": part.name,
        "version": part.version,
        "purl": purl,
        "licenses": [{ "expression": part.license }],
    })
}

#[cfg(test)]
mod tests {
    use super::super::contents::Program;
    use super::super::graph::tests::example;
    use super::*;

    const OWN: Image = Image {
        name: "own",
        title: "An image",
        programs: &[Program { package: "own", name: "own" }],
        user: 0,
        ports: &[],
    };

    #[test]
    fn every_reference_is_to_a_component_and_every_component_has_a_licence() {
        let text = write(&example(), &OWN, "r/own:1").unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let components = document["components"].as_array().unwrap();
        let known: Vec<&Value> = components.iter().map(|c| &c["bom-ref"]).collect();
        assert_eq!(known, ["pkg:cargo/a@1.0.0", "pkg:cargo/own@1.0.0", "pkg:generic/glibc@2.36"]);
        assert!(components.iter().all(|c| c["licenses"][0]["expression"].is_string()));
        assert_eq!(components[0]["hashes"][0]["content"], "ab12");
        assert_eq!(document["dependencies"][0]["dependsOn"][0], "pkg:cargo/own@1.0.0");
        for dependency in document["dependencies"].as_array().unwrap() {
            for to in dependency["dependsOn"].as_array().unwrap() {
                assert!(known.contains(&to), "{to} is no component");
            }
        }
    }

    #[test]
    fn it_is_the_same_every_time() {
        assert_eq!(write(&example(), &OWN, "r/own:1").unwrap(), write(&example(), &OWN, "r/own:1").unwrap());
    }
}
