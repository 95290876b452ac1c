//! The Raft port: calls between replicas over gRPC, one method that carries bytes.
//!
//! ```text
//!  Embedded --> GrpcTransport --channel (TLS is the caller's)--> RaftService --> Receiver --> Embedded of the other
//! ```
//! It owns connections and sizes. It must never look into a message, nor own a certificate: the caller brings channels that
//! show and verify certificates, and says which callers are replicas.

mod client;
mod server;

pub use client::GrpcTransport;
pub use server::RaftService;

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::raft::MAX_MESSAGE_BYTES;

const SERVICE: &str = "isthmus.raft.v1.Raft";
const CALL: &str = "/isthmus.raft.v1.Raft/Call";

/// Messages are bytes already.
#[derive(Clone, Copy, Debug, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
