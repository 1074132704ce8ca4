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
    PACKET_COPY_THRESH = 7,
    PACKET_AUXDATA = 8,
    PACKET_ORIGDEV = 9,
    PACKET_VERSION = 10,
    PACKET_HDRLEN = 11,
    PACKET_RESERVE = 12,
    PACKET_TX_RING = 13,
    PACKET_LOSS = 14,
    PACKET_VNET_HDR = 15,
    PACKET_TIMESTAMP = 17,
    PACKET_FANOUT = 18,
    PACKET_TX_HAS_OFF = 19,
    PACKET_QDISC_BYPASS = 20,
    PACKET_FANOUT_DATA = 22,
    PACKET_IGNORE_OUTGOING = 23,
    PACKET_VNET_HDR_SZ = 24,
    PACKET_MR_MULTICAST = 0,
    PACKET_MR_PROMISC = 1,
    PACKET_MR_ALLMULTI = 2,
    PACKET_MR_UNICAST = 3,
    TPACKET_V1 = 0,
    TPACKET_V2 = 1,
    TPACKET_V3 = 2,
}

constants! { u32;
    TP_STATUS_KERNEL = 0,
    TP_STATUS_USER = 1,
    TP_STATUS_LOSING = 1 << 2,
    TP_STATUS_CSUMNOTREADY = 1 << 3,
    TP_STATUS_BLK_TMO = 1 << 5,
    TP_STATUS_CSUM_VALID = 1 << 7,
    TP_STATUS_SEND_REQUEST = 1,
    TP_STATUS_WRONG_FORMAT = 1 << 2,
    TP_STATUS_AVAILABLE = 0,
}

constants! { u16;
    PACKET_FANOUT_HASH = 0,
    PACKET_FANOUT_LB = 1,
    PACKET_FANOUT_CPU = 2,
    PACKET_FANOUT_ROLLOVER = 3,
    PACKET_FANOUT_RND = 4,
    PACKET_FANOUT_QM = 5,
    PACKET_FANOUT_CBPF = 6,
    PACKET_FANOUT_FLAG_UNIQUEID = 0x2000,
    PACKET_FANOUT_FLAG_DEFRAG = 0x8000,
}

constants! { u8;
    VIRTIO_NET_HDR_F_NEEDS_CSUM = 1,
    VIRTIO_NET_HDR_F_DATA_VALID = 2,
    VIRTIO_NET_HDR_GSO_NONE = 0,
    VIRTIO_NET_HDR_GSO_TCPV4 = 1,
    VIRTIO_NET_HDR_GSO_UDP = 3,
    VIRTIO_NET_HDR_GSO_TCPV6 = 4,
    VIRTIO_NET_HDR_GSO_UDP_L4 = 5,
    VIRTIO_NET_HDR_GSO_ECN = 0x80,
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

/// `struct tpacket_stats_v3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketStatsV3 {
    /// Frames seen.
    pub packets: u32,
    /// Frames lost to a full ring.
    pub drops: u32,
    /// How often the ring was full.
    pub freezes: u32,
}

/// `struct tpacket_req3`; without its last three fields, `struct tpacket_req`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketReq3 {
    /// The size of a block.
    pub block_size: u32,
    /// The number of blocks.
    pub block_nr: u32,
    /// The size of a frame.
    pub frame_size: u32,
    /// The number of frames.
    pub frame_nr: u32,
    /// After how many milliseconds a block is handed over that is not full.
    pub retire_blk_tov: u32,
    /// Bytes of a block that are the application's own.
    pub sizeof_priv: u32,
    /// `TP_FT_REQ_FILL_RXHASH`.
    pub feature_req_word: u32,
}

/// `struct tpacket_auxdata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketAuxdata {
    /// `TP_STATUS_*`.
    pub status: u32,
    /// The length of the frame.
    pub len: u32,
    /// The length that the filter left.
    pub snaplen: u32,
    /// Where the link-layer header is.
    pub mac: u16,
    /// Where the network header is.
    pub net: u16,
    /// The tag of a VLAN that was taken off.
    pub vlan_tci: u16,
    /// Its protocol.
    pub vlan_tpid: u16,
}

/// `struct virtio_net_hdr` (`<linux/virtio_net.h>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VirtioNetHdr {
    /// `VIRTIO_NET_HDR_F_*`.
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`.
    pub gso_type: u8,
    /// The length of the headers.
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// Where the unfinished checksum starts.
    pub csum_start: u16,
    /// Where it is stored, counted from there.
    pub csum_offset: u16,
}

/// `struct packet_mreq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketMreq {
    /// The interface.
    pub ifindex: i32,
    /// `PACKET_MR_*`.
    pub kind: u16,
    /// Bytes of `address` that are used.
    pub alen: u16,
    /// The group or station.
    pub address: [u8; 8],
}
