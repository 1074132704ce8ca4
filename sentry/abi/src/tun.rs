//! Tunnel devices: `<linux/if_tun.h>`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::constants::constants;

/// `struct tun_pi`: what is in front of each packet without `IFF_NO_PI`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TunPi {
    /// `TUN_PKT_STRIP`.
    pub flags: u16,
    /// The EtherType in network order.
    pub proto: [u8; 2],
}

constants! { u32;
    TUNSETNOCSUM = 0x4004_54c8,
    TUNSETDEBUG = 0x4004_54c9,
    TUNSETIFF = 0x4004_54ca,
    TUNSETPERSIST = 0x4004_54cb,
    TUNSETOWNER = 0x4004_54cc,
    TUNSETLINK = 0x4004_54cd,
    TUNSETGROUP = 0x4004_54ce,
    TUNGETFEATURES = 0x8004_54cf,
    TUNSETOFFLOAD = 0x4004_54d0,
    TUNSETTXFILTER = 0x4004_54d1,
    TUNGETIFF = 0x8004_54d2,
    TUNGETSNDBUF = 0x8004_54d3,
    TUNSETSNDBUF = 0x4004_54d4,
    TUNATTACHFILTER = 0x4010_54d5,
    TUNDETACHFILTER = 0x4010_54d6,
    TUNGETVNETHDRSZ = 0x8004_54d7,
    TUNSETVNETHDRSZ = 0x4004_54d8,
    TUNSETQUEUE = 0x4004_54d9,
    TUNSETIFINDEX = 0x4004_54da,
    TUNGETFILTER = 0x8010_54db,
    TUNSETVNETLE = 0x4004_54dc,
    TUNGETVNETLE = 0x8004_54dd,
    TUNSETCARRIER = 0x4004_54e2,
    TUNGETDEVNETNS = 0x54e3,
    SIOCGSKNS = 0x894c,

    IFF_TUN = 0x0001,
    IFF_TAP = 0x0002,
    IFF_NAPI = 0x0010,
    IFF_NAPI_FRAGS = 0x0020,
    IFF_NO_CARRIER = 0x0040,
    IFF_MULTI_QUEUE = 0x0100,
    IFF_ATTACH_QUEUE = 0x0200,
    IFF_DETACH_QUEUE = 0x0400,
    IFF_PERSIST = 0x0800,
    IFF_NO_PI = 0x1000,
    IFF_NOFILTER = 0x1000,
    IFF_ONE_QUEUE = 0x2000,
    IFF_VNET_HDR = 0x4000,
    IFF_TUN_EXCL = 0x8000,

    TUN_F_CSUM = 0x01,
    TUN_F_TSO4 = 0x02,
    TUN_F_TSO6 = 0x04,
    TUN_F_TSO_ECN = 0x08,
    TUN_F_UFO = 0x10,
    TUN_F_USO4 = 0x20,
    TUN_F_USO6 = 0x40,
    TUN_F_UDP_TUNNEL_GSO = 0x080,
    TUN_F_UDP_TUNNEL_GSO_CSUM = 0x100,
}

constants! { u16;
    TUN_PKT_STRIP = 1,
    TUN_FLT_ALLMULTI = 1,
}
