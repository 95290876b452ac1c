//! A gRPC channel to a pod's port through the API server's port-forward. TLS goes through whole: the API server carries bytes,
//! and who answers is proved by the mesh's own CA.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::cluster::Cluster;
use super::failure::Error;
use super::release::Release;

const ANSWER: Duration = Duration::from_secs(10);

/// The API server does not open the way, or the pod does not.
#[derive(Debug, thiserror::Error)]
#[error("port {port} of pod {pod} is not reached through the API server")]
struct Closed {
    pod: String,
    port: u16,
    #[source]
    source: Error,
}

/// The endpoint of one pod, to be connected by [`connect`].
pub(crate) fn endpoint(release: &Release, bundle: &str) -> Result<Endpoint, tonic::transport::Error> {
    let name = release.server_name();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)).domain_name(name.clone());
    Endpoint::from_shared(format!("https://{name}:{}", release.port))?.tls_config(tls)
}

/// Connects, and again whenever the channel has to.
pub(crate) async fn connect(
    cluster: &Cluster,
    release: &Release,
    pod: &str,
    endpoint: Endpoint,
) -> Result<Channel, tonic::transport::Error> {
    let (cluster, pod, port) = (cluster.clone(), pod.to_owned(), release.port);
    let api = Api::<Pod>::namespaced(cluster.client.clone(), &release.namespace);
    let open = tower::service_fn(move |_address| {
        let (cluster, api, pod) = (cluster.clone(), api.clone(), pod.clone());
        async move {
            let forwarded = cluster.ask("create", "pods/portforward", api.portforward(&pod, &[port])).await;
            let closed = |source| Closed { pod: pod.clone(), port, source };
            let mut forwarded = forwarded.map_err(closed)?;
            // Its bytes are moved by a task of kube's, which ends with the stream.
            let stream = forwarded.take_stream(port);
            let stream = stream.ok_or_else(|| closed(Error::Mesh("the API server opens no stream".to_owned())))?;
            Ok::<_, Closed>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(open).await
}

/// An answer to a plain HTTP request, cut to a length: metrics, which every pod of the mesh serves in clear on its own port.
pub(crate) async fn http_get(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    port: u16,
    path: &str,
    most: u64,
) -> Result<String, Error> {
    let api = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
    let mut forwarded = cluster.ask("create", "pods/portforward", api.portforward(pod, &[port])).await?;
    let closed = |error: &dyn std::fmt::Display| Error::Mesh(format!("port {port} of pod {namespace}/{pod}: {error}"));
    let mut stream = forwarded.take_stream(port).ok_or_else(|| closed(&"the API server opens no stream"))?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {pod}\r\n\r\n");
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        (&mut stream).take(most).read_to_end(&mut answer).await
    };
    match tokio::time::timeout(ANSWER, exchange).await {
        Ok(read) => read.map_err(|error| closed(&error))?,
        Err(_elapsed) => return Err(closed(&"it does not answer")),
    };
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.lines().next().is_some_and(|line| line.contains(" 200 ")) => Ok(body.to_owned()),
        Some((head, _)) => Err(closed(&head.lines().next().unwrap_or_default())),
        None => Err(closed(&"it closes the connection")),
    }
}
