//! Netlink: `<linux/netlink.h>`, `<linux/rtnetlink.h>`, `<linux/if_link.h>`, `<linux/neighbour.h>`,
//! `<linux/inet_diag.h>`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::constants::constants;

constants! { i32;
    NETLINK_ROUTE = 0,
    NETLINK_USERSOCK = 2,
    NETLINK_SOCK_DIAG = 4,
    NETLINK_AUDIT = 9,
    NETLINK_NETFILTER = 12,
    NETLINK_KOBJECT_UEVENT = 15,
    NETLINK_GENERIC = 16,
}

/// `struct sockaddr_nl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrNl {
    /// `AF_NETLINK`.
    pub family: u16,
    /// Padding.
    pub pad: u16,
    /// The port id; zero is the kernel.
    pub pid: u32,
    /// Multicast groups as a mask.
    pub groups: u32,
}

/// `struct nlmsghdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NlMsgHdr {
    /// Length with the header.
    pub len: u32,
    /// `RTM_*` or `NLMSG_*`.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The sender's sequence number.
    pub seq: u32,
    /// The sender's port id.
    pub pid: u32,
}

constants! { u16;
    NLMSG_NOOP = 1,
    NLMSG_ERROR = 2,
    NLMSG_DONE = 3,
    NLMSG_MIN_TYPE = 0x10,
    NLM_F_REQUEST = 1,
    NLM_F_MULTI = 2,
    NLM_F_ACK = 4,
    NLM_F_ECHO = 8,
    NLM_F_DUMP_INTR = 0x10,
    NLM_F_ROOT = 0x100,
    NLM_F_MATCH = 0x200,
    NLM_F_DUMP = 0x300,
    NLM_F_REPLACE = 0x100,
    NLM_F_EXCL = 0x200,
    NLM_F_CREATE = 0x400,
    NLM_F_APPEND = 0x800,
    NLM_F_CAPPED = 0x100,
    NLM_F_ACK_TLVS = 0x200,
    NLMSGERR_ATTR_MSG = 1,
    NLMSGERR_ATTR_OFFS = 2,
}

constants! { i32;
    NETLINK_ADD_MEMBERSHIP = 1,
    NETLINK_DROP_MEMBERSHIP = 2,
    NETLINK_PKTINFO = 3,
    NETLINK_BROADCAST_ERROR = 4,
    NETLINK_NO_ENOBUFS = 5,
    NETLINK_LISTEN_ALL_NSID = 8,
    NETLINK_LIST_MEMBERSHIPS = 9,
    NETLINK_CAP_ACK = 10,
    NETLINK_EXT_ACK = 11,
    NETLINK_GET_STRICT_CHK = 12,
}

constants! { u16;
    RTM_NEWLINK = 16,
    RTM_DELLINK = 17,
    RTM_GETLINK = 18,
    RTM_SETLINK = 19,
    RTM_NEWADDR = 20,
    RTM_DELADDR = 21,
    RTM_GETADDR = 22,
    RTM_NEWROUTE = 24,
    RTM_DELROUTE = 25,
    RTM_GETROUTE = 26,
    RTM_NEWNEIGH = 28,
    RTM_DELNEIGH = 29,
    RTM_GETNEIGH = 30,
    RTM_NEWRULE = 32,
    RTM_DELRULE = 33,
    RTM_GETRULE = 34,
    RTM_NEWNSID = 88,
    RTM_DELNSID = 89,
    RTM_GETNSID = 90,
    RTM_NEWCACHEREPORT = 96,
    RTM_MAX = 123,
}

/// `struct rtattr`; the value follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtAttr {
    /// Length with the header, without padding.
    pub len: u16,
    /// The attribute.
    pub kind: u16,
}

/// `struct ifinfomsg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfInfoMsg {
    /// `AF_UNSPEC`.
    pub family: u8,
    /// Padding.
    pub pad: u8,
    /// `ARPHRD_*`.
    pub kind: u16,
    /// The interface.
    pub index: i32,
    /// `IFF_*`.
    pub flags: u32,
    /// Which flags to change.
    pub change: u32,
}

