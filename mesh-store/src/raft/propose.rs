//! From clients to parts, and from parts to the leader, wherever it is: group commit and forwarding.
//!
//! Commands that arrive while two parts are under way wait and travel together in the next one. A part is brought to the
//! leader again and again until it is applied here or its time is up: its ticket sees to it that it is executed once. So a
//! change of leader costs the clients time, but no error. When the time is up and the part may be in some log, its outcome
//! is unknown, and reported so.

use std::sync::Arc;
use std::time::Duration;

use mesh_store_mvcc::{Command, Response};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::intake::Intake;
use super::leader::{Leader, Leaders};
use super::peers::Peers;
use super::replica::Replica;
use super::rpc::{Answer, Call, Refusal};
use super::tickets::Reply;
use super::transport::MAX_MESSAGE_BYTES;
use super::types::{Origin, Part};
use crate::backend::Error;

const PARTS_UNDER_WAY: usize = 2;
const COMMANDS_PER_PART: usize = 2048;
const BYTES_PER_PART: usize = 4 << 20;
const COMMANDS_WAITING: usize = 16 * 1024;
/// A larger command might not fit into one message between replicas.
const MAX_COMMAND_BYTES: usize = MAX_MESSAGE_BYTES / 2;
/// As etcd's: five seconds, and two elections.
const WRITE_TIMEOUT: Duration = Duration::from_secs(7);
/// A part that a leader has not answered by then is brought to it again.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(2);

struct Pending {
    command: Command,
    reply: Reply,
    deadline: Instant,
}

#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Pending>,
}

/// The other end of the [`Proposer`]s, to be run as a task.
pub(crate) struct Batcher {
    queue: mpsc::Receiver<Pending>,
    courier: Courier,
    tasks: TaskTracker,
}

/// Brings a part to the leader.
#[derive(Clone)]
struct Courier {
    replica: Arc<Replica>,
    intake: Intake,
    peers: Peers,
    leaders: Leaders,
}

pub(crate) fn channel(
    replica: Arc<Replica>,
    peers: &Peers,
    leaders: &Leaders,
    intake: Intake,
    tasks: TaskTracker,
) -> (Proposer, Batcher) {
    let (sender, receiver) = mpsc::channel(COMMANDS_WAITING);
    let courier = Courier { replica, intake, peers: peers.clone(), leaders: leaders.clone() };
    (Proposer { queue: sender }, Batcher { queue: receiver, courier, tasks })
}

impl Proposer {
    /// Resolves when the command is durable and applied here.
    pub(crate) async fn propose(&self, command: Command) -> Result<Response, Error> {
        if command.weight() > MAX_COMMAND_BYTES {
            return Err(mesh_store_mvcc::Error::RequestTooLarge.into());
        }
        let (reply, result) = oneshot::channel();
        let deadline = Instant::now() + WRITE_TIMEOUT;
        self.queue.try_send(Pending { command, reply, deadline }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => Error::Stopped,
        })?;
        result.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Batcher {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(PARTS_UNDER_WAY));
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                first = self.queue.recv() => first,
            };
            let Some(first) = first else { return };
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            let deadline = first.deadline;
            let (commands, replies) = self.gather(first);
            let (ticket, answered) = self.courier.replica.tickets.issue(replies, permit);
            let part = Part { origin: Origin::Clients(ticket), commands: commands.into() };
            let (courier, stop) = (self.courier.clone(), stop.clone());
            self.tasks.spawn(async move {
                let tickets = Arc::clone(&courier.replica);
                let error = tokio::select! {
                    // The clients have their answers; the sender is dropped, never used.
                    _ = answered => return,
                    error = courier.bring(part, deadline) => error,
                    () = stop.cancelled() => Error::Stopped,
                };
                tickets.tickets.fail(ticket.seq, &error);
            });
        }
    }

    fn gather(&mut self, first: Pending) -> (Vec<Command>, Vec<Reply>) {
        let mut bytes = first.command.weight();
        let mut commands = vec![first.command];
        let mut replies = vec![first.reply];
        while commands.len() < COMMANDS_PER_PART && bytes < BYTES_PER_PART {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes += next.command.weight();
            commands.push(next.command);
            replies.push(next.reply);
        }
        (commands, replies)
    }
}

impl Courier {
    /// Returns only when the part's time is up, or when this replica has failed.
    async fn bring(mut self, part: Part, deadline: Instant) -> Error {
        let mut maybe_logged = false;
        let mut leaders_lost = 0;
        loop {
            let Some(leader) = self.leaders.wait(deadline).await else { break };
            let mut leaders = self.leaders.clone();
            let brought = tokio::select! {
                brought = self.bring_to(&leader, &part) => Ok(brought),
                // The answer may never come; the next leader is asked.
                () = leaders.changed(&leader) => Ok(Brought::Unknown),
                () = tokio::time::sleep_until(deadline) => Err(()),
            };
            match brought {
                // It is applied there and will be here, when the leader has said so.
                Ok(Brought::Applied) => {
                    maybe_logged = true;
                    tokio::time::sleep_until(deadline).await;
                    break;
                }
                Ok(Brought::Failed(reason)) => return Error::Failed { reason },
                Ok(Brought::NotDone) => {}
                Ok(Brought::Unknown) => {
                    maybe_logged = true;
                    leaders_lost += 1;
                }
                Err(()) => {
                    maybe_logged = true;
                    break;
                }
            }
            self.leaders.wait_for_other(&leader).await;
        }
        match (maybe_logged, leaders_lost) {
            (false, _) => Error::NoLeader,
            (true, 0) => Error::TimedOut,
            (true, _) => Error::LeaderLost,
        }
    }

    async fn bring_to(&self, leader: &Leader, part: &Part) -> Brought {
        match leader {
            Leader::Here => match self.intake.offer(part.clone()).await {
                Ok(()) => Brought::Applied,
                Err(Refusal::Failed { reason }) => Brought::Failed(reason),
                Err(Refusal::LostLeadership) => Brought::Unknown,
                Err(_) => Brought::NotDone,
            },
            Leader::There { id, peer } => {
                match self.peers.call(*id, peer, Call::Propose(part.clone()), FORWARD_TIMEOUT).await {
                    Ok(Answer::Applied) => Brought::Applied,
                    Err(error) if error.is_not_done() => Brought::NotDone,
                    Ok(_) | Err(_) => Brought::Unknown,
                }
            }
        }
    }
}

enum Brought {
    Applied,
    NotDone,
    Unknown,
    Failed(String),
}
