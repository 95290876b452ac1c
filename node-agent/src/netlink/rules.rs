//! Policy rules of ours: tunnel and probe packets look into one table of their own.

use futures::TryStreamExt as _;
use rtnetlink::IpVersion;
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};

use super::{During as _, Error, Netlink};
use crate::names::ROUTE_PROTOCOL;

/// `ipproto udp dport PORT lookup TABLE`, or the same for the source port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub priority: u32,
    pub table: u32,
    pub port: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Destination(u16),
    Source(u16),
}

impl Netlink {
    pub async fn own_rules(&self) -> Result<Vec<Rule>, Error> {
        let dump = self.handle.rule().get(IpVersion::V4).execute();
        let messages: Vec<RuleMessage> = dump.try_collect().await.during("list the policy rules")?;
        Ok(messages.iter().filter_map(Rule::of).collect())
    }

    /// Present is fine.
    pub async fn add_rule(&self, rule: &Rule) -> Result<(), Error> {
        let mut request = self.handle.rule().add().v4();
        *request.message_mut() = rule.message();
        match request.execute().await.during(format_args!("add the policy rule {rule:?}")) {
            Err(error) if !error.is_present() => Err(error),
            _ => Ok(()),
        }
    }

    /// Absent is fine.
    pub async fn delete_rule(&self, rule: &Rule) -> Result<(), Error> {
        let deleted = self.handle.rule().del(rule.message()).execute().await;
        match deleted.during(format_args!("delete the policy rule {rule:?}")) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Rule {
    fn message(&self) -> RuleMessage {
        let one = |port| RulePortRange { start: port, end: port };
        let mut message = RuleMessage::default();
        message.header.family = rtnetlink::packet_route::AddressFamily::Inet;
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
            RuleAttribute::IpProtocol(IpProtocol::Udp),
            match self.port {
                Port::Destination(port) => RuleAttribute::DestinationPortRange(one(port)),
                Port::Source(port) => RuleAttribute::SourcePortRange(one(port)),
            },
        ];
        message
    }

    fn of(message: &RuleMessage) -> Option<Self> {
        let (mut table, mut priority) = (u32::from(message.header.table), 0);
        let (mut port, mut is_ours) = (None, false);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Protocol(protocol) => is_ours = *protocol == RouteProtocol::Other(ROUTE_PROTOCOL),
                RuleAttribute::Priority(value) => priority = *value,
                RuleAttribute::Table(value) => table = *value,
                RuleAttribute::DestinationPortRange(range) => port = Some(Port::Destination(range.start)),
                RuleAttribute::SourcePortRange(range) => port = Some(Port::Source(range.start)),
                _ => {}
            }
        }
        Some(Self { priority, table, port: port.filter(|_| is_ours)? })
    }
}