constants! { u16;
    IFLA_ADDRESS = 1,
    IFLA_BROADCAST = 2,
    IFLA_IFNAME = 3,
    IFLA_MTU = 4,
    IFLA_LINK = 5,
    IFLA_QDISC = 6,
    IFLA_MASTER = 10,
    IFLA_STATS = 7,
    IFLA_TXQLEN = 13,
    IFLA_OPERSTATE = 16,
    IFLA_LINKMODE = 17,
    IFLA_LINKINFO = 18,
    IFLA_NET_NS_PID = 19,
    IFLA_STATS64 = 23,
    IFLA_AF_SPEC = 26,
    IFLA_GROUP = 27,
    IFLA_NET_NS_FD = 28,
    IFLA_EXT_MASK = 29,
    IFLA_PROMISCUITY = 30,
    IFLA_NUM_TX_QUEUES = 31,
    IFLA_NUM_RX_QUEUES = 32,
    IFLA_CARRIER = 33,
    IFLA_LINK_NETNSID = 37,
    IFLA_GSO_MAX_SEGS = 40,
    IFLA_GSO_MAX_SIZE = 41,
    IFLA_NEW_NETNSID = 45,
    IFLA_TARGET_NETNSID = 46,
    IFLA_NEW_IFINDEX = 49,
    IFLA_MIN_MTU = 50,
    IFLA_MAX_MTU = 51,
    IFLA_ALT_IFNAME = 53,
    IFLA_INFO_KIND = 1,
    IFLA_INFO_DATA = 2,
    IFLA_INFO_SLAVE_KIND = 4,
    VETH_INFO_PEER = 1,
    IFLA_VLAN_ID = 1,
    IFLA_VLAN_FLAGS = 2,
    IFLA_VLAN_PROTOCOL = 5,
    IFLA_TUN_OWNER = 1,
    IFLA_TUN_GROUP = 2,
    IFLA_TUN_TYPE = 3,
    IFLA_TUN_PI = 4,
    IFLA_TUN_VNET_HDR = 5,
    IFLA_TUN_PERSIST = 6,
    IFLA_TUN_MULTI_QUEUE = 7,
    IFLA_TUN_NUM_QUEUES = 8,
    IFLA_TUN_NUM_DISABLED_QUEUES = 9,
    IFLA_BR_FORWARD_DELAY = 1,
    IFLA_BR_HELLO_TIME = 2,
    IFLA_BR_MAX_AGE = 3,
    IFLA_BR_AGEING_TIME = 4,
    IFLA_BR_STP_STATE = 5,
    IFLA_BR_PRIORITY = 6,
    IFLA_BR_VLAN_FILTERING = 7,
    NETNSA_NSID = 1,
    NETNSA_PID = 2,
    NETNSA_FD = 3,
}

/// `struct ifaddrmsg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfAddrMsg {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Bits of the network.
    pub prefix_len: u8,
    /// `IFA_F_*`.
    pub flags: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// The interface.
    pub index: u32,
}

constants! { u16;
    IFA_ADDRESS = 1,
    IFA_LOCAL = 2,
    IFA_LABEL = 3,
    IFA_BROADCAST = 4,
    IFA_CACHEINFO = 6,
    IFA_FLAGS = 8,
    IFA_RT_PRIORITY = 9,
}

constants! { u32;
    IFA_F_SECONDARY = 0x01,
    IFA_F_DADFAILED = 0x08,
    IFA_F_DEPRECATED = 0x20,
    IFA_F_TENTATIVE = 0x40,
    IFA_F_PERMANENT = 0x80,
    IFA_F_NOPREFIXROUTE = 0x200,
}

/// `struct ifa_cacheinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfaCacheInfo {
    /// Seconds left as a preferred address.
    pub preferred: u32,
    /// Seconds left as a valid address.
    pub valid: u32,
    /// Creation, hundredths of a second since boot.
    pub cstamp: u32,
    /// Last change, hundredths of a second since boot.
    pub tstamp: u32,
}

/// `struct rtmsg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtMsg {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Bits of the destination.
    pub dst_len: u8,
    /// Bits of the source.
    pub src_len: u8,
    /// Type of service.
    pub tos: u8,
    /// The table.
    pub table: u8,
    /// `RTPROT_*`.
    pub protocol: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `RTN_*`.
    pub kind: u8,
    /// `RTM_F_*`.
    pub flags: u32,
}

/// `struct rtnexthop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtNextHop {
    /// The length of this and what belongs to it.
    pub len: u16,
    /// `RTNH_F_*`.
    pub flags: u8,
    /// Its weight; of a route for a group the threshold.
    pub hops: u8,
    /// The interface.
    pub index: i32,
}

constants! { u16;
    RTA_DST = 1,
    RTA_SRC = 2,
    RTA_IIF = 3,
    RTA_OIF = 4,
    RTA_GATEWAY = 5,
    RTA_PRIORITY = 6,
    RTA_PREFSRC = 7,
    RTA_METRICS = 8,
    RTAX_MTU = 2,
    RTA_MULTIPATH = 9,
    RTA_CACHEINFO = 12,
    RTA_TABLE = 15,
    RTA_MFC_STATS = 17,
    RTA_EXPIRES = 23,
    RTA_MARK = 16,
    RTA_PREF = 20,
    RTA_UID = 25,
    RTA_IP_PROTO = 27,
    RTA_SPORT = 28,
    RTA_DPORT = 29,
}

