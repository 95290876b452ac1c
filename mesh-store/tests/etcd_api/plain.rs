//! What etcd answers beside its API: HTTP paths on the client port, and password authentication that is off.

use etcd_client::{Client, Error};
use mesh_store::Store as _;
use mesh_store::etcd::Gate;
use mesh_store::mvcc::{Alarm, AlarmAction, AlarmKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use super::{Served, connect, status};

/// Status line and body.
async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_and_health_are_etcds_json() {
    let mut served = Served::start().await;
    let address = served.listen(Gate::open("admin-a")).await;
    let ok = "HTTP/1.1 200 OK".to_owned();
    let version = r#"{"etcdserver":"3.6.0","etcdcluster":"3.6.0","storage":"3.6.0"}"#;
    assert_eq!(get(address, "/version").await, (ok.clone(), version.to_owned()));
    let healthy = r#"{"health":"true","reason":""}"#.to_owned();
    for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
        assert_eq!(get(address, path).await, (ok.clone(), healthy.clone()));
    }
    let member = served.store.identity().member_id;
    let full = Alarm { kind: AlarmKind::NoSpace, member_id: member };
    served.store.set_alarm(AlarmAction::Raise, full).await.unwrap();
    let (line, body) = get(address, "/health").await;
    assert_eq!(line, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, r#"{"health":"false","reason":"ALARM NOSPACE"}"#);
    assert_eq!(get(address, "/health?exclude=NOSPACE").await.1, healthy);
    served.store.set_alarm(AlarmAction::Disarm, full).await.unwrap();
    // The same port goes on speaking gRPC.
    connect(address).await.put("a", "b", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_off_and_stay_off() {
    let mut served = Served::start().await;
    let mut client: Client = served.client().await;
    let refusals: [Error; 2] = [
        client.user_add("eve", "secret", None).await.unwrap_err(),
        client.user_change_password("eve", "secret").await.unwrap_err(),
    ];
    for refusal in refusals {
        let (code, text) = status(refusal);
        assert_eq!(code, Code::InvalidArgument);
        assert!(text.starts_with("isthmus: user \"eve\": passwords are not kept here"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert!(client.user_list().await.unwrap().users().is_empty(), "a refused user is none");
    let (code, text) = status(client.auth_enable().await.unwrap_err());
    assert_eq!((code, text.as_str()), (Code::FailedPrecondition, "etcdserver: root user does not exist"));
}
