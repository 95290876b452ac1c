//! Sending a snapshot to another replica, chunk by chunk.
//!
//! The receiver says after each chunk which byte it wants next, so a lost chunk costs one call's timeout and not the
//! transfer. While the receiver installs, the sender keeps asking: as long as answers come, nobody gives up.

use std::time::Duration;

use bytes::Bytes;
use openraft::error::{Fatal, NetworkError, StreamingError};
use openraft::{ErrorSubject, ErrorVerb, Snapshot, StorageIOError};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};

use super::peers::{CallError, Peers};
use super::rpc::{Answer, Call, SnapshotChunk};
use super::types::{NodeId, Peer, StoreTypes, Vote};

const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between calls that failed, and between questions whether it is installed.
const PAUSE: Duration = Duration::from_millis(100);
/// Calls that fail one after the other before openraft is told, which then starts anew.
const ATTEMPTS: u32 = 10;

type NotSent = StreamingError<StoreTypes, Fatal<NodeId>>;

/// Returns the receiver's vote when it has installed the snapshot, or a higher vote that ended the transfer.
pub(crate) async fn send(
    peers: &Peers,
    target: NodeId,
    peer: &Peer,
    vote: Vote,
    mut snapshot: Snapshot<StoreTypes>,
) -> Result<Vote, NotSent> {
    let unread = |error: std::io::Error| -> NotSent {
        StreamingError::StorageError(StorageIOError::new(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error).into())
    };
    let total = snapshot.snapshot.seek(SeekFrom::End(0)).await.map_err(unread)?;
    let mut offset = 0;
    let mut failures = 0;
    loop {
        snapshot.snapshot.seek(SeekFrom::Start(offset)).await.map_err(unread)?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        (&mut *snapshot.snapshot).take(CHUNK_BYTES as u64).read_to_end(&mut bytes).await.map_err(unread)?;
        let sent_to_the_end = bytes.is_empty();
        let chunk = SnapshotChunk { vote, meta: snapshot.meta.clone(), offset, total, bytes: Bytes::from(bytes) };
        match peers.call(target, peer, Call::Snapshot(chunk), CHUNK_TIMEOUT).await {
            Ok(Answer::Snapshot(progress)) => {
                if progress.installed || progress.vote > vote {
                    return Ok(progress.vote);
                }
                failures = 0;
                offset = progress.received.min(total);
                if sent_to_the_end && offset == total {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            answer => {
                let error = answer.err().unwrap_or(CallError::Garbled { id: target });
                failures += 1;
                tracing::debug!(%error, target, offset, failures, "a chunk of a snapshot was not answered");
                if failures >= ATTEMPTS {
                    return Err(StreamingError::Network(NetworkError::new(&error)));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
