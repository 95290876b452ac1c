//! Findings about what was measured and not declared: certificates in use, and how large a packet passes. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{Finding, Severity};

/// A leaf is renewed with a third of its life left, so one that ends sooner than this was not.
const SOON: Duration = Duration::from_hours(7 * 24);
/// Below it IPv6, and much that was built for the Internet, does not work (RFC 8200, section 5).
const LEAST_MTU: u32 = 1280;

/// A certificate that ends at `not_after`; `whose` says whose and where, as the beginning of a sentence.
pub fn of_certificate(whose: &str, not_after: Timestamp, now: Timestamp) -> Finding {
    let text = format!("{whose} is valid until {not_after}");
    if not_after <= now {
        let text = format!("{text}, which is past: restart its server, and check its clock");
        return Finding::new(Severity::Fail, "certificate", text);
    }
    if now.duration_until(not_after).unsigned_abs() < SOON {
        let text = format!("{text}: it should have been renewed by now, see its server's log");
        return Finding::new(Severity::Warn, "certificate", text);
    }
    Finding::new(Severity::Pass, "certificate", text)
}

/// Each node of a cluster with the largest packet that its tunnel takes, bytes. `None` where no agent says.
pub fn of_mtu(cluster: &str, nodes: &[(String, u32)]) -> Option<Finding> {
    let (smallest, largest) = (nodes.iter().min_by_key(|(_, mtu)| *mtu)?, nodes.iter().max_by_key(|(_, mtu)| *mtu)?);
    let text = format!("nodes of {cluster} take packets of up to {} bytes between clusters", smallest.1);
    Some(if smallest.1 < LEAST_MTU {
        let node = &smallest.0;
        let text = format!("{text} ({node}), fewer than {LEAST_MTU}: raise the MTU of its uplink");
        Finding::new(Severity::Fail, "mtu", text)
    } else if smallest.1 != largest.1 {
        let text = format!(
            "{text} ({}), {} of up to {}: TCP follows the smaller, larger UDP is answered with \"too big\"; give their \
             uplinks one MTU",
            smallest.0, largest.0, largest.1
        );
        Finding::new(Severity::Warn, "mtu", text)
    } else {
        Finding::new(Severity::Pass, "mtu", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_was_not_renewed_or_has_ended_is_told() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let of = |hours: i64| of_certificate("the own certificate", now + jiff::SignedDuration::from_hours(hours), now);
        assert_eq!(
            [of(24 * 8), of(24 * 6), of(0)].map(|finding| finding.severity),
            [Severity::Pass, Severity::Warn, Severity::Fail]
        );
        assert!(of(-1).text.contains("which is past: restart its server"), "{}", of(-1).text);
    }

    #[test]
    fn nodes_that_take_little_or_differ_are_named() {
        let of = |list: &[(&str, u32)]| {
            let nodes: Vec<(String, u32)> = list.iter().map(|(node, mtu)| ((*node).to_owned(), *mtu)).collect();
            of_mtu("east", &nodes).map(|finding| (finding.severity, finding.text))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("e1", 1370), ("e2", 1370)]).unwrap().0, Severity::Pass);
        let (severity, text) = of(&[("e1", 8871), ("e2", 1370)]).unwrap();
        assert!(
            severity == Severity::Warn && text.contains("1370 bytes between clusters (e2), e1 of up to 8871"),
            "{text}"
        );
        let (severity, text) = of(&[("e1", 1200), ("e2", 1370)]).unwrap();
        assert!(severity == Severity::Fail && text.contains("(e1), fewer than 1280: raise the MTU"), "{text}");
    }
}
