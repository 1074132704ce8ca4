//! Internet protocols: `<netinet/in.h>`, `<netinet/tcp.h>`, `<linux/errqueue.h>`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::constants::constants;

constants! { i32;
    IPPROTO_IP = 0,
    IPPROTO_ICMP = 1,
    IPPROTO_IGMP = 2,
    IPPROTO_TCP = 6,
    IPPROTO_UDP = 17,
    IPPROTO_IPV6 = 41,
    IPPROTO_ICMPV6 = 58,
    IPPROTO_RAW = 255,

    IPPROTO_MAX = 263,
}

constants! { i32;
    IP_TOS = 1,
    IP_TTL = 2,
    IP_HDRINCL = 3,
    IP_OPTIONS = 4,
    IP_ROUTER_ALERT = 5,
    IP_RECVOPTS = 6,
    IP_RETOPTS = 7,
    IP_PKTINFO = 8,
    IP_PKTOPTIONS = 9,
    IP_MTU_DISCOVER = 10,
    IP_RECVERR = 11,
    IP_RECVTTL = 12,
    IP_RECVTOS = 13,
    IP_MTU = 14,
    IP_FREEBIND = 15,
    IP_PASSSEC = 18,
    IP_TRANSPARENT = 19,
    IP_RECVORIGDSTADDR = 20,
    IP_MINTTL = 21,
    IP_NODEFRAG = 22,
    IP_BIND_ADDRESS_NO_PORT = 24,
    IP_RECVFRAGSIZE = 25,
    IP_MULTICAST_IF = 32,
    IP_MULTICAST_TTL = 33,
    IP_MULTICAST_LOOP = 34,
    /// Read, it is `IPT_SO_GET_INFO`.
    IPT_SO_SET_REPLACE = 64,
    /// Read, it is `IPT_SO_GET_ENTRIES`.
    IPT_SO_SET_ADD_COUNTERS = 65,
    IPT_SO_GET_REVISION_MATCH = 66,
    IPT_SO_GET_REVISION_TARGET = 67,
    IP6T_SO_SET_REPLACE = 64,
    IP6T_SO_SET_ADD_COUNTERS = 65,
    IP6T_SO_GET_REVISION_MATCH = 68,
    IP6T_SO_GET_REVISION_TARGET = 69,
    IP_UNBLOCK_SOURCE = 37,
    IP_BLOCK_SOURCE = 38,
    IP_ADD_SOURCE_MEMBERSHIP = 39,
    IP_DROP_SOURCE_MEMBERSHIP = 40,
    IP_MSFILTER = 41,
    MCAST_JOIN_GROUP = 42,
    MCAST_BLOCK_SOURCE = 43,
    MCAST_UNBLOCK_SOURCE = 44,
    MCAST_LEAVE_GROUP = 45,
    MCAST_JOIN_SOURCE_GROUP = 46,
    MCAST_LEAVE_SOURCE_GROUP = 47,
    MCAST_MSFILTER = 48,
    IP_ADD_MEMBERSHIP = 35,
    IP_DROP_MEMBERSHIP = 36,
    IP_MULTICAST_ALL = 49,
    IP_UNICAST_IF = 50,
    IP_LOCAL_PORT_RANGE = 51,
    IP_PROTOCOL = 52,
    SO_ORIGINAL_DST = 80,
}

