//! etcd's own concurrency package (Mutex, Election, STM, sessions), by a small Go program.

use etcd_peer::EtcdPeer;

use super::workspace;
use crate::harness::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcds_go_concurrency_package_works() {
    let Some(program) = EtcdPeer::go_program(workspace(), "concurrency").expect("the program builds") else {
        println!("skipped: there is no Go on this machine to build topology-tests/etcd-peer/concurrency with");
        return;
    };
    let server = Server::start("east", 7).await;
    server.ready().await;
    let mut command = tokio::process::Command::new(program);
    command
        .arg(format!("--endpoint=https://{}", server.app.etcd))
        .arg("--ca")
        .arg(server.state("ca.crt"))
        .arg("--cert")
        .arg(server.state("admin.crt"))
        .arg("--key")
        .arg(server.state("admin.key"));
    let output = command.output().await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    for rule in ["mutex ok", "trylock ok", "election ok", "stm ok", "session ok"] {
        assert!(stdout.contains(rule), "{rule} is not in {stdout}");
    }
    println!("{stdout}");
    server.app.stop().await;
}
