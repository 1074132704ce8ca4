//! Sockets: `<sys/socket.h>`, `<sys/un.h>`, `<asm-generic/socket.h>`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::constants::constants;

constants! { u16;
    AF_UNSPEC = 0,
    AF_UNIX = 1,
    AF_INET = 2,
    AF_INET6 = 10,
    AF_NETLINK = 16,
    AF_PACKET = 17,
    AF_VSOCK = 40,
    AF_MAX = 46,
}

constants! { u32;
    SOCK_STREAM = 1,
    SOCK_DGRAM = 2,
    SOCK_RAW = 3,
    SOCK_RDM = 4,
    SOCK_SEQPACKET = 5,
    SOCK_DCCP = 6,
    SOCK_PACKET = 10,
    SOCK_MAX = 11,
    /// The bits of the type argument that hold the type.
    SOCK_TYPE_MASK = 0xf,
    SOCK_CLOEXEC = 0o2_000_000,
    SOCK_NONBLOCK = 0o4000,
}

constants! { i32;
    SOL_SOCKET = 1,
    SOL_IP = 0,
    SOL_TCP = 6,
    SOL_UDP = 17,
    SOL_IPV6 = 41,
    SOL_ICMPV6 = 58,
    SOL_RAW = 255,
    SOL_PACKET = 263,
    SOL_NETLINK = 270,
}

constants! { i32;
    SO_DEBUG = 1,
    SO_REUSEADDR = 2,
    SO_TYPE = 3,
    SO_ERROR = 4,
    SO_DONTROUTE = 5,
    SO_BROADCAST = 6,
    SO_SNDBUF = 7,
    SO_RCVBUF = 8,
    SO_KEEPALIVE = 9,
    SO_OOBINLINE = 10,
    SO_NO_CHECK = 11,
    SO_PRIORITY = 12,
    SO_LINGER = 13,
    SO_BSDCOMPAT = 14,
    SO_REUSEPORT = 15,
    SO_PASSCRED = 16,
    SO_PEERCRED = 17,
    SO_RCVLOWAT = 18,
    SO_SNDLOWAT = 19,
    SO_RCVTIMEO = 20,
    SO_SNDTIMEO = 21,
    SO_BINDTODEVICE = 25,
    SO_ATTACH_FILTER = 26,
    SO_DETACH_FILTER = 27,
    SO_PEERNAME = 28,
    SO_TIMESTAMP = 29,
    SO_ACCEPTCONN = 30,
    SO_PEERSEC = 31,
    SO_SNDBUFFORCE = 32,
    SO_RCVBUFFORCE = 33,
    SO_PASSSEC = 34,
    SO_TIMESTAMPNS = 35,
    SO_MARK = 36,
    SO_TIMESTAMPING = 37,
    SO_PROTOCOL = 38,
    SO_DOMAIN = 39,
    SO_RXQ_OVFL = 40,
    SO_WIFI_STATUS = 41,
    SO_PEEK_OFF = 42,
    SO_NOFCS = 43,
    SO_LOCK_FILTER = 44,
    SO_SELECT_ERR_QUEUE = 45,
    SO_BUSY_POLL = 46,
    SO_MAX_PACING_RATE = 47,
    SO_BPF_EXTENSIONS = 48,
    SO_INCOMING_CPU = 49,
    SO_ATTACH_BPF = 50,
    SO_ATTACH_REUSEPORT_CBPF = 51,
    SO_ATTACH_REUSEPORT_EBPF = 52,
    SO_CNX_ADVICE = 53,
    SO_MEMINFO = 55,
    SO_INCOMING_NAPI_ID = 56,
    SO_COOKIE = 57,
    SO_PEERGROUPS = 59,
    SO_ZEROCOPY = 60,
    SO_TXTIME = 61,
    SO_BINDTOIFINDEX = 62,
    SO_TIMESTAMP_NEW = 63,
    SO_TIMESTAMPNS_NEW = 64,
    SO_TIMESTAMPING_NEW = 65,
    SO_RCVTIMEO_NEW = 66,
    SO_SNDTIMEO_NEW = 67,
    SO_DETACH_REUSEPORT_BPF = 68,
    SO_PREFER_BUSY_POLL = 69,
    SO_BUSY_POLL_BUDGET = 70,
    SO_NETNS_COOKIE = 71,
    SO_BUF_LOCK = 72,
    SO_RESERVE_MEM = 73,
    SO_TXREHASH = 74,
    SO_RCVMARK = 75,
    SO_PASSPIDFD = 76,
    SO_PEERPIDFD = 77,
    SO_RCVPRIORITY = 82,
    SO_PASSRIGHTS = 83,
    SO_INQ = 84,
}

constants! { i32;
    SCM_RIGHTS = 1,
    SCM_CREDENTIALS = 2,
    SCM_SECURITY = 3,
    SCM_PIDFD = 4,
}

