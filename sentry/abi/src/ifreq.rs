//! Interface requests: `<linux/if.h>`, `<linux/sockios.h>`, `<linux/ethtool.h>`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::constants::constants;

/// Room for an interface name, NUL included.
pub const IFNAMSIZ: usize = 16;

/// `struct ifreq` of x86-64: a name and a union of 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfReq {
    /// The interface.
    pub name: [u8; IFNAMSIZ],
    /// The union.
    pub data: [u8; 24],
}

/// `struct ifconf` of x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfConf {
    /// Bytes at `buf`.
    pub len: i32,
    /// Padding.
    pub pad: u32,
    /// An array of `ifreq`, or null to ask for the size.
    pub buf: u64,
}

/// `struct rtentry` of x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtEntry {
    /// Padding.
    pub pad1: u64,
    /// A `struct sockaddr_in`.
    pub destination: [u8; 16],
    /// The router, likewise.
    pub gateway: [u8; 16],
    /// The mask of the destination, likewise.
    pub mask: [u8; 16],
    /// `RTF_*`.
    pub flags: u16,
    /// Padding.
    pub pad2: [u16; 3],
    /// Padding.
    pub pad3: [u64; 2],
    /// One more than the metric; zero for none in particular.
    pub metric: i16,
    /// Padding.
    pub pad4: [u16; 3],
    /// Where the name of the interface is, or null.
    pub device: u64,
    /// The MTU, with `RTF_MTU`.
    pub mtu: u64,
    /// The window, with `RTF_WINDOW`.
    pub window: u64,
    /// The round-trip time, with `RTF_IRTT`.
    pub irtt: u16,
    /// Padding.
    pub pad5: [u16; 3],
}

/// `struct in6_rtmsg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct In6RtMsg {
    /// The destination.
    pub destination: [u8; 16],
    /// The source.
    pub source: [u8; 16],
    /// The router.
    pub gateway: [u8; 16],
    /// `RTMSG_*`.
    pub kind: u32,
    /// Bits of the destination.
    pub destination_len: u16,
    /// Bits of the source.
    pub source_len: u16,
    /// The metric.
    pub metric: u32,
    /// Padding.
    pub pad: u32,
    /// Seconds.
    pub info: u64,
    /// `RTF_*`.
    pub flags: u32,
    /// The interface.
    pub ifindex: i32,
}

/// `struct in6_ifreq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct In6IfReq {
    /// The address.
    pub address: [u8; 16],
    /// Bits of its network.
    pub prefix_len: u32,
    /// The interface.
    pub ifindex: i32,
}

/// `struct arpreq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArpReq {
    /// A `struct sockaddr_in`.
    pub protocol_address: [u8; 16],
    /// The station: `ARPHRD_*` and its address.
    pub hardware_address: [u8; 16],
    /// `ATF_*`.
    pub flags: i32,
    /// For entries of whole networks.
    pub mask: [u8; 16],
    /// The interface, or nothing.
    pub device: [u8; IFNAMSIZ],
}

constants! { u16;
    RTF_GATEWAY = 0x0002,
    RTF_HOST = 0x0004,
    RTF_MTU = 0x0040,
    RTF_REJECT = 0x0200,
}

constants! { i32;
    ATF_COM = 0x02,
    ATF_PERM = 0x04,
    ATF_PUBL = 0x08,
    ATF_NETMASK = 0x20,
}

constants! { u32;
    SIOCADDRT = 0x890b,
    SIOCDELRT = 0x890c,
    SIOCGIFNAME = 0x8910,
    SIOCGIFCONF = 0x8912,
    SIOCGIFFLAGS = 0x8913,
    SIOCSIFFLAGS = 0x8914,
    SIOCGIFADDR = 0x8915,
    SIOCSIFADDR = 0x8916,
    SIOCSIFDSTADDR = 0x8918,
    SIOCGIFDSTADDR = 0x8917,
    SIOCGIFBRDADDR = 0x8919,
    SIOCSIFBRDADDR = 0x891a,
    SIOCGIFNETMASK = 0x891b,
    SIOCSIFNETMASK = 0x891c,
    SIOCGIFMETRIC = 0x891d,
    SIOCGIFMTU = 0x8921,
    SIOCSIFMTU = 0x8922,
    SIOCSIFNAME = 0x8923,
    SIOCGIFHWADDR = 0x8927,
    SIOCSIFHWADDR = 0x8924,
    SIOCGIFSLAVE = 0x8929,
    SIOCGIFINDEX = 0x8933,
    SIOCDIFADDR = 0x8936,
    SIOCGIFPFLAGS = 0x8935,
    SIOCGIFCOUNT = 0x8938,
    SIOCGIFBR = 0x8940,
    SIOCGIFTXQLEN = 0x8942,
    SIOCETHTOOL = 0x8946,
    SIOCGMIIPHY = 0x8947,
    SIOCDARP = 0x8953,
    SIOCGARP = 0x8954,
    SIOCSARP = 0x8955,
    SIOCGIFMAP = 0x8970,
}

bitflags::bitflags! {
    /// Interface flags (`netdevice(7)`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    #[allow(missing_docs, reason = "the names are those of netdevice(7)")]
    pub struct IfFlags: u32 {
        const UP = 0x1;
        const BROADCAST = 0x2;
        const LOOPBACK = 0x8;
        const POINTOPOINT = 0x10;
        const RUNNING = 0x40;
        const NOARP = 0x80;
        const PROMISC = 0x100;
        const MULTICAST = 0x1000;
        const LOWER_UP = 0x10000;
    }
}

constants! { u32;
    ETHTOOL_GSET = 0x1,
    ETHTOOL_GDRVINFO = 0x3,
    ETHTOOL_GLINK = 0xa,
    ETHTOOL_GTSO = 0x1e,
    ETHTOOL_GGSO = 0x23,
    ETHTOOL_GGRO = 0x2b,
    ETHTOOL_GTXCSUM = 0x16,
    ETHTOOL_GRXCSUM = 0x14,
}