constants! { i32;
    IPV6_ADDRFORM = 1,
    IPV6_2292PKTINFO = 2,
    IPV6_2292HOPOPTS = 3,
    IPV6_2292DSTOPTS = 4,
    IPV6_2292RTHDR = 5,
    IPV6_RECVHOPOPTS = 53,
    IPV6_HOPOPTS = 54,
    IPV6_RTHDRDSTOPTS = 55,
    IPV6_RECVRTHDR = 56,
    IPV6_RTHDR = 57,
    IPV6_RECVDSTOPTS = 58,
    IPV6_DSTOPTS = 59,
    IPV6_2292HOPLIMIT = 8,
    IPV6_CHECKSUM = 7,
    IPV6_NEXTHOP = 9,
    IPV6_FLOWINFO = 11,
    IPV6_UNICAST_HOPS = 16,
    IPV6_MULTICAST_IF = 17,
    IPV6_MULTICAST_HOPS = 18,
    IPV6_MULTICAST_LOOP = 19,
    IPV6_ADD_MEMBERSHIP = 20,
    IPV6_DROP_MEMBERSHIP = 21,
    IPV6_ROUTER_ALERT = 22,
    IPV6_MTU_DISCOVER = 23,
    IPV6_MTU = 24,
    IPV6_RECVERR = 25,
    IPV6_V6ONLY = 26,
    IPV6_JOIN_ANYCAST = 27,
    IPV6_LEAVE_ANYCAST = 28,
    IPV6_MULTICAST_ALL = 29,
    IPV6_ROUTER_ALERT_ISOLATE = 30,
    IPV6_FLOWLABEL_MGR = 32,
    IPV6_FLOWINFO_SEND = 33,
    IPV6_AUTOFLOWLABEL = 70,
    IPV6_RECVPKTINFO = 49,
    IPV6_PKTINFO = 50,
    IPV6_RECVHOPLIMIT = 51,
    IPV6_HOPLIMIT = 52,
    IPV6_RECVTCLASS = 66,
    IPV6_TCLASS = 67,
    IPV6_ADDR_PREFERENCES = 72,
    IPV6_MINHOPCOUNT = 73,
    IPV6_RECVORIGDSTADDR = 74,
    IPV6_TRANSPARENT = 75,
    IPV6_UNICAST_IF = 76,
    IPV6_FREEBIND = 78,
    IPV6_PATHMTU = 61,
    IPV6_DONTFRAG = 62,
    ICMPV6_FILTER = 1,
    ICMP_FILTER = 1,
}

constants! { i32;
    IP_PMTUDISC_DONT = 0,
    IP_PMTUDISC_WANT = 1,
    IP_PMTUDISC_DO = 2,
    IP_PMTUDISC_PROBE = 3,
    IP_PMTUDISC_INTERFACE = 4,
    IP_PMTUDISC_OMIT = 5,
}

constants! { i32;
    TCP_NODELAY = 1,
    TCP_MAXSEG = 2,
    TCP_CORK = 3,
    TCP_KEEPIDLE = 4,
    TCP_KEEPINTVL = 5,
    TCP_KEEPCNT = 6,
    TCP_SYNCNT = 7,
    TCP_LINGER2 = 8,
    TCP_DEFER_ACCEPT = 9,
    TCP_WINDOW_CLAMP = 10,
    TCP_INFO = 11,
    TCP_QUICKACK = 12,
    TCP_CONGESTION = 13,
    TCP_MD5SIG = 14,
    TCP_THIN_LINEAR_TIMEOUTS = 16,
    TCP_THIN_DUPACK = 17,
    TCP_USER_TIMEOUT = 18,
    TCP_REPAIR = 19,
    TCP_REPAIR_QUEUE = 20,
    TCP_QUEUE_SEQ = 21,
    TCP_REPAIR_OPTIONS = 22,
    TCP_FASTOPEN = 23,
    TCP_TIMESTAMP = 24,
    TCP_NOTSENT_LOWAT = 25,
    TCP_CC_INFO = 26,
    TCP_SAVE_SYN = 27,
    TCP_SAVED_SYN = 28,
    TCP_REPAIR_WINDOW = 29,
    TCP_FASTOPEN_CONNECT = 30,
    TCP_ULP = 31,
    TCP_MD5SIG_EXT = 32,
    TCP_FASTOPEN_KEY = 33,
    TCP_FASTOPEN_NO_COOKIE = 34,
    TCP_ZEROCOPY_RECEIVE = 35,
    TCP_INQ = 36,
    TCP_CM_INQ = 36,
    TCP_TX_DELAY = 37,
    TCP_IS_MPTCP = 43,
    TCP_RTO_MAX_MS = 44,
    TCP_RTO_MIN_US = 45,
    TCP_DELACK_MAX_US = 46,
    UDP_CORK = 1,
    UDPLITE_SEND_CSCOV = 10,
    UDPLITE_RECV_CSCOV = 11,
    UDP_ENCAP = 100,
    UDP_SEGMENT = 103,
    UDP_GRO = 104,
}

/// `struct in_pktinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InPktinfo {
    /// The interface; zero is any.
    pub ifindex: i32,
    /// The local address: on receive the one the packet was delivered to, on send the source.
    pub spec_dst: [u8; 4],
    /// The destination in the header.
    pub addr: [u8; 4],
}

/// `struct in6_pktinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct In6Pktinfo {
    /// The address.
    pub addr: [u8; 16],
    /// The interface; zero is any.
    pub ifindex: u32,
}

/// `struct ip_mreqn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpMreqn {
    /// The group.
    pub group: [u8; 4],
    /// A local address that names the interface.
    pub local: [u8; 4],
    /// The interface; zero is "by address or routing".
    pub ifindex: i32,
}

