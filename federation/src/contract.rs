//! Cilium's clustermesh contract as values: where a fact lives (keys) and how it is written (one file per kind).
//!
//! Owns key layout, encodings, and the rules of what a peer may say. Pure: no I/O, no clock, no store. It must never accept
//! a value on trust: [`validate`] holds every rule, and readers ignore fields they do not know.
//!
//! ```text
//!  exporter:  mesh-types word --> *Value --encode--> bytes under cilium/state/...
//!  mirror:    bytes of a peer --validate--> the same bytes under cilium/cache/<res>/v1/<peer>/...
//!  view:      bytes under state/ or cache/ --decode--> *Value --> mesh-types word
//! ```

pub mod cluster_config;
pub mod endpoint_slice;
pub mod identity;
pub mod ip;
pub mod keys;
mod lenient;
pub mod node;
pub mod service;
pub mod service_export;
pub mod stamp;
pub mod validate;

pub use cluster_config::ClusterConfig;
pub use endpoint_slice::EndpointSliceValue;
pub use ip::IpValue;
pub use keys::{Layout, Resource};
pub use node::NodeValue;
pub use service::ServiceValue;
pub use service_export::ServiceExportValue;
pub use stamp::ExportClock;

/// A stored value that is not of its kind's form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not valid JSON of a {kind} value")]
    Json { kind: &'static str, source: serde_json::Error },
    #[error("{field}: {value:?} is not {want}")]
    Field { field: &'static str, value: String, want: &'static str },
    #[error("labels are not in Cilium's sorted form")]
    Labels(#[source] mesh_types::labels::Error),
    #[error("labels are not UTF-8 text")]
    Text(#[source] std::str::Utf8Error),
    #[error("not a protobuf message of kind {kind}")]
    Protobuf { kind: &'static str, source: prost::DecodeError },
    #[error("not a zstd frame, which a value of kind {kind} is")]
    NotFrame { kind: &'static str },
    #[error("the zstd frame of kind {kind} is broken")]
    Frame { kind: &'static str, source: std::io::Error },
    #[error("{more} bytes follow the zstd frame of kind {kind}")]
    Trailing { kind: &'static str, more: usize },
    #[error("more than {limit} {what}")]
    Size { what: &'static str, limit: usize },
}

impl Error {
    fn field(field: &'static str, value: &(impl ToString + ?Sized), want: &'static str) -> Self {
        Self::Field { field, value: shown(value.to_string()), want }
    }
}

/// Most bytes of a peer's text in an error: it decides what is in a value, but not how long a line of the log is.
const MAX_SHOWN: usize = 256;

/// The beginning of a text that may be of any length.
fn shown(mut text: String) -> String {
    if text.len() > MAX_SHOWN {
        text.truncate(text.floor_char_boundary(MAX_SHOWN));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod golden;
