//! Nudges: something about links, addresses, routes or rules changed. Whoever gets one rereads what matters to it.

use futures::StreamExt as _;
use mesh_runtime::Shutdown;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::sync::watch;

use super::{During as _, Error};

/// Counters of changes: a watcher that missed some sees that the number moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nudges {
    pub links: u64,
    /// Addresses, routes, rules.
    pub others: u64,
}

/// The senders' side; the receivers are cloned from it.
#[derive(Debug)]
pub struct Watch {
    nudges: watch::Sender<Nudges>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { nudges: watch::Sender::new(Nudges::default()) }
    }
}

impl Watch {
    pub fn subscribe(&self) -> watch::Receiver<Nudges> {
        self.nudges.subscribe()
    }

    /// Runs until `shutdown`, or until the socket fails: a lost message is a nudge as well, so a fresh start nudges all.
    pub async fn run(&self, shutdown: &Shutdown) -> Result<(), Error> {
        let groups =
            [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Rule];
        let (connection, _handle, mut messages) =
            rtnetlink::new_multicast_connection(&groups).during("watch the devices")?;
        self.nudge(|n| (n.links, n.others) = (n.links + 1, n.others + 1));
        let follow = async {
            while let Some((message, _from)) = messages.next().await {
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_)) => {
                        self.nudge(|n| n.links += 1);
                    }
                    NetlinkPayload::InnerMessage(_) => self.nudge(|n| n.others += 1),
                    _ => self.nudge(|n| (n.links, n.others) = (n.links + 1, n.others + 1)),
                }
            }
        };
        tokio::select! {
            () = connection => {}
            () = follow => {}
            () = shutdown.requested() => {}
        }
        Ok(())
    }

    fn nudge(&self, change: impl FnOnce(&mut Nudges)) {
        self.nudges.send_modify(change);
    }
}
