//! Who gets a frontend's address and port when several services want it.
//!
//! A Service that exists only remotely is reached by the remote cluster's own cluster IP; that address may be taken here,
//! or in a third cluster too. The own cluster wins, then the smaller cluster name, then the smaller service name.

use std::collections::{BTreeSet, HashMap};

use agent_ebpf_common::ServiceKey;
use mesh_types::{ClusterName, ServiceName};

/// One wish for a frontend. Ordered by precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub is_remote: bool,
    pub cluster: ClusterName,
    pub service: ServiceName,
}

/// All wishes.
#[derive(Debug, Default)]
pub struct Claims {
    by_key: HashMap<ServiceKey, BTreeSet<Claim>>,
    by_service: HashMap<ServiceName, Vec<(ServiceKey, Claim)>>,
}

impl Claims {
    /// Replaces a service's wishes. Returns the other services that gained or lost a frontend by it.
    pub fn set(&mut self, service: &ServiceName, wishes: Vec<(ServiceKey, Claim)>) -> BTreeSet<ServiceName> {
        let old = self.by_service.remove(service).unwrap_or_default();
        if old == wishes {
            self.put_back(service, wishes);
            return BTreeSet::new();
        }
        let keys: BTreeSet<ServiceKey> = old.iter().chain(&wishes).map(|(key, _)| *key).collect();
        let before: Vec<_> = keys.iter().map(|key| self.owner(key).cloned()).collect();
        for (key, claim) in &old {
            if let Some(claims) = self.by_key.get_mut(key) {
                claims.remove(claim);
                if claims.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        for (key, claim) in &wishes {
            self.by_key.entry(*key).or_default().insert(claim.clone());
        }
        self.put_back(service, wishes);
        let after = keys.iter().map(|key| self.owner(key).cloned());
        let moved = before.iter().cloned().zip(after).filter(|(b, a)| b != a);
        moved.flat_map(|(b, a)| [b, a]).flatten().filter(|name| name != service).collect()
    }

    /// The service that has the frontend.
    pub fn owner(&self, key: &ServiceKey) -> Option<&ServiceName> {
        self.by_key.get(key)?.first().map(|claim| &claim.service)
    }

    fn put_back(&mut self, service: &ServiceName, wishes: Vec<(ServiceKey, Claim)>) {
        if !wishes.is_empty() {
            self.by_service.insert(service.clone(), wishes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(cluster: &str, service: &str, is_remote: bool) -> (ServiceName, Vec<(ServiceKey, Claim)>) {
        let key = ServiceKey { addr: std::net::Ipv4Addr::new(10, 96, 0, 1).into(), port_be: 80, proto: 6, pad: 0 };
        let service = ServiceName::new("shop", service);
        let claim = Claim { is_remote, cluster: ClusterName::new(cluster).unwrap(), service: service.clone() };
        (service, vec![(key, claim)])
    }

    #[test]
    fn the_own_service_takes_an_address_from_a_remote_one_and_gives_it_back() {
        let mut claims = Claims::default();
        let (remote, wishes) = wish("b", "cart", true);
        let key = wishes[0].0;
        assert!(claims.set(&remote, wishes).is_empty());
        let (own, wishes) = wish("z", "web", false);
        assert_eq!(claims.set(&own, wishes), BTreeSet::from([remote.clone()]));
        assert_eq!(claims.owner(&key), Some(&own));
        assert_eq!(claims.set(&own, Vec::new()), BTreeSet::from([remote.clone()]));
        assert_eq!(claims.owner(&key), Some(&remote));
        claims.set(&remote, Vec::new());
        assert!(claims.by_key.is_empty() && claims.by_service.is_empty());
    }
}
