//! Counters of the TLS servers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Shared by all listeners of a process; clones count together.
#[derive(Debug, Clone, Default)]
pub struct TlsMetrics {
    handshakes: Family<Handshake, Counter>,
    open: Family<Listener, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handshake {
    listener: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

impl TlsMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("tls");
        registry.register(
            "handshakes",
            "Handshakes as a server by outcome: accepted, anonymous, timeout, failed, overload, or why the client's \
             certificate was refused",
            self.handshakes.clone(),
        );
        registry.register("connections", "Open connections as a server", self.open.clone());
    }

    /// Handshakes so far with this outcome.
    pub fn handshakes(&self, listener: &'static str, outcome: &'static str) -> u64 {
        self.handshakes.get_or_create(&Handshake { listener, outcome }).get()
    }

    pub(crate) fn count(&self, listener: &'static str, outcome: &'static str) {
        self.handshakes.get_or_create(&Handshake { listener, outcome }).inc();
    }

    pub(crate) fn opened(&self, listener: &'static str) -> OpenConnection {
        let gauge = self.open.get_or_create(&Listener { listener }).clone();
        gauge.inc();
        OpenConnection { gauge }
    }
}

/// Counts one connection until dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    gauge: Gauge,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
