//! Packet sockets: `<linux/if_packet.h>`, `<linux/if_ether.h>`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::constants::constants;

/// `struct sockaddr_ll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrLl {
    /// `AF_PACKET`.
    pub family: u16,
    /// The EtherType in network order.
    pub protocol: [u8; 2],
    /// The interface.
    pub ifindex: i32,
    /// `ARPHRD_*`.
    pub hatype: u16,
    /// `PACKET_HOST`, ...
    pub pkttype: u8,
    /// Bytes of `addr` that are used.
    pub halen: u8,
    /// The station.
    pub addr: [u8; 8],
}

constants! { i32;
    PACKET_ADD_MEMBERSHIP = 1,
    PACKET_DROP_MEMBERSHIP = 2,
    PACKET_RX_RING = 5,
    PACKET_STATISTICS = 6,
    PACKET_AUXDATA = 8,
    PACKET_VERSION = 10,
    PACKET_HDRLEN = 11,
    PACKET_RESERVE = 12,
    PACKET_TX_RING = 13,
    PACKET_VNET_HDR = 15,
    PACKET_FANOUT = 18,
    PACKET_IGNORE_OUTGOING = 23,
    PACKET_MR_MULTICAST = 0,
    PACKET_MR_PROMISC = 1,
    PACKET_MR_ALLMULTI = 2,
}

constants! { u8;
    PACKET_HOST = 0,
    PACKET_BROADCAST = 1,
    PACKET_MULTICAST = 2,
    PACKET_OTHERHOST = 3,
    PACKET_OUTGOING = 4,
}

constants! { u16;
    ETH_P_ALL = 3,
    ETH_P_IP = 0x800,
    ETH_P_IPV6 = 0x86dd,
    ARPHRD_ETHER = 1,
    ARPHRD_LOOPBACK = 772,
    ARPHRD_NONE = 0xfffe,
}

/// `struct tpacket_stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketStats {
    /// Frames seen.
    pub packets: u32,
    /// Frames lost to a full buffer.
    pub drops: u32,
}
