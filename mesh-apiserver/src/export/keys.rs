//! Where the own cluster's facts for the own agents live, and the order in which kinds of keys are written.

use std::net::IpAddr;

use federation::contract::keys as contract;
use mesh_store::mvcc::Overlay;
use mesh_types::{ClusterName, ServiceName};

/// Facts of the own cluster that never leave it.
pub const LOCAL: &str = "isthmus/v1/local/";
/// All Services of the own cluster: JSON of `view::Service`.
pub const LOCAL_SERVICES: &str = "isthmus/v1/local/services/";
/// Their backends, each on its own: JSON of `view::ServiceBackend`.
pub const LOCAL_BACKENDS: &str = "isthmus/v1/local/backends/";
/// Records of allocated identity numbers.
pub const IDENTITY: &str = "isthmus/v1/identity/";

/// The export as a cluster sees it: everybody's part, and its own audience's. The own cluster's agents see it so, too.
pub fn shown_to(cluster: &ClusterName) -> Overlay {
    Overlay::new(contract::STATE, contract::audience(cluster))
}

pub fn local_service(service: &ServiceName) -> String {
    format!("{LOCAL_SERVICES}{service}")
}

pub fn local_backend(service: &ServiceName, address: IpAddr) -> String {
    format!("{LOCAL_BACKENDS}{service}/{address}")
}

/// `namespace/name` after [`LOCAL_SERVICES`].
pub fn parse_service(rest: &str) -> Option<ServiceName> {
    let (namespace, name) = rest.split_once('/')?;
    (!name.contains('/')).then(|| ServiceName::new(namespace, name))
}

/// `namespace/name/address` after [`LOCAL_BACKENDS`].
pub fn parse_backend(rest: &str) -> Option<(ServiceName, IpAddr)> {
    let (service, address) = rest.rsplit_once('/')?;
    Some((parse_service(service)?, address.parse().ok()?))
}

/// Keys of a lower rank are put first and deleted last: a number before the address that means it, an address before the
/// Service that lists it, and what announces the cluster after all of its facts.
pub(super) fn rank(key: &[u8]) -> u8 {
    const ORDER: [&str; 10] = [
        IDENTITY,
        "cilium/state/identities/",
        "cilium/state/nodes/",
        "cilium/state/ip/",
        LOCAL_SERVICES,
        LOCAL_BACKENDS,
        "cilium/state/services/",
        "cilium/state/serviceexports/",
        "cilium/state/endpointslices/",
        contract::CLUSTER_CONFIGS,
    ];
    let key = contract::shown(key);
    let place = ORDER.iter().position(|prefix| key.starts_with(prefix.as_bytes()));
    place.and_then(|p| u8::try_from(p).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_keys_read_back() {
        let cart = ServiceName::new("shop", "cart");
        let ip: IpAddr = "fd00::1".parse().unwrap();
        let key = local_backend(&cart, ip);
        assert_eq!(key, "isthmus/v1/local/backends/shop/cart/fd00::1");
        assert_eq!(parse_backend(key.strip_prefix(LOCAL_BACKENDS).unwrap()), Some((cart.clone(), ip)));
        assert_eq!(parse_service("shop/cart"), Some(cart));
        assert_eq!(parse_service("shop/cart/x"), None);
    }
}