constants! { u8;
    RT_TABLE_UNSPEC = 0,
    RT_TABLE_DEFAULT = 253,
    RT_TABLE_MAIN = 254,
    RT_TABLE_LOCAL = 255,
    RTPROT_UNSPEC = 0,
    RTPROT_REDIRECT = 1,
    RTPROT_KERNEL = 2,
    RTPROT_BOOT = 3,
    RTPROT_STATIC = 4,
    RTPROT_RA = 9,
    RTPROT_DHCP = 16,
    RTPROT_MROUTED = 17,
    RTNL_FAMILY_IPMR = 128,
    RTNL_FAMILY_IP6MR = 129,
    RT_SCOPE_UNIVERSE = 0,
    RT_SCOPE_LINK = 253,
    RT_SCOPE_HOST = 254,
    RT_SCOPE_NOWHERE = 255,
    RTN_UNICAST = 1,
    RTN_LOCAL = 2,
    RTN_BROADCAST = 3,
    RTN_MULTICAST = 5,
    RTN_BLACKHOLE = 6,
    RTN_UNREACHABLE = 7,
    RTN_PROHIBIT = 8,
}

/// `RTNH_F_UNRESOLVED`: packets wait for the route.
pub const RTNH_F_UNRESOLVED: u32 = 0x20;

/// `RTM_F_CLONED`: routes of the cache, of which there are none.
pub const RTM_F_CLONED: u32 = 0x200;
/// `RTM_F_FIB_MATCH`: the route that is found is wanted, not what follows from it.
pub const RTM_F_FIB_MATCH: u32 = 0x2000;

/// `RTCF_BROADCAST`: packets of the route are for everybody on the link.
pub const RTCF_BROADCAST: u32 = 0x1000_0000;

/// `RTCF_MULTICAST`: they are for a group.
pub const RTCF_MULTICAST: u32 = 0x2000_0000;

/// `RTCF_LOCAL`: they are for this host.
pub const RTCF_LOCAL: u32 = 0x8000_0000;

/// `struct ndmsg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NdMsg {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Padding.
    pub pad1: u8,
    /// Padding.
    pub pad2: u16,
    /// The interface.
    pub ifindex: i32,
    /// `NUD_*`.
    pub state: u16,
    /// `NTF_*`.
    pub flags: u8,
    /// `RTN_*`.
    pub kind: u8,
}

constants! { u16;
    NDA_DST = 1,
    NDA_LLADDR = 2,
    NDA_CACHEINFO = 3,
    NDA_PROBES = 4,
    NUD_INCOMPLETE = 0x01,
    NUD_REACHABLE = 0x02,
    NUD_STALE = 0x04,
    NUD_DELAY = 0x08,
    NUD_PROBE = 0x10,
    NUD_FAILED = 0x20,
    NUD_NOARP = 0x40,
    NUD_PERMANENT = 0x80,
}

/// `struct fib_rule_hdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FibRuleHdr {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Bits of the destination.
    pub dst_len: u8,
    /// Bits of the source.
    pub src_len: u8,
    /// Type of service.
    pub tos: u8,
    /// The table.
    pub table: u8,
    /// Reserved.
    pub res1: u8,
    /// Reserved.
    pub res2: u8,
    /// `FR_ACT_*`.
    pub action: u8,
    /// Flags.
    pub flags: u32,
}

constants! { u16;
    FRA_DST = 1,
    FRA_SRC = 2,
    FRA_IIFNAME = 3,
    FRA_GOTO = 4,
    FRA_PRIORITY = 6,
    FRA_FWMARK = 10,
    FRA_FLOW = 11,
    FRA_TUN_ID = 12,
    FRA_SUPPRESS_IFGROUP = 13,
    FRA_SUPPRESS_PREFIXLEN = 14,
    FRA_TABLE = 15,
    FRA_FWMASK = 16,
    FRA_OIFNAME = 17,
    FRA_L3MDEV = 19,
    FRA_UID_RANGE = 20,
    FRA_PROTOCOL = 21,
    FRA_IP_PROTO = 22,
    FRA_SPORT_RANGE = 23,
    FRA_DPORT_RANGE = 24,
    FRA_DSCP = 25,
    FRA_FLOWLABEL = 26,
    FRA_FLOWLABEL_MASK = 27,
    FRA_SPORT_MASK = 28,
    FRA_DPORT_MASK = 29,
    FRA_DSCP_MASK = 30,
}
constants! { u8;
    FR_ACT_TO_TBL = 1,
    FR_ACT_GOTO = 2,
    FR_ACT_NOP = 3,
    FR_ACT_BLACKHOLE = 6,
    FR_ACT_UNREACHABLE = 7,
    FR_ACT_PROHIBIT = 8,
}
/// `FIB_RULE_INVERT`.
pub const FIB_RULE_INVERT: u32 = 2;
/// `FIB_RULE_UNRESOLVED`: there is no rule to go to.
pub const FIB_RULE_UNRESOLVED: u32 = 4;
/// `FIB_RULE_IIF_DETACHED`: there is no such interface.
pub const FIB_RULE_IIF_DETACHED: u32 = 8;
/// `FIB_RULE_OIF_DETACHED`.
pub const FIB_RULE_OIF_DETACHED: u32 = 16;

