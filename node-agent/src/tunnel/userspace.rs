//! `mesh-tunnel`: a WireGuard device in a process of its own, so that the agent's restarts and upgrades do not touch it.
//!
//! Owns the TUN device, the UDP socket and two Unix sockets (the UAPI, and [`super::control`]'s). Knows no peer by itself:
//! all configuration comes through the UAPI, and is gone with the process. Ends when its device is deleted beneath it,
//! which gotatun does not notice: whoever runs it starts it again.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gotatun::device::uapi::UapiServer;
use gotatun::device::{DefaultDeviceTransports, Device, DeviceBuilder};
use gotatun::x25519;
use mesh_runtime::{OnExit, Shutdown, TaskSet};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::control::{Request, SOCKET_FOLDER, control_socket, uapi_socket};
use crate::netlink::watch::Watch;
use crate::netlink::{self, Netlink};

/// What one TCP stream needs not to lose packets in the socket (measured: none lost; with the default up to 9 %).
pub const SOCKET_BUFFER: usize = 4 << 20;
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Options {
    pub device: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the folder {SOCKET_FOLDER}")]
    Folder(#[source] io::Error),
    #[error("{} already answers: another mesh-tunnel serves device {device}", path.display())]
    Taken { device: String, path: PathBuf },
    #[error("cannot serve {}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot serve the configuration socket of {device}: {why}")]
    Uapi { device: String, why: String },
    #[error("cannot make the TUN device {device}: root (CAP_NET_ADMIN) and /dev/net/tun are needed")]
    Tun { device: String, source: gotatun::device::Error },
    #[error("cannot start the WireGuard device {device}")]
    Start { device: String, source: gotatun::device::Error },
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    #[error("device {0} was deleted beneath the tunnel: start mesh-tunnel again")]
    Deleted(String),
    #[error("device {0} failed: start mesh-tunnel again")]
    Failed(String),
}

type Tunnel = Device<DefaultDeviceTransports>;

/// Serves the device until `shutdown`, or until it is gone.
pub async fn run(options: &Options, shutdown: &Shutdown) -> Result<(), Error> {
    let device = &options.device;
    take_sockets(device)?;
    let uapi = UapiServer::default_unix_socket(device, None, None)
        .map_err(|e| Error::Uapi { device: device.clone(), why: e.to_string() })?;
    let builder = DeviceBuilder::new()
        .with_default_udp()
        .udp_recv_buffer_size(SOCKET_BUFFER)
        .udp_send_buffer_size(SOCKET_BUFFER)
        .create_tun(device)
        .map_err(|source| Error::Tun { device: device.clone(), source })?
        .with_uapi(uapi);
    let tunnel = builder.build().await.map_err(|source| Error::Start { device: device.clone(), source })?;
    let tunnel = Arc::new(tunnel);
    log_granted_buffers();

    let path = control_socket(device);
    let listener = UnixListener::bind(&path).map_err(|source| Error::Socket { path: path.clone(), source })?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, owner_only).map_err(|source| Error::Socket { path, source })?;

    let tasks = TaskSet::new(shutdown.clone());
    let result = tokio::select! {
        () = serve(&listener, &tunnel, &tasks) => Err(Error::Failed(device.clone())),
        gone = watch_device(device, &tasks) => gone,
        () = shutdown.requested() => Ok(()),
    };
    for path in [uapi_socket(device), control_socket(device)] {
        // What is left is replaced at the next start.
        std::fs::remove_file(path).ok();
    }
    result
}

/// A socket file without a listener is a leftover of a killed process.
fn take_sockets(device: &str) -> Result<(), Error> {
    std::fs::create_dir_all(SOCKET_FOLDER).map_err(Error::Folder)?;
    for path in [uapi_socket(device), control_socket(device)] {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(Error::Taken { device: device.to_owned(), path });
        }
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::Socket { path, source }),
            _ => {}
        }
    }
    Ok(())
}

/// The kernel caps what was asked for at `net.core.rmem_max`, silently; a socket of the same kind shows the cap.
fn log_granted_buffers() {
    let granted = || -> io::Result<(usize, usize)> {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        // The kernel reports twice what it grants: the other half is its own bookkeeping.
        Ok((socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2))
    };
    match granted() {
        Ok((receive, send)) if receive < SOCKET_BUFFER => tracing::warn!(
            receive,
            send,
            asked = SOCKET_BUFFER,
            "socket buffers are smaller than asked for: raise net.core.rmem_max and wmem_max against packet loss"
        ),
        Ok((receive, send)) => tracing::info!(receive, send, "socket buffers"),
        Err(error) => tracing::warn!(%error, "cannot tell the size of the socket buffers"),
    }
}

async fn serve(listener: &UnixListener, tunnel: &Arc<Tunnel>, tasks: &TaskSet) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let tunnel = Arc::clone(tunnel);
                tasks.spawn("control connection", OnExit::Log, async move { answer(stream, &tunnel).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, tunnel: &Tunnel) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let result = match Request::parse(&line) {
            Ok(Request::Handshake(key)) => handshake(tunnel, key.0).await,
            Err(why) => Err(why),
        };
        let text = match result {
            Ok(()) => "ok\n".to_owned(),
            Err(why) => format!("error {why}\n"),
        };
        write.write_all(text.as_bytes()).await?;
    }
    Ok(())
}

async fn handshake(tunnel: &Tunnel, key: [u8; 32]) -> Result<(), String> {
    let key = x25519::PublicKey::from(key);
    match tokio::time::timeout(HANDSHAKE_PATIENCE, tunnel.force_handshake(&key)).await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_elapsed) => Err(format!("no answer within {} ms", HANDSHAKE_PATIENCE.as_millis())),
    }
}

/// Returns when the device is gone.
async fn watch_device(device: &str, tasks: &TaskSet) -> Result<(), Error> {
    let netlink = Netlink::open(tasks)?;
    let watch = Watch::default();
    let mut nudges = watch.subscribe();
    let shutdown = tasks.shutdown();
    let index = netlink.link(device).await?.map(|link| link.index);
    let look = async {
        loop {
            // Another device of the same name is not ours either.
            if index.is_none() || netlink.link(device).await?.map(|link| link.index) != index {
                return Err(Error::Deleted(device.to_owned()));
            }
            if nudges.changed().await.is_err() {
                return Err(Error::Failed(device.to_owned()));
            }
        }
    };
    tokio::select! {
        gone = look => gone,
        ended = watch.run(shutdown) => { ended?; Ok(()) }
    }
}
