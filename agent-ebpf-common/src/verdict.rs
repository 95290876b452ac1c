//! Where a packet was seen, what was done with it and why. Enumerated once: the programs count by these numbers, and
//! metrics, `meshctl bpf dump` and flow events print these names.

macro_rules! numbered {
    ($(#[$doc:meta])* $module:ident { $($(#[$item:meta])* $name:ident = $value:literal => $text:literal,)* }) => {
        $(#[$doc])*
        pub mod $module {
            $($(#[$item])* pub const $name: u8 = $value;)*
            /// Every number with its name, in order.
            pub const ALL: &[(u8, &str)] = &[$(($name, $text)),*];
            /// The name of a number, or `unknown` for one that a newer program wrote.
            pub fn name(value: u8) -> &'static str {
                match value {
                    $($name => $text,)*
                    _ => "unknown",
                }
            }
        }
    };
}

numbered! {
    /// The program that counted.
    direction {
        FROM_POD = 1 => "from_pod",
        TO_POD = 2 => "to_pod",
        FROM_MESH = 3 => "from_mesh",
        FROM_TUNNEL = 4 => "from_tunnel",
        TO_WAN = 5 => "to_wan",
        SOCKET = 6 => "socket",
    }
}

numbered! {
    /// What became of the packet.
    verdict {
        FORWARD = 1 => "forward",
        DROP = 2 => "drop",
        /// Went on, and something about it is worth counting.
        NOTE = 3 => "note",
    }
}

numbered! {
    /// Why. Below 64: forwarded or noted; from 64: dropped.
    reason {
        /// Put into the tunnel to another cluster's node.
        ENCAPSULATED = 1 => "encapsulated",
        /// Taken from the tunnel and handed to the pod's device.
        DELIVERED = 2 => "delivered",
        /// First packet of a flow to a service address, translated per packet.
        TRANSLATED = 3 => "translated",
        /// A socket's connect to a service address was sent to a backend.
        CONNECTED = 4 => "connected",
        /// The VNI and the ipcache disagree about the source's identity; the VNI counted.
        IDENTITY_LAG = 5 => "identity_lag",
        /// Too big for the tunnel and not to be fragmented: left to the kernel, which answers with the path's MTU.
        TOO_BIG = 6 => "too_big",

        /// The destination belongs to a peer whose path is not up.
        NO_PATH = 64 => "no_path",
        /// The source address is not one of this device's pod.
        SPOOFED_SOURCE = 65 => "spoofed_source",
        /// The service has no backend.
        NO_BACKEND = 66 => "no_backend",
        /// Headers could not be rewritten.
        REWRITE_FAILED = 67 => "rewrite_failed",
        /// The agent has not written the configuration yet.
        NOT_CONFIGURED = 68 => "not_configured",
        /// The tunnel key could not be set or read.
        TUNNEL_KEY = 69 => "tunnel_key",
        /// Arrived in clear where the secure device was required.
        NOT_ENCRYPTED = 70 => "not_encrypted",
        /// The sending node is not a node of the cluster that the identity belongs to.
        OUTER_SOURCE = 71 => "outer_source",
        /// The inner source lies outside the sending cluster's prefixes.
        INNER_SOURCE = 72 => "inner_source",
        /// The inner source is known to be on another node.
        OTHER_NODE = 73 => "other_node",
        /// No such pod here.
        NO_ENDPOINT = 74 => "no_endpoint",
        /// Would have left in clear towards a peer's prefix.
        LEAK = 75 => "leak",
        /// VXLAN of the mesh on an uplink while encryption is required.
        CLEAR_TUNNEL = 76 => "clear_tunnel",
        /// IPv6 towards or from the mesh: not supported yet.
        FAMILY = 77 => "family",
        /// A fragmented packet to a service address: only its first part has ports.
        FRAGMENT = 78 => "fragment",
        /// Headers cut short.
        MALFORMED = 79 => "malformed",
    }
}

/// Reasons from here on are drops.
pub const FIRST_DROP: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_sorted() {
        for table in [direction::ALL, verdict::ALL, reason::ALL] {
            for pair in table.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{pair:?}");
            }
            let names: std::collections::BTreeSet<_> = table.iter().map(|(_, name)| name).collect();
            assert_eq!(names.len(), table.len());
        }
        assert_eq!(reason::name(reason::OTHER_NODE), "other_node");
        assert_eq!(reason::name(255), "unknown");
    }
}