/// `struct ipv6_mreq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ipv6Mreq {
    /// The group.
    pub group: [u8; 16],
    /// The interface; zero is "by routing".
    pub ifindex: u32,
}

constants! { u8;
    SO_EE_ORIGIN_NONE = 0,
    SO_EE_ORIGIN_LOCAL = 1,
    SO_EE_ORIGIN_ICMP = 2,
    SO_EE_ORIGIN_ICMP6 = 3,
    SO_EE_ORIGIN_TIMESTAMPING = 4,
}

/// `struct sock_extended_err`; the offender's address follows in the control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockExtendedErr {
    /// The errno.
    pub errno: u32,
    /// `SO_EE_ORIGIN_*`.
    pub origin: u8,
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
    /// Padding.
    pub pad: u8,
    /// The path MTU for `EMSGSIZE`.
    pub info: u32,
    /// Unused.
    pub data: u32,
}

/// `struct tcp_info`, as of Linux 6.7 (248 bytes). Older programs read a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of linux/tcp.h without tcpi_")]
pub struct TcpInfo {
    pub state: u8,
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    pub options: u8,
    /// `snd_wscale` in the low four bits, `rcv_wscale` in the high four.
    pub wscale: u8,
    pub app_limited: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub fackets: u32,
    pub last_data_sent: u32,
    pub last_ack_sent: u32,
    pub last_data_recv: u32,
    pub last_ack_recv: u32,
    pub pmtu: u32,
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    pub rcv_space: u32,
    pub total_retrans: u32,
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    pub rehash: u32,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    pub total_rto_time: u32,
    pub received_ce: u32,
    pub delivered_e1_bytes: u32,
    pub delivered_e0_bytes: u32,
    pub delivered_ce_bytes: u32,
    pub received_e1_bytes: u32,
    pub received_e0_bytes: u32,
    pub received_ce_bytes: u32,
    pub accecn_fail_mode: u16,
    pub accecn_opt_seen: u16,
}

constants! { u8;
    TCPI_OPT_TIMESTAMPS = 1,
    TCPI_OPT_SACK = 2,
    TCPI_OPT_WSCALE = 4,
    TCPI_OPT_ECN = 8,
}

constants! { u8;
    TCP_ESTABLISHED = 1,
    TCP_SYN_SENT = 2,
    TCP_SYN_RECV = 3,
    TCP_FIN_WAIT1 = 4,
    TCP_FIN_WAIT2 = 5,
    TCP_TIME_WAIT = 6,
    TCP_CLOSE = 7,
    TCP_CLOSE_WAIT = 8,
    TCP_LAST_ACK = 9,
    TCP_LISTEN = 10,
    TCP_CLOSING = 11,
}

constants! { u8;
    IPV6_FL_A_GET = 0,
    IPV6_FL_A_PUT = 1,
    IPV6_FL_A_RENEW = 2,
    IPV6_FL_S_NONE = 0,
    IPV6_FL_S_EXCL = 1,
    IPV6_FL_S_PROCESS = 2,
    IPV6_FL_S_USER = 3,
    IPV6_FL_S_ANY = 255,
}

constants! { u16;
    IPV6_FL_F_CREATE = 1,
    IPV6_FL_F_EXCL = 2,
    IPV6_FL_F_REFLECT = 4,
    IPV6_FL_F_REMOTE = 8,
}

/// `struct in6_flowlabel_req`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct In6FlowlabelReq {
    /// The destination.
    pub dst: [u8; 16],
    /// The label in network order.
    pub label: [u8; 4],
    /// `IPV6_FL_A_*`.
    pub action: u8,
    /// `IPV6_FL_S_*`.
    pub share: u8,
    /// `IPV6_FL_F_*`.
    pub flags: u16,
    /// For how many seconds the label is used.
    pub expires: u16,
    /// For how many seconds it is kept afterwards.
    pub linger: u16,
    /// Not used.
    pub padding: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_info_has_the_size_and_offsets_of_linux() {
        assert_eq!(size_of::<TcpInfo>(), 280);
        assert_eq!(core::mem::offset_of!(TcpInfo, total_retrans), 100);
        assert_eq!(core::mem::offset_of!(TcpInfo, bytes_acked), 120);
        assert_eq!(core::mem::offset_of!(TcpInfo, delivery_rate), 160);
        assert_eq!(core::mem::offset_of!(TcpInfo, snd_wnd), 228);
    }
}
