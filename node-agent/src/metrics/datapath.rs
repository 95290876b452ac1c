//! The programs' counters.

use std::fmt;
use std::sync::Arc;

use agent_ebpf::Datapath;
use agent_ebpf_common::verdict::{direction, reason, verdict};
use mesh_runtime::ErrorChain;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

pub(super) struct Counters(pub(super) Arc<Datapath>);

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counters")
    }
}

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counters = match self.0.maps.counters.read() {
            Ok(counters) => counters,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "cannot read the datapath's counters");
                return Ok(());
            }
        };
        for (name, help, is_bytes) in [
            ("isthmus_datapath_packets", "Packets by program, verdict, reason, source identity and cluster", false),
            ("isthmus_datapath_bytes", "Bytes by program, verdict, reason, source identity and cluster", true),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (key, value) in &counters {
                let (identity, cluster) = (key.identity.to_string(), key.cluster.to_string());
                let labels = [
                    ("program", direction::name(key.direction)),
                    ("verdict", verdict::name(key.verdict)),
                    ("reason", reason::name(key.reason)),
                    ("identity", identity.as_str()),
                    ("cluster", cluster.as_str()),
                ];
                let count = ConstCounter::new(if is_bytes { value.bytes } else { value.packets });
                count.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
