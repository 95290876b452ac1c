//! Routes of ours: those that carry [`ROUTE_PROTOCOL`]. IPv4 only, as the datapath.

use std::net::Ipv4Addr;

use futures::TryStreamExt as _;
use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};

use super::{During as _, Error, Netlink};
use crate::names::ROUTE_PROTOCOL;

pub const MAIN_TABLE: u32 = 254;

/// `RTAX_MTU`: the bit of the lock mask that keeps path MTU discovery from changing the route's MTU.
const LOCK_MTU: u32 = 1 << 2;

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub table: u32,
    pub destination: Ipv4Net,
    pub metric: u32,
    pub target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Answer "no route to host".
    Unreachable,
    Device {
        index: u32,
        source: Option<Ipv4Addr>,
        /// Fixed, whatever path MTU discovery finds.
        mtu: Option<u32>,
    },
}

impl Netlink {
    /// All routes of ours, in any table.
    pub async fn own_routes(&self) -> Result<Vec<Route>, Error> {
        let mut query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        query.header.table = RouteHeader::RT_TABLE_UNSPEC;
        query.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
        query.header.kind = RouteType::Unspec;
        query.header.scope = RouteScope::Universe;
        let mut dump = self.handle.route().get(query).execute();
        let mut ours = Vec::new();
        // One at a time: a machine may have many more than ours.
        while let Some(message) = dump.try_next().await.during("list the routes")? {
            if message.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL) {
                ours.extend(Route::of(&message));
            }
        }
        Ok(ours)
    }

    /// Adds it, or takes the place of one with the same table, destination and metric.
    pub async fn replace_route(&self, route: &Route) -> Result<(), Error> {
        self.handle.route().add(route.message()).replace().execute().await.during(format_args!("set the route {route}"))
    }

    /// Absent is fine.
    pub async fn delete_route(&self, route: &Route) -> Result<(), Error> {
        let deleted = self.handle.route().del(route.message()).execute().await;
        match deleted.during(format_args!("delete the route {route}")) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Route {
    fn message(&self) -> RouteMessage {
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(self.table)
            .destination_prefix(self.destination.addr(), self.destination.prefix_len())
            .protocol(RouteProtocol::Other(ROUTE_PROTOCOL));
        if self.metric != 0 {
            builder = builder.priority(self.metric);
        }
        match self.target {
            Target::Unreachable => builder.kind(RouteType::Unreachable).build(),
            Target::Device { index, source, mtu } => {
                builder = builder.output_interface(index).scope(RouteScope::Link);
                if let Some(source) = source {
                    builder = builder.pref_source(source);
                }
                let mut message = builder.build();
                if let Some(mtu) = mtu {
                    let metrics = vec![RouteMetric::Lock(LOCK_MTU), RouteMetric::Mtu(mtu)];
                    message.attributes.push(RouteAttribute::Metrics(metrics));
                }
                message
            }
        }
    }

    fn of(message: &RouteMessage) -> Option<Self> {
        let (mut table, mut destination, mut metric) = (u32::from(message.header.table), Ipv4Addr::UNSPECIFIED, 0);
        let (mut index, mut source, mut mtu) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(value) => table = *value,
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
                RouteAttribute::Priority(value) => metric = *value,
                RouteAttribute::Oif(value) => index = Some(*value),
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.iter().find_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None });
                }
                _ => {}
            }
        }
        let destination = Ipv4Net::new(destination, message.header.destination_prefix_length).ok()?;
        let target = match message.header.kind {
            RouteType::Unreachable => Target::Unreachable,
            _ => Target::Device { index: index?, source, mtu },
        };
        Some(Self { table, destination, metric, target })
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.target {
            Target::Unreachable => write!(f, "unreachable {} table {}", self.destination, self.table),
            Target::Device { index, .. } => write!(f, "{} dev #{index} table {}", self.destination, self.table),
        }
    }
}
