//! Consistent hashing tables (Eisenbud et al., "Maglev", NSDI 2016, section 3.4), with weights.
//!
//! Every cluster builds the same table from the same backends: the seed is fixed and a backend's permutation follows from
//! its address, port and protocol alone.

use agent_ebpf_common::Backend;
use agent_ebpf_common::service::TABLE_SEED;

/// A backend as the table sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What is written into the table.
    pub number: u32,
    /// From [`hash`].
    pub hash: u64,
    /// Relative share; 0 counts as 1.
    pub weight: u16,
}

/// The hash that a backend's permutation follows from.
pub fn hash(backend: &Backend) -> u64 {
    let [a, b, c, d] = backend.addr.0.map(|word| u64::from(u32::from_be(word)));
    let port = u64::from(u16::from_be(backend.port_be));
    let words = [a << 32 | b, c << 32 | d, port << 8 | u64::from(backend.proto)];
    words.iter().fold(TABLE_SEED, |seed, word| mix(seed ^ *word))
}

/// Finalizer of splitmix64: spreads every bit over all.
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Walks one backend's permutation of the slots.
struct Permutation {
    next: u32,
    skip: u32,
    len: u32,
}

impl Permutation {
    fn of(hash: u64, len: u32) -> Self {
        let below = |h: u64, n: u32| u32::try_from(h % u64::from(n)).expect("a remainder of a u32 fits");
        Self { next: below(hash, len), skip: below(mix(hash), len - 1) + 1, len }
    }

    fn take(&mut self) -> usize {
        let slot = self.next;
        let step = u64::from(self.next) + u64::from(self.skip);
        self.next = u32::try_from(step % u64::from(self.len)).expect("a remainder of a u32 fits");
        slot as usize
    }
}

