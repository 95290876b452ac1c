//! Readiness, probed for real from the node: HTTP GET, gRPC health check or TCP connect, as the container asks; a TCP connect
//! to the first port where it asks for nothing; a pod without any port is ready when it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::pod::PodSpec;
use crate::manifest::Probe;
use crate::traffic::{grpc, http, raw};

/// Between probes until the pod is ready, and afterwards. Kubernetes counts in seconds; a lab has no time for that.
const UNREADY_PERIOD: Duration = Duration::from_millis(50);
const READY_PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
const FAILURE_THRESHOLD: u32 = 3;

pub(super) struct Prober {
    question: Option<Question>,
    failure_threshold: u32,
    is_ready: bool,
}

enum Question {
    Http { target: SocketAddr, path: String, headers: Vec<(String, String)> },
    Grpc { target: SocketAddr, service: String },
    Tcp { target: SocketAddr },
}

impl Prober {
    pub(super) fn new(pod: &PodSpec, ip: Option<Ipv4Addr>) -> Self {
        let probe = pod.template.containers.iter().find_map(|container| container.readiness_probe.as_ref());
        let asked = ip.and_then(|ip| probe.and_then(|probe| question(pod, probe, ip)));
        let fallback = || Some(Question::Tcp { target: (ip?, pod.first_tcp_port()?).into() });
        let failure_threshold = probe.and_then(|probe| probe.failure_threshold).unwrap_or(FAILURE_THRESHOLD);
        Self { question: asked.or_else(fallback), failure_threshold, is_ready: false }
    }

    /// Probes until the answer differs from the last one given.
    pub(super) async fn next_change(&mut self) -> bool {
        let mut failures = 0;
        loop {
            let is_up = match &self.question {
                Some(question) => timeout(TIMEOUT, question.ask()).await.unwrap_or(false),
                None => true,
            };
            failures = if is_up { 0 } else { failures + 1 };
            let is_ready = is_up || (self.is_ready && failures < self.failure_threshold);
            if is_ready != self.is_ready {
                self.is_ready = is_ready;
                return is_ready;
            }
            sleep(if self.is_ready { READY_PERIOD } else { UNREADY_PERIOD }).await;
        }
    }
}

impl Question {
    async fn ask(&self) -> bool {
        match self {
            Self::Http { target, path, headers } => {
                http::get(*target, path, headers).await.is_ok_and(|status| (200..400).contains(&status))
            }
            Self::Grpc { target, service } => grpc::is_serving(*target, service).await.unwrap_or(false),
            Self::Tcp { target } => raw::connects(*target).await,
        }
    }
}

fn question(pod: &PodSpec, probe: &Probe, ip: Ipv4Addr) -> Option<Question> {
    if let Some(get) = &probe.http_get {
        let target = (ip, pod.probe_port(&get.port)?).into();
        let headers = get.http_headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
        let path = if get.path.is_empty() { "/".to_owned() } else { get.path.clone() };
        Some(Question::Http { target, path, headers })
    } else if let Some(check) = &probe.grpc {
        Some(Question::Grpc { target: (ip, check.port).into(), service: check.service.clone() })
    } else {
        let socket = probe.tcp_socket.as_ref()?;
        Some(Question::Tcp { target: (ip, pod.probe_port(&socket.port)?).into() })
    }
}
