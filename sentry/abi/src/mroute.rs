//! Multicast routing: `<linux/mroute.h>`, `<linux/mroute6.h>`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::constants::constants;

constants! { i32;
    MRT_INIT = 200,
    MRT_DONE = 201,
    MRT_ADD_VIF = 202,
    MRT_DEL_VIF = 203,
    MRT_ADD_MFC = 204,
    MRT_DEL_MFC = 205,
    MRT_VERSION = 206,
    MRT_ASSERT = 207,
    MRT_PIM = 208,
    MRT_TABLE = 209,
    MRT_ADD_MFC_PROXY = 210,
    MRT_DEL_MFC_PROXY = 211,
    MRT_FLUSH = 212,
    MRT6_INIT = 200,
    MRT6_DONE = 201,
    MRT6_ADD_MIF = 202,
    MRT6_DEL_MIF = 203,
    MRT6_ADD_MFC = 204,
    MRT6_DEL_MFC = 205,
    MRT6_VERSION = 206,
    MRT6_ASSERT = 207,
    MRT6_PIM = 208,
    MRT6_TABLE = 209,
    MRT6_ADD_MFC_PROXY = 210,
    MRT6_DEL_MFC_PROXY = 211,
    MRT6_FLUSH = 212,
}

constants! { u32;
    SIOCGETVIFCNT = 0x89e0,
    SIOCGETSGCNT = 0x89e1,
    MRT_FLUSH_MFC = 1,
    MRT_FLUSH_MFC_STATIC = 2,
    MRT_FLUSH_VIFS = 4,
    MRT_FLUSH_VIFS_STATIC = 8,
}

constants! { u8;
    VIFF_TUNNEL = 1,
    VIFF_REGISTER = 4,
    VIFF_USE_IFINDEX = 8,
    MIFF_REGISTER = 1,
    IGMPMSG_NOCACHE = 1,
    IGMPMSG_WRONGVIF = 2,
    IGMPMSG_WHOLEPKT = 3,
    IGMPMSG_WRVIFWHOLE = 4,
}

/// `RT_TABLE_DEFAULT`: the table that packets come to unless a rule says otherwise.
pub const MRT_TABLE_DEFAULT: u32 = 253;
/// `RT6_TABLE_DFLT`: the same for IPv6.
pub const MRT6_TABLE_DEFAULT: u32 = 254;
/// Numbers of tables are below this (the name of a table's interface has nine digits).
pub const MRT_TABLE_END: u32 = 1_000_000_000;

/// The version that `MRT_VERSION` and `MRT6_VERSION` tell.
pub const MRT_API_VERSION: i32 = 0x0305;

/// `struct vifctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VifCtl {
    /// The number.
    pub vifi: u16,
    /// `VIFF_*`.
    pub flags: u8,
    /// The threshold; not looked at.
    pub threshold: u8,
    /// The rate limit; not looked at.
    pub rate_limit: u32,
    /// An address of the interface, or its index.
    pub local: [u8; 4],
    /// The other end of a tunnel.
    pub remote: [u8; 4],
}

/// `struct mfcctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MfcCtl {
    /// The source.
    pub origin: [u8; 4],
    /// The group.
    pub group: [u8; 4],
    /// Where packets come in.
    pub parent: u16,
    /// Where they leave.
    pub ttls: [u8; 32],
    /// For alignment.
    pub padding: [u8; 2],
    /// Not looked at, like those that follow.
    pub packets: u32,
    /// As `packets`.
    pub bytes: u32,
    /// As `packets`.
    pub wrong: u32,
    /// As `packets`.
    pub expire: i32,
}

/// `struct mif6ctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mif6Ctl {
    /// The number.
    pub mifi: u16,
    /// `MIFF_*`.
    pub flags: u8,
    /// The threshold; not looked at.
    pub threshold: u8,
    /// The interface.
    pub index: u16,
    /// For alignment.
    pub padding: [u8; 2],
    /// The rate limit; not looked at.
    pub rate_limit: u32,
}

/// `struct mf6cctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mf6cCtl {
    /// The source, a `struct sockaddr_in6`.
    pub origin: SockAddrIn6,
    /// The group.
    pub group: SockAddrIn6,
    /// Where packets come in.
    pub parent: u16,
    /// For alignment.
    pub padding: [u8; 2],
    /// Where they leave: a set of 256 bits.
    pub outputs: [u32; 8],
}

/// `struct sockaddr_in6` with its address in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrIn6 {
    /// Family, port and flow label.
    pub head: [u8; 8],
    /// The address.
    pub address: [u8; 16],
    /// The zone.
    pub scope: [u8; 4],
}

/// `struct sioc_vif_req` and `struct sioc_mif_req6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SiocVifReq {
    /// The number.
    pub vifi: u16,
    /// For alignment.
    pub padding: [u8; 6],
    /// Packets in.
    pub packets_in: u64,
    /// Packets out.
    pub packets_out: u64,
    /// Bytes in.
    pub bytes_in: u64,
    /// Bytes out.
    pub bytes_out: u64,
}

/// `struct sioc_sg_req`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SiocSgReq {
    /// The source.
    pub source: [u8; 4],
    /// The group.
    pub group: [u8; 4],
    /// What the route carried.
    pub counts: SiocSgCounts,
}

/// `struct sioc_sg_req6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SiocSgReq6 {
    /// The source.
    pub source: SockAddrIn6,
    /// The group.
    pub group: SockAddrIn6,
    /// What the route carried.
    pub counts: SiocSgCounts,
}

/// The end of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SiocSgCounts {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets that came in elsewhere.
    pub wrong: u64,
}

/// `struct mrt6msg`: what a routing program of IPv6 is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mrt6Msg {
    /// Zero, which no type of an ICMPv6 message is.
    pub zero: u8,
    /// `MRT6MSG_*`, with the values of `IGMPMSG_*`.
    pub kind: u8,
    /// Where the packet came in.
    pub mif: u16,
    /// For alignment.
    pub padding: u32,
    /// The source.
    pub source: [u8; 16],
    /// The group.
    pub group: [u8; 16],
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a C compiler has them.
    #[test]
    fn sizes_are_those_of_the_headers() {
        let sizes = [
            size_of::<VifCtl>(),
            size_of::<MfcCtl>(),
            size_of::<Mif6Ctl>(),
            size_of::<Mf6cCtl>(),
            size_of::<SiocSgReq6>(),
            size_of::<SiocVifReq>(),
            size_of::<SiocSgReq>(),
            size_of::<Mrt6Msg>(),
        ];
        assert_eq!(sizes, [16, 60, 12, 92, 80, 40, 32, 40]);
    }
}
