//! One zstd frame (RFC 8878) around one message.
//!
//! Cilium's frames do not say how long their content is, so the limit is held while unpacking.

use std::io::Read;

use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;

use super::super::Error;
use super::KIND;

/// Most bytes of an unpacked message. A slice is a part of one object of Kubernetes, whose etcd refuses requests of more
/// than 1.5 MiB; Cilium itself takes up to 16 MiB.
pub(super) const MAX_MESSAGE: usize = 2 << 20;

/// Largest window, as a power of two: the 8 MiB that RFC 8878 asks of every reader and that Cilium's writer stays within.
const MAX_WINDOW_LOG: u32 = 23;

/// First bytes of a frame with content. Without them it is a skippable frame, or none.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// zstd's own default: the balance of size and time that Cilium's writer has, too.
const LEVEL: i32 = 3;

pub(super) fn pack(message: &[u8]) -> Vec<u8> {
    let pack = || {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.compress(message)
    };
    pack().expect("compressing from memory to memory at a valid level only fails without memory")
}

pub(super) fn unpack(value: &[u8]) -> Result<Vec<u8>, Error> {
    if !value.starts_with(&MAGIC) {
        return Err(Error::NotFrame { kind: KIND });
    }
    let broken = |source| Error::Frame { kind: KIND, source };
    let mut decoder = Decoder::with_buffer(value).map_err(broken)?.single_frame();
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(broken)?;
    let mut message = Vec::new();
    decoder.by_ref().take(MAX_MESSAGE as u64 + 1).read_to_end(&mut message).map_err(broken)?;
    if message.len() > MAX_MESSAGE {
        return Err(Error::Size { what: "bytes of an endpoint-slice message", limit: MAX_MESSAGE });
    }
    match decoder.finish().len() {
        0 => Ok(message),
        more => Err(Error::Trailing { kind: KIND, more }),
    }
}
