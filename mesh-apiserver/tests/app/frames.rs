//! What breaks off in the middle: a TLS record, an HTTP/2 frame, a gRPC message. It ends alone; others' calls go on.

use std::sync::Arc;

use certs::{ClientTls, LiveLeaf, Trust};
use etcd_client::WatchOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{PATIENCE, Server};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HTTP/2 frame types and flags (RFC 9113, section 6).
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// A frame whose header says `len`, whatever `payload` holds.
fn frame(kind: u8, flags: u8, stream: u32, len: usize, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(len).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block of literals that nobody is to index (RFC 7541, section 6.2.2).
fn header_block(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            out.push(u8::try_from(text.len()).unwrap());
            out.extend(text.as_bytes());
        }
    }
    out
}

fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, 0, &[])].concat()
}

/// `Put{key: "cut/key", value: …}` as gRPC frames it, with all but the last bytes of the message there.
fn cut_put() -> Vec<u8> {
    let mut message = vec![0x0a, 7];
    message.extend(b"cut/key");
    message.extend([0x12, 200]);
    message.extend([b'v'; 20]);
    let mut out = vec![0];
    out.extend(500_u32.to_be_bytes());
    out.extend(message);
    out
}

/// A connection as the admin that offers these protocols.
async fn tls(
    server: &Server,
    port: std::net::SocketAddr,
    protocol: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let leaf = LiveLeaf::new(server.admin_leaf());
    let tls = ClientTls::new(&Trust::Bundle(server.bundle()), Some(&leaf), "localhost").unwrap();
    let tcp = TcpStream::connect(port).await.unwrap();
    let mut config = (*tls.config()).clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config)).connect(tls.server_name().clone(), tcp).await.unwrap()
}

/// Sends `bytes` and closes; then everything the server still said.
async fn sent_and_closed(server: &Server, port: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tls(server, port, b"h2").await;
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    // A server may end such a connection with a reset: what it said before is what counts.
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the server lets go").ok();
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_cut_in_the_middle_ends_its_own_connection_only() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    let mut client = server.etcd(&server.admin_leaf()).await;
    let mut events = client.watch("cut/", Some(WatchOptions::new().with_prefix())).await.unwrap();
    let before = client.get("cut/key", None).await.unwrap().header().unwrap().cluster_id();

    for port in [server.app.etcd, server.app.mesh] {
        // In the middle of a TLS record: a handshake that announces 512 bytes.
        let mut tcp = TcpStream::connect(port).await.unwrap();
        tcp.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut said = Vec::new();
        tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut said)).await.expect("the server lets go").ok();

        // In the middle of an HTTP/2 frame.
        let block = header_block("/etcdserverpb.KV/Put");
        let half = frame(HEADERS, END_HEADERS, 1, block.len(), &block[..block.len() / 2]);
        sent_and_closed(&server, port, &[opening(), half].concat()).await;
    }

    // In the middle of a gRPC message: the stream ends before the announced length.
    let put = cut_put();
    let bytes = [
        opening(),
        frame(
            HEADERS,
            END_HEADERS,
            1,
            header_block("/etcdserverpb.KV/Put").len(),
            &header_block("/etcdserverpb.KV/Put"),
        ),
        frame(DATA, END_STREAM, 1, put.len(), &put),
    ]
    .concat();
    let said = sent_and_closed(&server, server.app.etcd, &bytes).await;
    assert!(!said.is_empty(), "the half message is answered, with an error");

    let cut = client.get("cut/key", None).await.unwrap();
    assert!(cut.kvs().is_empty(), "nothing of the half message was stored");
    client.put("cut/whole", "yes", None).await.unwrap();
    let event = loop {
        let said = tokio::time::timeout(PATIENCE, events.message()).await.expect("the watch goes on");
        let said = said.unwrap().unwrap();
        // The first message only confirms the watch.
        if !said.events().is_empty() {
            break said;
        }
    };
    assert_eq!(event.events()[0].kv().unwrap().key_str().unwrap(), "cut/whole");
    assert_eq!(event.header().unwrap().cluster_id(), before, "the same store, still running");
    assert!(server.app.readiness.is_ready());
    server.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_etcd_port_answers_version_and_health_over_http_1() {
    let server = Server::start("east", 7).await;
    server.ready().await;
    for (path, body) in [
        ("/version", r#"{"etcdserver":"3.6.0","etcdcluster":"3.6.0","storage":"3.6.0"}"#),
        ("/health", r#"{"health":"true","reason":""}"#),
    ] {
        let mut stream = tls(&server, server.app.etcd, b"http/1.1").await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
        read.expect("an answer in time").unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with(body), "{said}");
    }
    server.app.stop().await;
}
