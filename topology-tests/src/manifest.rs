//! Reads real Kubernetes manifests: several documents a file, YAML or JSON. Keeps what the lab plays (Deployment, StatefulSet,
//! Service, Namespace, ServiceAccount) and names what it ignores. Starts nothing.

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use workload::{Container, NamedPort, PodTemplate, PortRef, Probe, Workload};

mod workload;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("document {document} of {origin} is not YAML: {message}")]
    Syntax { origin: String, document: usize, message: String },
    #[error("{kind} {name} of {origin} does not have the expected shape")]
    Shape { origin: String, kind: String, name: String, source: serde_json::Error },
}

/// What a folder of manifests asks for.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    pub workloads: Vec<Workload>,
    pub services: Vec<Value>,
    pub namespaces: Vec<Value>,
    pub service_accounts: Vec<Value>,
    /// Kind and name of what the lab does not play.
    pub ignored: Vec<String>,
}

impl Manifests {
    /// All `.yaml`, `.yml` and `.json` files of a folder, in the order of their names.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
            let path = entry.map_err(unreadable(folder))?.path();
            if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
                files.push(path);
            }
        }
        files.sort();
        let mut all = Self::default();
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(unreadable(&file))?;
            all.merge(Self::parse(&text, &file.display().to_string())?);
        }
        Ok(all)
    }

    /// The documents of one text.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let mut all = Self::default();
        for object in documents(text, origin)? {
            all.take(object, origin)?;
        }
        Ok(all)
    }

    pub fn merge(&mut self, other: Self) {
        self.workloads.extend(other.workloads);
        self.services.extend(other.services);
        self.namespaces.extend(other.namespaces);
        self.service_accounts.extend(other.service_accounts);
        self.ignored.extend(other.ignored);
    }

    /// Keeps the workloads and services for which `keep(name)` holds: to split one application over clusters.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.workloads.retain(|workload| keep(&workload.name));
        self.services.retain(|service| keep(name_of(service)));
    }

    /// Sets an annotation on a service. False when there is no such service.
    pub fn annotate_service(&mut self, name: &str, key: &str, value: &str) -> bool {
        let mut services = self.services.iter_mut().filter(|service| name_of(service) == name);
        services.next().is_some_and(|service| {
            service["metadata"]["annotations"][key] = value.into();
            true
        })
    }

    fn take(&mut self, mut object: Value, origin: &str) -> Result<(), Error> {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let name = name_of(&object).to_owned();
        let cluster_scoped = kind == "Namespace";
        if !cluster_scoped && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "default".into();
        }
        match kind.as_str() {
            "Deployment" | "StatefulSet" => {
                let workload = Workload::read(&object).map_err(|source| Error::Shape {
                    origin: origin.to_owned(),
                    kind,
                    name,
                    source,
                })?;
                self.workloads.push(workload);
            }
            "Service" => self.services.push(object),
            "Namespace" => self.namespaces.push(object),
            "ServiceAccount" => self.service_accounts.push(object),
            _ => self.ignored.push(format!("{kind} {name}")),
        }
        Ok(())
    }
}

/// The objects of one text, as they stand there.
pub fn documents(text: &str, origin: &str) -> Result<Vec<Value>, Error> {
    let read = |(index, document): (usize, String)| {
        serde_saphyr::from_str(&document).map_err(|error| Error::Syntax {
            origin: origin.to_owned(),
            document: index + 1,
            message: error.to_string(),
        })
    };
    let all: Result<Vec<Value>, Error> = split(text).enumerate().map(read).collect();
    Ok(all?.into_iter().filter(|object| !object.is_null()).collect())
}

/// `metadata.name` of an object.
pub fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// `metadata.namespace` of an object.
pub fn namespace_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or("default")
}

/// The documents of a stream: YAML 1.2, 9.1.4 ends one by a line that starts with three dashes.
fn split(text: &str) -> impl Iterator<Item = String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.into_iter().filter(|document| {
        let has_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        document.lines().any(has_content)
    })
}

#[cfg(test)]
mod tests;
