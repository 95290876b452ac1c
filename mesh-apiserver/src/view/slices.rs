//! A peer's backends as its endpoint slices say them, merged over the slices of each Service.
//!
//! A peer may export backends twice: all of a Service in one value, and in slices. Slices count once the peer's are all
//! mirrored, which its canary says: until then some of them would stand for all. A change of one slice costs what that
//! slice holds, however large its Service is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_types::view::ServiceBackend;
use mesh_types::{ClusterName, ServiceName};

/// Backends by address.
pub(super) type Backends = BTreeMap<IpAddr, ServiceBackend>;

/// What is to be looked at again after a change.
pub(super) type Touched = BTreeSet<(ServiceName, IpAddr)>;

#[derive(Clone, Default)]
pub(super) struct Slices {
    clusters: BTreeMap<ClusterName, OfCluster>,
}

#[derive(Clone, Default)]
struct OfCluster {
    /// Its canary is there.
    is_complete: bool,
    /// By `namespace/name` of the slice.
    slices: BTreeMap<String, (ServiceName, Backends)>,
    of_service: BTreeMap<ServiceName, BTreeSet<String>>,
    /// What the Services' own values say.
    legacy: BTreeMap<ServiceName, Backends>,
}

impl Slices {
    /// The one value of a Service changed; `None`: it is gone.
    pub(super) fn set_legacy(
        &mut self,
        cluster: &ClusterName,
        service: &ServiceName,
        backends: Option<Backends>,
    ) -> Touched {
        let known = self.clusters.entry(cluster.clone()).or_default();
        let before = match backends {
            Some(backends) if !backends.is_empty() => {
                let addresses: Vec<IpAddr> = backends.keys().copied().collect();
                let before = known.legacy.insert(service.clone(), backends);
                before.map(Backends::into_keys).into_iter().flatten().chain(addresses).collect::<BTreeSet<_>>()
            }
            _ => known.legacy.remove(service).map(Backends::into_keys).into_iter().flatten().collect(),
        };
        before.into_iter().map(|address| (service.clone(), address)).collect()
    }

    /// A slice changed; `None`: it is gone.
    pub(super) fn set_slice(
        &mut self,
        cluster: &ClusterName,
        slice: &str,
        value: Option<(ServiceName, Backends)>,
    ) -> Touched {
        let known = self.clusters.entry(cluster.clone()).or_default();
        let (mut touched, mut services) = (Touched::new(), BTreeSet::new());
        let mut note = |service: &ServiceName, backends: &Backends| {
            services.insert(service.clone());
            touched.extend(backends.keys().map(|address| (service.clone(), *address)));
        };
        let had = |known: &OfCluster, service: &ServiceName| known.of_service.contains_key(service);
        let before = known.slices.remove(slice);
        let had_slices: BTreeMap<ServiceName, bool> =
            before.iter().chain(&value).map(|(service, _)| (service.clone(), had(known, service))).collect();
        if let Some((service, backends)) = before {
            note(&service, &backends);
            if let Some(slices) = known.of_service.get_mut(&service) {
                slices.remove(slice);
                if slices.is_empty() {
                    known.of_service.remove(&service);
                }
            }
        }
        if let Some((service, backends)) = value {
            note(&service, &backends);
            known.of_service.entry(service.clone()).or_default().insert(slice.to_owned());
            known.slices.insert(slice.to_owned(), (service, backends));
        }
        // With its first slice, and without its last one, a Service's other value counts no more, or again.
        for (service, had_slices) in had_slices {
            if had_slices != had(known, &service)
                && let Some(legacy) = known.legacy.get(&service)
            {
                touched.extend(legacy.keys().map(|address| (service.clone(), *address)));
            }
        }
        touched
    }

    /// The peer's slices are all there, or may not be.
    pub(super) fn set_complete(&mut self, cluster: &ClusterName, is_complete: bool) -> Touched {
        let known = self.clusters.entry(cluster.clone()).or_default();
        if known.is_complete == is_complete {
            return Touched::new();
        }
        known.is_complete = is_complete;
        let in_slices = known
            .slices
            .values()
            .flat_map(|(service, backends)| backends.keys().map(move |address| (service.clone(), *address)));
        let with_slices = known.legacy.iter().filter(|(service, _)| known.of_service.contains_key(*service));
        let in_legacy =
            with_slices.flat_map(|(service, backends)| backends.keys().map(move |address| (service.clone(), *address)));
        in_slices.chain(in_legacy).collect()
    }

    /// The backend at an address, as all that is known of it says.
    pub(super) fn backend(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
        address: IpAddr,
    ) -> Option<ServiceBackend> {
        let known = self.clusters.get(cluster)?;
        let slices = known.of_service.get(service).filter(|_| known.is_complete);
        let Some(slices) = slices else { return known.legacy.get(service)?.get(&address).cloned() };
        let found = slices.iter().filter_map(|slice| known.slices.get(slice)?.1.get(&address));
        found.fold(None, |merged: Option<ServiceBackend>, one| Some(merge(merged, one)))
    }
}

