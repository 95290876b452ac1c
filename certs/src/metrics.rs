//! Counters of the TLS servers, and when certificates end.

use std::fmt;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
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

/// One certificate's end, read when somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// "ca" or "leaf".
    pub kind: &'static str,
    /// Whose it is: "own", or the name of a joined cluster.
    pub of: String,
    /// Its common name.
    pub name: String,
    /// The hash of a CA's key, which tells two CAs of one cluster apart; empty for a leaf.
    pub ca: String,
    pub not_after: Timestamp,
}

/// `isthmus_certificate_expiry_timestamp_seconds`, for what `read` gives.
pub struct Expiries<F>(F);

impl<F: Fn() -> Vec<Expiring> + Send + Sync + 'static> Expiries<F> {
    pub fn register(read: F, registry: &mut Registry) {
        registry.register_collector(Box::new(Self(read)));
    }
}

impl<F> fmt::Debug for Expiries<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expiries")
    }
}

impl<F: Fn() -> Vec<Expiring> + Send + Sync + 'static> Collector for Expiries<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "isthmus_certificate_expiry_timestamp_seconds",
            "Unix time at which a certificate that is in use here, or a CA that is trusted here, ends",
            None,
            MetricType::Gauge,
        )?;
        for Expiring { kind, of, name, ca, not_after } in (self.0)() {
            let labels = [("kind", kind), ("of", of.as_str()), ("name", name.as_str()), ("ca", ca.as_str())];
            ConstGauge::new(not_after.as_second()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_has_its_end_under_its_name() {
        let mut registry = Registry::default();
        let row = |kind, ca: &str, end| Expiring {
            kind,
            of: "own".into(),
            name: "n".into(),
            ca: ca.into(),
            not_after: Timestamp::from_second(end).unwrap(),
        };
        Expiries::register(move || vec![row("ca", "sha256:00", 7), row("leaf", "", 5)], &mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let name = "isthmus_certificate_expiry_timestamp_seconds";
        for line in [
            format!("{name}{{kind=\"ca\",of=\"own\",name=\"n\",ca=\"sha256:00\"}} 7"),
            format!("{name}{{kind=\"leaf\",of=\"own\",name=\"n\",ca=\"\"}} 5"),
        ] {
            assert!(text.contains(&line), "{line}\nis not in\n{text}");
        }
    }
}
