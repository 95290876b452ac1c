//! Objects of the MCS API and of what is derived from them: applied and deleted, nothing more. What they say is decided in
//! [`crate::mcs`].
//!
//! Writes are server-side applies: fields of others stay theirs. Whoever may not write is told which role to bind.

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Request;
use mesh_types::ServiceName;
use serde_json::Value;

use super::client::{Client, Error};

/// Under which name the fields that this server sets are its own.
const MANAGER: &str = "isthmus-mcs";

/// A kind of object that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Import,
    ImportStatus,
    Service,
    Slice,
    ExportStatus,
}

/// Why an object is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Client(Error),
    #[error(
        "may not {verb} {what}: {message}. Bind the ClusterRole of docs/kubernetes/mcs-rbac.yaml to this server's account"
    )]
    Forbidden { verb: &'static str, what: String, message: String },
    #[error(
        "cannot {verb} {what}: the API server has no such resource: install the CRDs of the MCS API in v1beta1 (docs/mcs.md)"
    )]
    NoCrd { verb: &'static str, what: String },
    #[error(
        "cannot {verb} {what}: another controller owns it ({message}): let one alone serve the MCS API in this cluster, and \
         clear its status"
    )]
    Owned { verb: &'static str, what: String, message: String },
    #[error("{0} is there and was not made by this server: it is left alone. Delete it, so that it can be made")]
    Taken(String),
}

impl WriteError {
    /// Trying the same again may help without anybody's doing, and every other write would fail alike.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_passing())
    }
}

impl Target {
    fn kind(self) -> &'static str {
        match self {
            Self::Import | Self::ImportStatus => "ServiceImport",
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::ExportStatus => "ServiceExport",
        }
    }

    fn subresource(self) -> Option<&'static str> {
        matches!(self, Self::ImportStatus | Self::ExportStatus).then_some("status")
    }

    fn path(self, namespace: &str) -> String {
        let (group, plural) = match self {
            Self::Import | Self::ImportStatus => ("apis/multicluster.x-k8s.io/v1beta1", "serviceimports"),
            Self::ExportStatus => ("apis/multicluster.x-k8s.io/v1beta1", "serviceexports"),
            Self::Service => ("api/v1", "services"),
            Self::Slice => ("apis/discovery.k8s.io/v1", "endpointslices"),
        };
        format!("/{group}/namespaces/{namespace}/{plural}")
    }

    /// As errors name it.
    pub fn what(self, name: &ServiceName) -> String {
        let of = if self.subresource().is_some() { "the status of " } else { "" };
        format!("{of}{} {name}", self.kind())
    }
}

/// Writes them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct McsObjects {
    client: Client,
}

impl McsObjects {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes the object what it should be and returns it. `None`: it is gone, so that it has no status.
    pub async fn apply(&self, target: Target, name: &ServiceName, object: &Value) -> Result<Option<Value>, WriteError> {
        // What this server made is its own, whoever else changed it. Of exports it owns only what it said of them.
        let force = target != Target::ExportStatus;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), force, ..PatchParams::default() };
        let request = Request::new(target.path(&name.namespace));
        let patch = Patch::Apply(object);
        let request = match target.subresource() {
            Some(status) => request.patch_subresource(status, &name.name, &params, &patch),
            None => request.patch(&name.name, &params, &patch),
        };
        let send = |client: kube::Client| async move {
            let request = request.map_err(kube::Error::BuildRequest)?;
            client.request::<Value>(request).await
        };
        match self.client.ask("apply", &target.what(name), send).await {
            Ok(object) => Ok(Some(object)),
            // The object was deleted, or made anew, in between.
            Err(Error::Refused { code, message, .. }) if target.subresource().is_some() && is_gone(code, &message) => {
                Ok(None)
            }
            Err(error) => Err(explained(error)),
        }
    }

    /// Deletes the object of this uid; one that is gone, or is another by now, is none of this.
    pub async fn delete(&self, target: Target, name: &ServiceName, uid: &str) -> Result<(), WriteError> {
        let request = Request::new(target.path(&name.namespace));
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = request.delete(&name.name, &params);
        let send = |client: kube::Client| async move {
            let request = request.map_err(kube::Error::BuildRequest)?;
            client.request_text(request).await
        };
        match self.client.ask("delete", &target.what(name), send).await {
            Ok(_) | Err(Error::Refused { code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(explained(error)),
        }
    }
}

/// No object of this name, or of this uid.
fn is_gone(code: u16, message: &str) -> bool {
    code == 404 && is_of_object(message) || code == 409 && message.contains("Precondition failed")
}

/// A path that is not known is not found either; then no object is named.
fn is_of_object(message: &str) -> bool {
    message.contains('"')
}

fn explained(error: Error) -> WriteError {
    match error {
        Error::Forbidden { verb, what, message } => WriteError::Forbidden { verb, what, message },
        Error::Refused { verb, what, code: 404, message } if !is_of_object(&message) => {
            WriteError::NoCrd { verb, what }
        }
        Error::Refused { verb, what, code: 409, message } => WriteError::Owned { verb, what, message },
        other => WriteError::Client(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str) -> WriteError {
        let what = Target::Import.what(&ServiceName::new("shop", "cart"));
        explained(Error::Refused { verb: "apply", what, code, message: message.to_owned() })
    }

    #[test]
    fn refusals_say_what_to_do() {
        assert!(refused(404, "404 page not found").to_string().contains("install the CRDs"));
        assert!(matches!(refused(404, "namespaces \"shop\" not found"), WriteError::Client(_)));
        let owned = refused(409, "Apply failed with 1 conflict: conflict with \"operator\"").to_string();
        assert!(owned.starts_with("cannot apply ServiceImport shop/cart: another controller owns it"), "{owned}");
        assert!(refused(503, "no").is_passing() && !refused(409, "no").is_passing());
        let forbidden = Error::Forbidden { verb: "apply", what: "x".to_owned(), message: "no".to_owned() };
        assert!(explained(forbidden).to_string().contains("mcs-rbac.yaml"));
    }
}
