//! The whole store as a stream of bytes.

use bytes::Bytes;
use futures::stream::BoxStream;

use super::Result;

/// A backup on its way. What it is made of is the backend's affair; the embedded store's begins by saying so in text.
pub struct Backup {
    pub chunks: BoxStream<'static, Result<BackupChunk>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupChunk {
    pub data: Bytes,
    /// Bytes that come after this chunk; etcd does not count the checksum at its end.
    pub remaining: u64,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backup")
    }
}
