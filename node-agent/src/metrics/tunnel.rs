//! What the WireGuard device says of its peers.

use std::fmt;
use std::time::UNIX_EPOCH;

use mesh_runtime::ErrorChain;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::names::TUNNEL_DEVICE;
use crate::tunnel::WireGuard as _;
use crate::tunnel::wireguard::Device;
use crate::underlay;

#[derive(Debug)]
pub(super) struct Stats(pub(super) watch::Receiver<underlay::State>);

impl Collector for Stats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let backend = {
            let state = self.0.borrow();
            state.backend.filter(|_| state.tunnel.is_some())
        };
        let Some(backend) = backend else { return Ok(()) };
        let stats = match Device::new(TUNNEL_DEVICE, backend).and_then(|device| device.stats()) {
            Ok(stats) => stats,
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "cannot read the tunnel's statistics");
                return Ok(());
            }
        };
        let mut family = encoder.encode_descriptor(
            "isthmus_wireguard_bytes",
            "Bytes exchanged with a peer through the tunnel",
            None,
            MetricType::Counter,
        )?;
        for peer in &stats {
            let key = peer.key.to_string();
            for (direction, bytes) in [("received", peer.received_bytes), ("sent", peer.sent_bytes)] {
                let labels = [("peer", key.as_str()), ("direction", direction)];
                ConstCounter::new(bytes).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "isthmus_wireguard_last_handshake_seconds",
            "Unix time of the newest handshake with a peer; 0 for none",
            None,
            MetricType::Gauge,
        )?;
        for peer in &stats {
            let at = peer.last_handshake.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let seconds = at.map_or(0, |at| i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
            let key = peer.key.to_string();
            ConstGauge::new(seconds).encode(family.encode_family(&[("peer", key.as_str())])?)?;
        }
        Ok(())
    }
}
