//! The socket programs with real sockets, in a cgroup of the test's own.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use agent_ebpf::common::verdict::{direction::SOCKET, reason};
use agent_ebpf::common::{Backend, PROTO_TCP, PROTO_UDP, Service};
use agent_ebpf::links::Attached;

use crate::harness::{Place, VIP, backend, service_key, with_place};

const CGROUPS: &str = "/sys/fs/cgroup/unified";
const TARGET: &str = "ISTHMUS_TEST_CONNECT";

/// A cgroup that is removed at the end. Its processes have ended by then.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self, String> {
        let path = PathBuf::from(CGROUPS).join(format!("isthmus-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("no cgroup {}: {e}", path.display()))?;
        Ok(Self(path))
    }

    /// Runs [`connects_and_says_to_whom`] in a process of this cgroup, in this thread's namespaces.
    fn connect(&self, target: &str) -> String {
        let processes = self.0.join("cgroup.procs");
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "sockets::connects_and_says_to_whom", "--nocapture"]);
        child.env(TARGET, target).stdout(Stdio::piped());
        join(&mut child, processes);
        let output = child.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(|line| line.split_once("peer: ")).map(|(_, said)| said.to_owned()).unwrap_or(text)
    }
}

#[expect(unsafe_code, reason = "pre_exec runs between fork and exec")]
fn join(child: &mut Command, processes: PathBuf) {
    // SAFETY: one write of a constant to a path made before the fork.
    unsafe { child.pre_exec(move || fs::write(&processes, "0")) };
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir(&self.0) {
            eprintln!("remove {}: {e}", self.0.display());
        }
    }
}

#[test]
#[ignore = "run by the other tests, in a cgroup"]
fn connects_and_says_to_whom() {
    let target = std::env::var(TARGET).expect("set by the test that runs this");
    let (proto, address) = target.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let said = if proto == "udp" {
        let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(address).and_then(|()| socket.send(b"hello")).and_then(|_| socket.peer_addr())
    } else {
        TcpStream::connect(address).and_then(|mut stream| {
            let mut greeting = String::new();
            stream.read_to_string(&mut greeting)?;
            stream.peer_addr()
        })
    };
    match said {
        Ok(peer) => println!("peer: {peer}"),
        Err(e) => println!("peer: {}", e.kind()),
    }
}

fn with_cgroup(name: &str, test: impl FnOnce(&Place, &Cgroup)) {
    with_place(|place| match Cgroup::new(name) {
        Ok(cgroup) => {
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            test(place, &cgroup);
        }
        Err(why) => println!("skipped: {why}"),
    });
}

#[test]
fn a_connect_to_a_service_reaches_a_backend_and_the_socket_shows_the_service() {
    with_cgroup("tcp", |place, cgroup| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let datapath = place.load();
        datapath.maps.backends.set(1, &backend(Ipv4Addr::LOCALHOST, port, false)).unwrap();
        let service = Service { id: 1, backends: 1, backend: 1, ..Service::default() };
        datapath.maps.services.insert(&service_key(80, PROTO_TCP), &service).unwrap();
        assert_eq!(datapath.attach_cgroup(&cgroup.0).unwrap(), Attached::New);
        assert_eq!(datapath.attach_cgroup(&cgroup.0).unwrap(), Attached::Kept);
        let server = std::thread::spawn(move || {
            // One connection each for the plain and the mapped socket; closing is the answer.
            for _ in 0..2 {
                drop(listener.accept().unwrap());
            }
        });
        assert_eq!(cgroup.connect(&format!("tcp {VIP}:80")), format!("{VIP}:80"));
        assert_eq!(cgroup.connect(&format!("tcp [::ffff:{VIP}]:80")), format!("[::ffff:{VIP}]:80"));
        server.join().unwrap();
        let counted = datapath.maps.counters.read().unwrap();
        let connected = counted.iter().find(|(key, _)| key.direction == SOCKET && key.reason == reason::CONNECTED);
        assert_eq!(connected.unwrap().1.packets, 2);
        assert_eq!(datapath.links().unwrap().len(), 4);
        datapath.detach_cgroup(&cgroup.0).unwrap();
        assert!(datapath.links().unwrap().is_empty());
    });
}

#[test]
fn connected_udp_sockets_are_sent_to_a_backend() {
    with_cgroup("udp", |place, cgroup| {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let datapath = place.load();
        let target = Backend { proto: PROTO_UDP, ..backend(Ipv4Addr::LOCALHOST, port, false) };
        datapath.maps.backends.set(1, &target).unwrap();
        let service = Service { id: 1, backends: 1, backend: 1, ..Service::default() };
        datapath.maps.services.insert(&service_key(53, PROTO_UDP), &service).unwrap();
        datapath.attach_cgroup(&cgroup.0).unwrap();
        assert_eq!(cgroup.connect(&format!("udp {VIP}:53")), format!("{VIP}:53"));
        let mut buffer = [0; 16];
        let (length, _) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
    });
}

#[test]
fn a_service_without_backends_refuses_at_once_and_other_addresses_are_left_alone() {
    with_cgroup("none", |place, cgroup| {
        let datapath = place.load();
        datapath.maps.services.insert(&service_key(80, PROTO_TCP), &Service::default()).unwrap();
        datapath.attach_cgroup(&cgroup.0).unwrap();
        assert_eq!(cgroup.connect(&format!("tcp {VIP}:80")), "connection refused");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert_eq!(cgroup.connect(&format!("tcp {address}")), address.to_string());
        server.join().unwrap();
    });
}
