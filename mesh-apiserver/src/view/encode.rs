//! Messages of the agent stream as bytes, assembled from parts that are encoded once.
//!
//! Layout of protobuf: a field is its key (number and wire type) and its content; a repeated message is the field
//! repeated. So a delta's bytes are its objects' bytes, each behind a key and a length.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use mesh_proto::v1;
use mesh_types::ClusterName;
use mesh_types::view::{Key, Object};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

const SUBSCRIBE_RESPONSE_DELTA: u32 = 3;
const DELTA_UPSERTS: u32 = 1;

pub(super) fn object(object: &Object) -> Bytes {
    v1::Object::from(object).encode_to_vec().into()
}

/// A `SubscribeResponse` that holds a delta.
pub(super) fn delta(
    cluster_id: u64,
    upserts: &[Bytes],
    deletes: &[Key],
    revision: i64,
    origin_times: &BTreeMap<ClusterName, u64>,
) -> Bytes {
    let rest = v1::Delta {
        upserts: Vec::new(),
        deletes: deletes.iter().map(Into::into).collect(),
        revision,
        origin_times: origin_times
            .iter()
            .map(|(cluster, nanos)| v1::OriginTime { cluster: cluster.to_string(), unix_nanos: *nanos })
            .collect(),
    };
    let mut body = BytesMut::with_capacity(rest.encoded_len() + upserts.iter().map(|o| o.len() + 6).sum::<usize>());
    for upsert in upserts {
        put_bytes(DELTA_UPSERTS, upsert, &mut body);
    }
    rest.encode(&mut body).expect("a growing buffer has room");
    let mut out = response(cluster_id, None);
    put_bytes(SUBSCRIBE_RESPONSE_DELTA, &body, &mut out);
    out.freeze()
}

pub(super) fn snapshot_begin(cluster_id: u64) -> Bytes {
    response(cluster_id, Some(v1::subscribe_response::Message::SnapshotBegin(v1::SnapshotBegin {}))).freeze()
}

pub(super) fn prune(cluster_id: u64, revision: i64) -> Bytes {
    response(cluster_id, Some(v1::subscribe_response::Message::Prune(v1::Prune { revision }))).freeze()
}

pub(super) fn keep_alive(cluster_id: u64, revision: i64) -> Bytes {
    response(cluster_id, Some(v1::subscribe_response::Message::KeepAlive(v1::KeepAlive { revision }))).freeze()
}

fn response(cluster_id: u64, message: Option<v1::subscribe_response::Message>) -> BytesMut {
    let mut out = BytesMut::new();
    v1::SubscribeResponse { cluster_id, message }.encode(&mut out).expect("a growing buffer has room");
    out
}

fn put_bytes(field: u32, content: &[u8], out: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.put_slice(content);
}

#[cfg(test)]
mod tests {
    use mesh_types::view::{Delta, Identity};
    use mesh_types::{Label, SecurityIdentity};

    use super::*;

    #[test]
    fn assembled_bytes_are_the_message_itself() {
        let number = SecurityIdentity(70_000);
        let identity = Object::Identity(Identity { number, labels: [Label::k8s("app", "a")].into_iter().collect() });
        let times: BTreeMap<_, _> = [(ClusterName::new("east").unwrap(), 7)].into();
        let bytes = delta(9, &[object(&identity)], &[Key::Identity(SecurityIdentity(70_001))], 42, &times);
        let read = v1::SubscribeResponse::decode(bytes).unwrap();
        assert_eq!(read.cluster_id, 9);
        let Some(v1::subscribe_response::Message::Delta(read)) = read.message else { panic!("a delta") };
        let want = Delta {
            upserts: vec![identity],
            deletes: vec![Key::Identity(SecurityIdentity(70_001))],
            revision: 42,
            origin_times: times,
        };
        assert_eq!(Delta::try_from(read).unwrap(), want);
    }
}
