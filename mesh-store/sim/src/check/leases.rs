//! Leases: none ends before its time, unless its holder ended it.

use super::{Promise, Violation};
use crate::history::Lease;

pub(super) fn check(leases: &[Lease]) -> Vec<Violation> {
    leases.iter().filter_map(check_one).map(|what| Violation::new(Promise::Leases, what)).collect()
}

fn check_one(lease: &Lease) -> Option<String> {
    let gone = lease.gone?;
    if lease.revoked.is_some_and(|revoked| revoked <= gone) {
        return None;
    }
    // The effect of a renewal is not earlier than its question, and a lease that has ended cannot be renewed: so it counts
    // even if the answer came after the end was seen.
    let promised = lease.renewed.iter().max()?.saturating_add(lease.ttl);
    (gone < promised)
        .then(|| format!("lease {:x} was gone at {gone:?}, promised until {promised:?}: {lease:?}", lease.id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_ends_after_its_last_renewal_and_its_time_or_by_its_holder() {
        let at = Duration::from_secs;
        let lease = |gone: u64, revoked: Option<u64>| Lease {
            id: 1,
            ttl: at(5),
            renewed: vec![at(1), at(4)],
            revoked: revoked.map(at),
            gone: Some(at(gone)),
        };
        assert_eq!(check(&[lease(9, None), lease(5, Some(5)), Lease { gone: None, ..lease(0, None) }]), []);
        assert_eq!(check(&[lease(8, None)]).len(), 1);
        assert_eq!(check(&[lease(7, Some(8))]).len(), 1);
    }
}
