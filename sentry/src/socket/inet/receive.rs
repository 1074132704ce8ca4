//! Which control messages a socket wants with what it receives.

use std::sync::atomic::{AtomicU32, Ordering};

bitflags::bitflags! {
    /// The switches of `ip(7)`, `ipv6(7)` and `udp(7)` about received datagrams.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Receive: u32 {
        /// `IP_PKTINFO`.
        const PKTINFO = 1;
        /// `IP_RECVTTL`.
        const TTL = 1 << 1;
        /// `IP_RECVTOS`.
        const TOS = 1 << 2;
        /// `IP_RECVORIGDSTADDR`.
        const ORIGINAL_DESTINATION = 1 << 3;
        /// `IPV6_RECVPKTINFO`.
        const PKTINFO_V6 = 1 << 4;
        /// `IPV6_RECVHOPLIMIT`.
        const HOP_LIMIT = 1 << 5;
        /// `IPV6_RECVTCLASS`.
        const TRAFFIC_CLASS = 1 << 6;
        /// `IPV6_RECVORIGDSTADDR`.
        const ORIGINAL_DESTINATION_V6 = 1 << 7;
        /// `UDP_GRO`.
        const GRO = 1 << 8;
        /// `TCP_INQ`.
        const IN_QUEUE = 1 << 9;
        /// `IPV6_FLOWINFO`.
        const FLOW_INFO = 1 << 10;
        /// `IPV6_FLOWINFO_SEND`: not about what is received, but flow labels in addresses to send to.
        const FLOW_INFO_SEND = 1 << 11;
        /// `IPV6_2292PKTINFO`: packet information by the number of RFC 2292.
        const PKTINFO_2292 = 1 << 12;
        /// `IPV6_2292HOPLIMIT`.
        const HOP_LIMIT_2292 = 1 << 13;
        /// `IP_RECVOPTS`.
        const OPTIONS = 1 << 14;
        /// `IP_RETOPTS`: as an answer would be sent with.
        const OPTIONS_ECHOED = 1 << 15;
        /// `IPV6_RECVHOPOPTS`.
        const HOP_BY_HOP = 1 << 16;
        /// `IPV6_RECVRTHDR`.
        const ROUTING = 1 << 17;
        /// `IPV6_RECVDSTOPTS`.
        const DESTINATION = 1 << 18;
        /// `IPV6_2292HOPOPTS`.
        const HOP_BY_HOP_2292 = 1 << 19;
        /// `IPV6_2292RTHDR`.
        const ROUTING_2292 = 1 << 20;
        /// `IPV6_2292DSTOPTS`.
        const DESTINATION_2292 = 1 << 21;
    }
}

/// The switches of one socket. Independent bits: relaxed ordering is enough.
#[derive(Debug, Default)]
pub struct ReceiveSwitches(AtomicU32);

impl ReceiveSwitches {
    /// Those that are on.
    #[must_use]
    pub fn get(&self) -> Receive {
        Receive::from_bits_retain(self.0.load(Ordering::Relaxed))
    }

    /// Turns `switch` on or off.
    pub fn set(&self, switch: Receive, on: bool) {
        if on {
            self.0.fetch_or(switch.bits(), Ordering::Relaxed);
        } else {
            self.0.fetch_and(!switch.bits(), Ordering::Relaxed);
        }
    }
}
