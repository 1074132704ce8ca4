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

constants! { u32;
    SIOCADDRT = 0x890b,
    SIOCDELRT = 0x890c,
    SIOCGIFNAME = 0x8910,
    SIOCGIFCONF = 0x8912,
    SIOCGIFFLAGS = 0x8913,
    SIOCSIFFLAGS = 0x8914,
    SIOCGIFADDR = 0x8915,
    SIOCSIFADDR = 0x8916,
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
