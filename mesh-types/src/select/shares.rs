//! From the shares of parts to a weight for each backend.

use super::{Chosen, Part};

/// The largest weight that is given when parts are weighed against each other: one in ten thousand is told apart.
const FINEST: u128 = 10_000;

/// `weight` is a backend's own, beside others of its part.
pub(super) fn weigh(parts: &[Part], weight: impl Fn(usize) -> u16) -> Vec<Chosen> {
    let weight = |i: usize| weight(i).max(1);
    if let [only] = parts {
        return only.members.iter().map(|i| Chosen { index: *i, weight: weight(*i) }).collect();
    }
    let exact = |part: &Part| {
        let total: u128 = part.members.iter().map(|i| u128::from(weight(*i))).sum();
        // Fixed point: the product of a share and a weight is below 2^36, and a part has far fewer than 2^32 members.
        let fraction = |i: usize| ((u128::from(part.share) * u128::from(weight(i))) << 64) / total.max(1);
        part.members.iter().map(|i| (*i, fraction(*i))).collect::<Vec<_>>()
    };
    let fractions: Vec<(usize, u128)> = parts.iter().flat_map(exact).collect();
    let largest = fractions.iter().map(|(_, fraction)| *fraction).max().unwrap_or(1).max(1);
    let scaled = |fraction: u128| u16::try_from((fraction * FINEST + largest / 2) / largest).unwrap_or(u16::MAX).max(1);
    fractions.into_iter().map(|(index, fraction)| Chosen { index, weight: scaled(fraction) }).collect()
}