/// Fills a table of `len` slots (a prime) with the numbers of `entries`. In each round a backend takes one free slot for
/// every full share it has saved up; the heaviest saves a share a round.
///
/// The result does not depend on the order of `entries` if the caller sorts them, and the caller must.
pub fn table(len: u32, entries: &[Entry]) -> Vec<u32> {
    const FREE: u32 = 0;
    let mut table = vec![FREE; len as usize];
    let heaviest = entries.iter().map(|e| u32::from(e.weight.max(1))).max().unwrap_or(1);
    let mut walks: Vec<_> = entries.iter().map(|e| (Permutation::of(e.hash, len), 0_u32, *e)).collect();
    let mut filled = 0;
    while filled < table.len() && !walks.is_empty() {
        for (permutation, saved, entry) in &mut walks {
            *saved += u32::from(entry.weight.max(1));
            if *saved < heaviest {
                continue;
            }
            *saved -= heaviest;
            let mut slot = permutation.take();
            while table[slot] != FREE {
                slot = permutation.take();
            }
            table[slot] = entry.number;
            filled += 1;
            if filled == table.len() {
                break;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use agent_ebpf_common::service::weighted_table_len;
    use proptest::prelude::*;

    use super::*;

    fn entries(count: u32) -> Vec<Entry> {
        (1..=count).map(|n| Entry { number: n, hash: hash(&backend(n)), weight: 1 }).collect()
    }

    fn backend(n: u32) -> Backend {
        let addr = std::net::Ipv4Addr::from(0x0a02_0000 + n).into();
        Backend { addr, port_be: 80_u16.to_be(), proto: 6, ..Backend::default() }
    }

    fn shares(table: &[u32], count: u32) -> Vec<usize> {
        (1..=count).map(|n| table.iter().filter(|&&x| x == n).count()).collect()
    }

    #[test]
    fn slots_are_shared_evenly() {
        for (count, len) in [(2, 127), (4, 127), (5, 1_021), (32, 1_021), (512, 16_381), (600, 65_521)] {
            let shares = shares(&table(len, &entries(count)), count);
            let (min, max) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(max - min <= 1, "{count} backends over {len}: {min}..{max}");
        }
    }

    #[test]
    fn weights_are_shares() {
        let mut three = entries(3);
        three[0].weight = 100;
        three[1].weight = 200;
        three[2].weight = 100;
        let shares = shares(&table(1_021, &three), 3);
        assert!(shares[1].abs_diff(510) <= 2 && shares[0].abs_diff(255) <= 2, "{shares:?}");
    }

    /// Clusters of a Service: a weight, and so many backends.
    fn clusters(list: &[(u16, u32)]) -> (Vec<Entry>, Vec<usize>) {
        let (mut entries, mut cluster_of) = (Vec::new(), vec![usize::MAX]);
        for (cluster, (weight, count)) in list.iter().enumerate() {
            for _ in 0..*count {
                let number = u32::try_from(cluster_of.len()).unwrap();
                let weight = u16::try_from(10_000 * u32::from(*weight) / 100 / count).unwrap();
                entries.push(Entry { number, hash: hash(&backend(number)), weight });
                cluster_of.push(cluster);
            }
        }
        (entries, cluster_of)
    }

    /// Which entry each of 100,000 flows finds.
    fn flows(table: &[u32]) -> Vec<u32> {
        let slot = |flow: u64| usize::try_from(((mix(flow) >> 32) * table.len() as u64) >> 32).unwrap();
        (0..100_000).map(|flow| table[slot(flow)]).collect()
    }

    #[test]
    fn clusters_have_their_share_of_100_000_flows_to_one_per_cent() {
        let table_of = |list: &[(u16, u32)]| {
            let (entries, cluster_of) = clusters(list);
            let len = weighted_table_len(u32::try_from(entries.len()).unwrap());
            (table(len, &entries), cluster_of)
        };
        for list in [
            &[(80, 1), (20, 1)][..],
            &[(80, 2), (20, 2)],
            &[(50, 3), (30, 2), (20, 40)],
            &[(97, 40), (2, 1), (1, 3)],
            &[(60, 200), (40, 7)],
        ] {
            let (table, cluster_of) = table_of(list);
            let flows = flows(&table);
            for (cluster, (weight, _)) in list.iter().enumerate() {
                let found = flows.iter().filter(|number| cluster_of[**number as usize] == cluster).count();
                let wanted = usize::from(*weight) * 1_000;
                assert!(found.abs_diff(wanted) <= 1_000, "{list:?}: cluster {cluster} has {found} of 100,000 flows");
            }
        }
    }

    #[test]
    fn a_lost_cluster_moves_few_flows_of_the_others() {
        for count in 2..=5_u32 {
            let share = u16::try_from(100 / count).unwrap();
            let all = vec![(share, 20); usize::try_from(count).unwrap()];
            let (entries, cluster_of) = clusters(&all);
            let len = weighted_table_len(count * 20);
            let before = flows(&table(len, &entries));
            let after = flows(&table(len, &entries[20..]));
            let stayed = before.iter().zip(&after).filter(|(number, _)| cluster_of[**number as usize] != 0);
            let (moved, others) = stayed.fold((0, 0), |(moved, all), (b, a)| (moved + usize::from(b != a), all + 1));
            let most = others / usize::try_from(count).unwrap() + others / 100;
            assert!(moved <= most, "{count} clusters: {moved} of {others} flows of the others moved, {most} may");
        }
    }

    #[test]
    fn a_lost_backend_moves_few_slots_of_the_others() {
        let all = entries(30);
        let before = table(1_021, &all);
        let after = table(1_021, &all[1..]);
        let moved = before.iter().zip(&after).filter(|(b, a)| **b != 1 && b != a).count();
        assert!(moved <= 1_021 / 10, "{moved} of 1021 slots moved without need");
    }

    #[test]
    fn the_table_is_the_same_in_every_build() {
        let table = table(127, &entries(3));
        assert_eq!(&table[..16], &[3, 1, 1, 2, 2, 2, 3, 1, 1, 1, 2, 3, 3, 1, 2, 1], "{:?}", &table[..16]);
    }

    proptest! {
        #[test]
        fn every_slot_names_a_backend(count in 1_u32..60, weight in 1_u16..1000) {
            let mut list = entries(count);
            list[0].weight = weight;
            prop_assert!(table(1_021, &list).iter().all(|n| (1..=count).contains(n)));
        }
    }
}