/// An address may be in several slices: while it moves from one to another, or when its ports are not all ready.
fn merge(merged: Option<ServiceBackend>, one: &ServiceBackend) -> ServiceBackend {
    let Some(mut merged) = merged else { return one.clone() };
    let more = one.ports.iter().filter(|port| !merged.ports.contains(port)).cloned().collect::<Vec<_>>();
    merged.ports.extend(more);
    merged.ports.sort();
    merged.state = merged.state.min(one.state);
    merged.node = merged.node.or_else(|| one.node.clone());
    merged.zone = merged.zone.or_else(|| one.zone.clone());
    merged
}

#[cfg(test)]
mod tests {
    use mesh_types::{BackendState, NamedPort, Protocol};

    use super::*;

    fn backend(address: &str, port: u16, state: BackendState) -> (IpAddr, ServiceBackend) {
        let address = address.parse().unwrap();
        let ports = vec![NamedPort { name: format!("p{port}"), protocol: Protocol::Tcp, port }];
        let (cluster, service) = (ClusterName::new("b").unwrap(), ServiceName::new("shop", "cart"));
        (address, ServiceBackend { cluster, service, address, ports, state, node: None, zone: None, weight: 1 })
    }

    /// What is known of the Service now, and what the last change touched.
    fn shown(slices: &Slices, cluster: &ClusterName) -> Vec<(u8, BackendState, usize)> {
        let service = ServiceName::new("shop", "cart");
        let of = |n: u8| {
            let backend = slices.backend(cluster, &service, IpAddr::from([10, 0, 0, n]))?;
            Some((n, backend.state, backend.ports.len()))
        };
        (1..9).filter_map(of).collect()
    }

    #[test]
    fn slices_count_once_all_are_there_and_a_services_own_value_where_there_is_none() {
        use BackendState::{Active, NotReady, Terminating};
        let (b, cart) = (ClusterName::new("b").unwrap(), ServiceName::new("shop", "cart"));
        let mut slices = Slices::default();
        let touched = slices.set_legacy(
            &b,
            &cart,
            Some([backend("10.0.0.1", 80, Active), backend("10.0.0.2", 80, Active)].into()),
        );
        assert_eq!(touched.len(), 2);
        slices.set_slice(&b, "shop/x", Some((cart.clone(), [backend("10.0.0.1", 80, Active)].into())));
        assert_eq!(shown(&slices, &b), [(1, Active, 1), (2, Active, 1)], "some slices are not all");
        let more = [backend("10.0.0.2", 80, Terminating), backend("10.0.0.3", 80, NotReady)].into();
        slices.set_slice(&b, "shop/y", Some((cart.clone(), more)));
        assert_eq!(slices.set_complete(&b, true).len(), 3);
        assert_eq!(shown(&slices, &b), [(1, Active, 1), (2, Terminating, 1), (3, NotReady, 1)]);

        let touched = slices.set_slice(&b, "shop/z", Some((cart.clone(), [backend("10.0.0.2", 81, Active)].into())));
        assert_eq!(touched.len(), 1, "a slice costs what it holds");
        assert_eq!(shown(&slices, &b), [(1, Active, 1), (2, Active, 2), (3, NotReady, 1)], "an address in two slices");

        for slice in ["shop/x", "shop/y"] {
            slices.set_slice(&b, slice, None);
        }
        assert_eq!(shown(&slices, &b), [(2, Active, 1)]);
        let touched = slices.set_slice(&b, "shop/z", None);
        assert_eq!(touched.len(), 2, "with its last slice gone its own value counts again");
        assert_eq!(shown(&slices, &b), [(1, Active, 1), (2, Active, 1)]);
        assert_eq!(slices.set_legacy(&b, &cart, None).len(), 2);
        assert!(shown(&slices, &b).is_empty());
    }

    #[test]
    fn a_slice_that_was_handed_to_another_service_touches_both() {
        let (b, cart, pay) =
            (ClusterName::new("b").unwrap(), ServiceName::new("shop", "cart"), ServiceName::new("shop", "pay"));
        let mut slices = Slices::default();
        slices.set_complete(&b, true);
        let one: Backends = [backend("10.0.0.1", 80, BackendState::Active)].into();
        slices.set_slice(&b, "shop/x", Some((cart.clone(), one.clone())));
        let touched = slices.set_slice(&b, "shop/x", Some((pay.clone(), one)));
        assert_eq!(touched.into_iter().map(|(service, _)| service).collect::<Vec<_>>(), [cart.clone(), pay.clone()]);
        let address = IpAddr::from([10, 0, 0, 1]);
        assert!(slices.backend(&b, &cart, address).is_none() && slices.backend(&b, &pay, address).is_some());
    }
}