bitflags::bitflags! {
    /// The flags of `send(2)` and `recv(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    #[allow(missing_docs, reason = "the names are those of recv(2) and send(2)")]
    pub struct MsgFlags: u32 {
        const OOB = 0x1;
        const PEEK = 0x2;
        const DONTROUTE = 0x4;
        const CTRUNC = 0x8;
        const PROBE = 0x10;
        const TRUNC = 0x20;
        const DONTWAIT = 0x40;
        const EOR = 0x80;
        const WAITALL = 0x100;
        const FIN = 0x200;
        const SYN = 0x400;
        const CONFIRM = 0x800;
        const RST = 0x1000;
        const ERRQUEUE = 0x2000;
        const NOSIGNAL = 0x4000;
        const MORE = 0x8000;
        const WAITFORONE = 0x10000;
        const BATCH = 0x40000;
        const ZEROCOPY = 0x0400_0000;
        const FASTOPEN = 0x2000_0000;
        const CMSG_CLOEXEC = 0x4000_0000;
    }
}

/// The longest socket address (`struct sockaddr_storage`).
pub const SOCKADDR_STORAGE_LEN: usize = 128;
/// Room for a path in `struct sockaddr_un`.
pub const UNIX_PATH_MAX: usize = 108;

/// `struct sockaddr_in`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrIn {
    /// `AF_INET`.
    pub family: u16,
    /// The port in network order.
    pub port: [u8; 2],
    /// The address.
    pub addr: [u8; 4],
    /// Padding to the size of `struct sockaddr`.
    pub zero: [u8; 8],
}

/// `struct sockaddr_in6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrIn6 {
    /// `AF_INET6`.
    pub family: u16,
    /// The port in network order.
    pub port: [u8; 2],
    /// Traffic class and flow label in network order.
    pub flowinfo: [u8; 4],
    /// The address.
    pub addr: [u8; 16],
    /// The interface of a link-local address.
    pub scope_id: u32,
}

/// The size that Linux requires of an `AF_INET6` address: RFC 2133's, without the scope (`SIN6_LEN_RFC2133`).
pub const SIN6_LEN_RFC2133: usize = 24;

/// `struct msghdr` of x86-64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MsgHdr {
    /// `msg_name`.
    pub name: u64,
    /// `msg_namelen`.
    pub name_len: i32,
    /// Padding.
    pub pad0: u32,
    /// `msg_iov`.
    pub iov: u64,
    /// `msg_iovlen`.
    pub iov_len: u64,
    /// `msg_control`.
    pub control: u64,
    /// `msg_controllen`.
    pub control_len: u64,
    /// `msg_flags`.
    pub flags: u32,
    /// Padding.
    pub pad1: u32,
}

impl MsgHdr {
    /// Offset of `msg_namelen`.
    pub const NAME_LEN_OFFSET: u64 = 8;
    /// Offset of `msg_controllen`.
    pub const CONTROL_LEN_OFFSET: u64 = 40;
    /// Offset of `msg_flags`.
    pub const FLAGS_OFFSET: u64 = 48;
}

/// The size of `struct mmsghdr`: a `msghdr`, a length, padding.
pub const MMSGHDR_LEN: u64 = 64;
/// Offset of `msg_len` in `struct mmsghdr`.
pub const MMSGHDR_MSG_LEN_OFFSET: u64 = 56;
/// The most messages of one `sendmmsg(2)` or `recvmmsg(2)` (`UIO_MAXIOV`).
pub const UIO_MAXIOV: u32 = 1024;

/// `struct cmsghdr` of x86-64; the data follows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CmsgHdr {
    /// Length of header and data, without trailing padding.
    pub len: u64,
    /// `SOL_SOCKET`, `SOL_IP`, ...
    pub level: i32,
    /// What it is.
    pub kind: i32,
}

/// Size of a control message header.
pub const CMSG_HDR_LEN: usize = size_of::<CmsgHdr>();

/// `CMSG_ALIGN`.
#[must_use]
pub const fn cmsg_align(len: usize) -> usize {
    (len.wrapping_add(7)) & !7
}

/// `struct ucred`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ucred {
    /// Process id.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// `struct linger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Linger {
    /// Non-zero: on.
    pub onoff: i32,
    /// Seconds.
    pub linger: i32,
}

constants! { u32;
    SIOCSPGRP = 0x8902,
    SIOCGPGRP = 0x8904,
    FIOSETOWN = 0x8901,
    FIOGETOWN = 0x8903,
    SIOCATMARK = 0x8905,
    SIOCGSTAMP = 0x8906,
    SIOCGSTAMPNS = 0x8907,
    /// Bytes to read; the same number as `SIOCINQ`.
    FIONREAD = 0x541b,
    /// Bytes not sent; the same number as `SIOCOUTQ`.
    TIOCOUTQ = 0x5411,
    /// Bytes not handed to the link yet.
    SIOCOUTQNSD = 0x894b,
}
