//! The way between two clusters: forwards TCP, and can be cut (connections closed, new ones refused) or silently stalled.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh_runtime::{OnExit, Shutdown, TaskSet};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Up,
    /// Nothing passes and nobody is told.
    Stalled,
    Cut,
}

pub(super) struct Wan {
    pub(super) address: SocketAddr,
    condition: watch::Sender<Condition>,
    target: Arc<Mutex<SocketAddr>>,
}

impl Wan {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (condition, seen) = watch::channel(Condition::Up);
        let target = Arc::new(Mutex::new(target));
        let tasks = TaskSet::new(Shutdown::new());
        let (current, set) = (Arc::clone(&target), tasks.clone());
        tasks.spawn("wan", OnExit::Log, async move {
            while let Ok((near, _)) = listener.accept().await {
                if *seen.borrow() == Condition::Cut {
                    continue;
                }
                let target = *current.lock();
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                set.spawn("outward", OnExit::Log, forward(near_in, far_out, seen.clone()));
                set.spawn("homeward", OnExit::Log, forward(far_in, near_out, seen.clone()));
            }
        });
        Self { address, condition, target }
    }

    pub(super) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    /// Later connections go there.
    pub(super) fn retarget(&self, target: SocketAddr) {
        *self.target.lock() = target;
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut condition: watch::Receiver<Condition>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let now = *condition.borrow_and_update();
        tokio::select! {
            changed = condition.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer), if now == Condition::Up => match read {
                Ok(count) if count > 0 => if to.write_all(&buffer[..count]).await.is_err() { return },
                _ => return,
            },
        }
        if *condition.borrow() == Condition::Cut {
            return;
        }
    }
}
