//! Address prefixes a cluster declares, and the overlap check made before two clusters join.

use std::net::IpAddr;

use ipnet::IpNet;

/// A single address as a prefix.
pub fn host(addr: IpAddr) -> IpNet {
    IpNet::from(addr)
}

/// Whether the two prefixes share an address. Different families never do.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The first pair, one of each side, that shares an address.
pub fn first_overlap<'a>(ours: &'a [IpNet], theirs: &'a [IpNet]) -> Option<(&'a IpNet, &'a IpNet)> {
    ours.iter().find_map(|a| theirs.iter().find(|b| overlap(a, b)).map(|b| (a, b)))
}

/// Whether `addr` lies in one of the prefixes.
pub fn any_contains(prefixes: &[IpNet], addr: IpAddr) -> bool {
    prefixes.iter().any(|p| p.contains(&addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|s| s.parse().unwrap()).collect()
    }

    #[test]
    fn overlap_is_found_in_either_direction_and_named() {
        let (a, b) = (nets(&["10.1.0.0/16"]), nets(&["192.168.0.0/24", "10.1.4.0/24"]));
        assert_eq!(first_overlap(&a, &b), Some((&a[0], &b[1])));
        assert_eq!(first_overlap(&b, &a), Some((&b[1], &a[0])));
        assert_eq!(first_overlap(&a, &nets(&["10.2.0.0/16", "fd00::/8"])), None);
    }
}
