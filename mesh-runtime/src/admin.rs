//! The admin HTTP server: `/metrics`, `/livez`, `/readyz`, and whatever pages the process adds.
//!
//! Plain HTTP without authentication: must never show a secret, and must never change anything.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::readiness::{Readiness, Status};
use crate::shutdown::Shutdown;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A bound admin server that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    pages: Router,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics and health on {address}: is another process using the port?")]
pub struct Error {
    pub address: SocketAddr,
    pub source: io::Error,
}

impl Server {
    pub async fn bind(address: SocketAddr, readiness: Readiness, metrics: Registry) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(|source| Error { address, source })?;
        let pages = Router::new()
            .route("/metrics", get(show_metrics).with_state(Arc::new(metrics)))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(show_readiness).with_state(readiness));
        Ok(Self { listener, pages })
    }

    /// Adds pages of the process's own.
    #[must_use]
    pub fn with_pages(mut self, pages: Router) -> Self {
        self.pages = self.pages.merge(pages);
        self
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `shutdown`.
    pub async fn run(self, shutdown: Shutdown) -> io::Result<()> {
        axum::serve(self.listener, self.pages).with_graceful_shutdown(shutdown.requested_owned()).await
    }
}

async fn show_metrics(State(metrics): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode metrics: {error}\n")).into_response(),
    }
}

async fn show_readiness(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.status() {
        Status::Ready => (StatusCode::OK, "ok\n".to_owned()),
        Status::Draining => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        Status::Waiting(awaited) => {
            let mut text = String::new();
            for (what, since) in awaited {
                writeln!(text, "waiting for {what} ({:.1} s)", since.as_secs_f64()).expect("a String takes all text");
            }
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::shutdown::Cause;
    use crate::tasks::{OnExit, TaskSet};

    async fn request(to: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_follow_the_state_of_the_process() {
        let mut metrics = Registry::default();
        let counter = Counter::<u64>::default();
        metrics.register("drops", "Packets dropped", counter.clone());
        counter.inc_by(3);
        let readiness = Readiness::new();
        let guard = readiness.await_for("the first sync");

        let tasks = TaskSet::new(Shutdown::new());
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), readiness.clone(), metrics).await.unwrap();
        let server = server.with_pages(Router::new().route("/own", get(|| async { "own page" })));
        let address = server.local_addr().unwrap();
        tasks.spawn("admin", OnExit::Shutdown, server.run(tasks.shutdown().clone()));

        assert!(request(address, "/metrics").await.contains("drops_total 3"));
        assert!(request(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(request(address, "/own").await.ends_with("own page"));
        let waiting = request(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("waiting for the first sync"), "{waiting}");
        drop(guard);
        assert!(request(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        readiness.drain();
        assert!(request(address, "/readyz").await.contains("stopping"));

        tasks.shutdown().trigger(Cause::Requested("end of test".into()));
        tasks.join(std::time::Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Server::bind(address, Readiness::new(), Registry::default()).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
