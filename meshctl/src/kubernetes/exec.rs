//! A command in a container, through the API server.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::cluster::Cluster;
use super::failure::Error;

/// What it printed, each cut to a length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs it and waits until it has closed both streams.
pub(crate) async fn exec(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    command: &[String],
    most: u64,
) -> Result<Printed, Error> {
    let api = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let attach = AttachParams::default().stdin(false).stdout(true).stderr(true);
    let started = cluster.ask("create", "pods/exec", api.exec(pod, command.to_vec(), &attach)).await;
    let mut process = started?;
    let (out, err) = tokio::join!(text(process.stdout(), most), text(process.stderr(), most));
    Ok(Printed { out, err })
}

/// What was read until a stream broke is told; what is missing shows in it.
async fn text(stream: Option<impl AsyncRead + Unpin>, most: u64) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        drop(stream.take(most).read_to_end(&mut bytes).await);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
