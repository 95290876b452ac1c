//! Figures of the exporter, the source, the view and the agents, read when they are asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::agent_api::Presence;
use crate::rotation::Following;
use crate::{controller, view};

pub(crate) struct Figures {
    pub(crate) controller: controller::Handle,
    pub(crate) view: view::Handle,
    pub(crate) presence: Presence,
    pub(crate) following: Following,
}

impl Figures {
    pub(crate) fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (export, source) = (self.controller.export(), self.controller.source());
        let gauge = |n: usize| ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX));
        let objects = self.view.read(|view| view.objects().count());
        let gauges = [
            ("isthmus_source_objects", "Objects read from the source", gauge(source.objects)),
            ("isthmus_source_rejections", "Documents and objects that were left out", gauge(source.rejections.len())),
            (
                "isthmus_source_trouble",
                "1 while the source of objects cannot be followed: what it told before counts on",
                gauge(usize::from(source.trouble.is_some())),
            ),
            ("isthmus_export_errors", "Objects that are not (fully) exported", gauge(export.errors.len())),
            ("isthmus_view_objects", "Objects in the merged view", gauge(objects)),
            ("isthmus_view_revision", "Newest revision in the merged view", ConstGauge::new(self.view.revision())),
            (
                "isthmus_controller",
                "1 on the replica that exports and mirrors for its cluster, else 0",
                gauge(usize::from(self.controller.is_serving())),
            ),
            (
                "isthmus_ca_rotation_unfinished",
                "1 while the cluster goes over to another CA, or back",
                gauge(usize::from(self.following.stage().is_some_and(|stage| !stage.is_over()))),
            ),
            (
                "isthmus_ca_rotation_problem",
                "1 while this replica cannot do what the rotation asks of it",
                gauge(usize::from(!self.following.problem().is_empty())),
            ),
            ("isthmus_agents_connected", "Agents with an open stream", gauge(self.presence.connected())),
        ];
        let mcs = self.controller.mcs().unwrap_or_default();
        let of_mcs = [
            ("isthmus_mcs_imports", "ServiceImports that this server made and that are there", gauge(mcs.imports)),
            (
                "isthmus_mcs_errors",
                "Names of the cluster set whose objects are not as they should be",
                gauge(mcs.errors.len()),
            ),
        ];
        for (name, help, figure) in gauges.into_iter().chain(of_mcs) {
            figure.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let counters = [
            ("isthmus_export_transactions", "Transactions that exported something", export.transactions),
            (
                "isthmus_source_requests",
                "Pages of lists and watches asked of the API server since this replica began to read it",
                source.requests,
            ),
            ("isthmus_mcs_writes", "Objects of the MCS API and statuses that were written or deleted", mcs.writes),
            ("isthmus_mcs_failures", "Writes of such objects that failed", mcs.failures),
            ("isthmus_export_keys", "Keys written or deleted by the exporter", export.keys_written),
        ];
        for (name, help, figure) in counters {
            let figure = ConstCounter::new(figure);
            figure.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