// `IPMRA_CREPORT_*` and `IP6MRA_CREPORT_*` of `linux/mroute.h` and `linux/mroute6.h`.
constants! { u16;
    CREPORT_MSGTYPE = 1,
    CREPORT_VIF_ID = 2,
    CREPORT_SRC_ADDR = 3,
    CREPORT_DST_ADDR = 4,
    CREPORT_PKT = 5,
    IPMRA_CREPORT_TABLE = 6,
}

constants! { u32;
    RTNLGRP_LINK = 1,
    RTNLGRP_NEIGH = 3,
    RTNLGRP_IPV4_IFADDR = 5,
    RTNLGRP_IPV4_MROUTE = 6,
    RTNLGRP_IPV4_ROUTE = 7,
    RTNLGRP_IPV4_RULE = 8,
    RTNLGRP_IPV6_IFADDR = 9,
    RTNLGRP_IPV6_MROUTE = 10,
    RTNLGRP_IPV6_ROUTE = 11,
    RTNLGRP_IPV6_RULE = 19,
    RTNLGRP_NSID = 28,
    RTNLGRP_IPV4_MROUTE_R = 30,
    RTNLGRP_IPV6_MROUTE_R = 31,
}

constants! { u16;
    SOCK_DIAG_BY_FAMILY = 20,
    SOCK_DESTROY = 21,
}

/// `struct inet_diag_sockid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagSockId {
    /// Local port in network order.
    pub sport: [u8; 2],
    /// Remote port in network order.
    pub dport: [u8; 2],
    /// Local address.
    pub src: [u8; 16],
    /// Remote address.
    pub dst: [u8; 16],
    /// The interface.
    pub ifindex: u32,
    /// Identifies the socket.
    pub cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagReqV2 {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Which extensions to send, bit n-1 for extension n.
    pub ext: u8,
    /// Padding.
    pub pad: u8,
    /// Which states to list, bit n for state n.
    pub states: u32,
    /// Which socket, for a single one.
    pub id: InetDiagSockId,
}

/// `struct inet_diag_msg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagMsg {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// `TCP_*`.
    pub state: u8,
    /// Which timer runs.
    pub timer: u8,
    /// Retransmissions.
    pub retrans: u8,
    /// Which socket.
    pub id: InetDiagSockId,
    /// When the timer expires, in milliseconds.
    pub expires: u32,
    /// Bytes to read; of a listener, connections to accept.
    pub rqueue: u32,
    /// Bytes not acknowledged; of a listener, its backlog.
    pub wqueue: u32,
    /// The owner.
    pub uid: u32,
    /// The inode.
    pub inode: u32,
}

constants! { u16;
    INET_DIAG_INFO = 2,
    INET_DIAG_CONG = 4,
    INET_DIAG_SHUTDOWN = 8,
    INET_DIAG_SKV6ONLY = 11,
}

/// `struct unix_diag_req`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixDiagReq {
    /// `AF_UNIX`.
    pub family: u8,
    /// Zero.
    pub protocol: u8,
    /// Padding.
    pub pad: u16,
    /// Which states to list.
    pub states: u32,
    /// Which socket, for a single one.
    pub ino: u32,
    /// `UDIAG_SHOW_*`.
    pub show: u32,
    /// Identifies the socket.
    pub cookie: [u32; 2],
}

/// `struct unix_diag_msg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixDiagMsg {
    /// `AF_UNIX`.
    pub family: u8,
    /// `SOCK_*`.
    pub kind: u8,
    /// `TCP_*`.
    pub state: u8,
    /// Padding.
    pub pad: u8,
    /// The inode.
    pub ino: u32,
    /// Identifies the socket.
    pub cookie: [u32; 2],
}

constants! { u16;
    UNIX_DIAG_NAME = 0,
    UNIX_DIAG_PEER = 2,
    UNIX_DIAG_RQLEN = 4,
}

/// Rounds up to the alignment of netlink messages and attributes.
#[must_use]
pub const fn nl_align(len: usize) -> usize {
    (len.wrapping_add(3)) & !3
}
