//! A way for programs of the machine to an address inside a network namespace: a port on loopback, whose connections are
//! opened again from within. So `kubectl`, `helm` and a person need not enter anything.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The port is open while this lives; connections that are open then go on.
pub struct Forward {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Forward {
    /// Opens a port of the kernel's choice on loopback that leads to `target` as the namespace sees it.
    pub fn open(namespace: &Path, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("open a port on loopback")?;
        let address = listener.local_addr().context("ask for the port")?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (namespace, over) = (namespace.to_owned(), Arc::clone(&is_over));
        let accept = move || {
            for connection in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(connection) = connection {
                    let namespace = namespace.clone();
                    // Ends with its connection. What goes wrong is the client's to see: its connection closes.
                    std::thread::spawn(move || drop(carry(&connection, &namespace, target)));
                }
            }
        };
        let listener = std::thread::Builder::new().name("forward".into()).spawn(accept).context("start a thread")?;
        Ok(Self { address, is_over, listener: Some(listener) })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread, which looks at the flag then.
        let woken = TcpStream::connect_timeout(&self.address, CONNECT_WITHIN).is_ok();
        if let Some(listener) = self.listener.take().filter(|_| woken) {
            drop(listener.join());
        }
    }
}

/// Runs on a thread of its own, which ends in the namespace.
fn carry(near: &TcpStream, namespace: &Path, target: SocketAddr) -> Result<()> {
    netns::enter(namespace)?;
    let far = TcpStream::connect_timeout(&target, CONNECT_WITHIN).with_context(|| format!("connect to {target}"))?;
    for stream in [near, &far] {
        stream.set_nodelay(true).context("send small pieces at once")?;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| copy(near, &far));
        copy(&far, near);
    });
    Ok(())
}

/// Until one side ends; the other is told.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let copied = io::copy(&mut from, &mut to);
    // After an error nothing more can come back either.
    let how = if copied.is_ok() { Shutdown::Write } else { Shutdown::Both };
    drop(to.shutdown(how));
}
