//! Socket options that belong to no single protocol, and the values that travel with one datagram.

mod extension;
mod stamp;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use netstack_wire::ipv4::options;

use crate::buffer::{Sink, Source};
use crate::nic::NicId;
use crate::packet::Owner;
use crate::time::Instant;

pub use extension::{ExtensionHeader, Ipv6Extensions, ReceivedExtensions};
pub use stamp::{SentStamp, StampKind, StampOrigin, StampRequest};

/// The IP family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6; carries IPv4 too, as v4-mapped addresses, unless [`SocketOptions::only_v6`] is set.
    V6,
}

/// The options of an IPv4 header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Options {
    bytes: [u8; options::MAX_LEN],
    len: u8,
}

impl Ipv4Options {
    /// Whole words of options as they are in a header; `None` for what no header has.
    pub fn new(options: &[u8]) -> Option<Self> {
        let mut bytes = [0; options::MAX_LEN];
        bytes.get_mut(..options.len())?.copy_from_slice(options);
        let len = u8::try_from(options.len()).ok().filter(|len| len % 4 == 0)?;
        Some(Self { bytes, len })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Ipv4Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ipv4Options").field(&self.as_slice()).finish()
    }
}

/// Options of a socket. Fields that a protocol has no use for are stored and have no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// May share its local address with other sockets that set this (`SO_REUSEADDR`).
    pub reuse_address: bool,
    /// May share its local address and port with other sockets that set this, and shares the load (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// May send to broadcast addresses (`SO_BROADCAST`).
    pub broadcast: bool,
    /// An IPv6 socket that carries no IPv4 (`IPV6_V6ONLY`). Has no effect once bound.
    pub only_v6: bool,
    /// May bind to an address that the stack does not have (yet), without sending IPv4 from there (`IP_FREEBIND`).
    pub free_bind: bool,
    /// May bind to addresses that the stack does not have, and send from there (`IP_TRANSPARENT`).
    pub transparent: bool,
    /// Sends and receives through this NIC only (`SO_BINDTODEVICE`).
    pub bound_nic: Option<NicId>,
    /// The TTL of unicast IPv4 packets; the stack's default if not set (`IP_TTL`).
    pub ttl: Option<u8>,
    /// The TOS byte of IPv4 packets (`IP_TOS`).
    pub tos: u8,
    /// The options of IPv4 datagrams, checked and a multiple of four bytes long (`IP_OPTIONS`). Those that record the route
    /// or the time begin with this stack. The segments of streams have them too; those of an accepted connection have what
    /// answers the options of the SYN.
    pub ip_options: Option<Ipv4Options>,
    /// The extension headers of IPv6, of streams as well: accepted ones have their listener's.
    pub extensions: Option<Arc<Ipv6Extensions>>,
    /// The hop limit of unicast IPv6 packets; the stack's default if not set (`IPV6_UNICAST_HOPS`).
    pub hop_limit: Option<u8>,
    /// The traffic class of IPv6 packets (`IPV6_TCLASS`).
    pub traffic_class: u8,
    /// Whether IPv6 packets get a flow label that nobody asked for; as the stack does by default if not set
    /// (`IPV6_AUTOFLOWLABEL`).
    pub auto_flow_label: Option<bool>,
    /// The TTL of IPv4 multicast packets (`IP_MULTICAST_TTL`).
    pub multicast_ttl: u8,
    /// The hop limit of IPv6 multicast packets (`IPV6_MULTICAST_HOPS`).
    pub multicast_hop_limit: u8,
    /// Members on this stack receive the IPv4 multicast packets too (`IP_MULTICAST_LOOP`).
    pub multicast_loop: bool,
    /// Members on this stack receive the IPv6 multicast packets too (`IPV6_MULTICAST_LOOP`).
    pub multicast_loop_v6: bool,
    /// Sends IPv4 multicast packets through this NIC (`IP_MULTICAST_IF`).
    pub multicast_nic: Option<NicId>,
    /// Sends IPv4 multicast packets from this address (`IP_MULTICAST_IF` with an address).
    pub multicast_source: Option<std::net::Ipv4Addr>,
    /// Sends IPv6 multicast packets through this NIC (`IPV6_MULTICAST_IF`).
    pub multicast_nic_v6: Option<NicId>,
    /// Receives IPv4 groups that other sockets joined as well (`IP_MULTICAST_ALL`).
    pub multicast_all: bool,
    /// The same for IPv6 (`IPV6_MULTICAST_ALL`).
    pub multicast_all_v6: bool,
    /// What to do about the path MTU (`IP_MTU_DISCOVER`, `IPV6_MTU_DISCOVER`).
    pub pmtu_discovery: PmtuDiscovery,
    /// Never fragments IPv6 datagrams, as [`PmtuDiscovery::Do`] (`IPV6_DONTFRAG`).
    pub dont_fragment_v6: bool,
    /// Streams ignore IPv4 segments that arrive with a lower TTL (`IP_MINTTL`; RFC 5082).
    pub min_ttl: u8,
    /// The same for the hop limit of IPv6 (`IPV6_MINHOPCOUNT`).
    pub min_hop_limit: u8,
    /// The first and the last port to pick from if none is asked for, within those of the stack; zero for the stack's own
    /// (`IP_LOCAL_PORT_RANGE`).
    pub port_range: (u16, u16),
    /// Queues ICMP errors with their details (`IP_RECVERR`).
    pub error_queue: bool,
    /// The same for IPv6 (`IPV6_RECVERR`).
    pub error_queue_v6: bool,
    /// Sends UDP over IPv4 without a checksum (`SO_NO_CHECK`).
    pub no_checksum: bool,
    /// Cuts what each call sends into UDP datagrams of this size, if it is not zero (`UDP_SEGMENT`).
    pub segment_size: u16,
    /// Takes UDP datagrams of one sender that arrived in a row as one, and tells their size (`UDP_GRO`).
    pub coalesce: bool,
    /// Raw sockets: the application supplies the IP header (`IP_HDRINCL`).
    pub header_included: bool,
    /// Remembers when the bytes of streams arrived ([`TcpSocket::try_recv_stamped`](crate::TcpSocket::try_recv_stamped)).
    pub stamp_arrivals: bool,
    /// The firewall mark of sent packets (`SO_MARK`).
    pub mark: u32,
    /// The priority of sent packets (`SO_PRIORITY`), which receivers on this stack are told.
    pub priority: u32,
    /// Whose socket it is, for the packet filter and for policy rules.
    pub owner: Option<Owner>,
    /// The user whom policy rules take for its owner, where it was given away (fchown(2), which the packet filter does not see).
    pub routed_for: Option<u32>,
    /// The limit of bytes waiting to be sent, at true size (`SO_SNDBUF` after Linux's doubling).
    pub send_buffer: usize,
    /// The limit of bytes waiting to be received, at true size (`SO_RCVBUF` after Linux's doubling).
    pub recv_buffer: usize,
}

impl SocketOptions {
    /// Whether nothing comes between the IP header and that of the transport.
    #[inline]
    pub(crate) fn has_plain_headers(&self) -> bool {
        self.ip_options.is_none() && self.extensions.is_none()
    }

    /// How much longer than usual the IP headers of a stream to `remote` are.
    pub(crate) fn header_overhead(&self, remote: IpAddr) -> u16 {
        let len = match remote {
            IpAddr::V4(_) => self.ip_options.map_or(0, |options| options.as_slice().len()),
            IpAddr::V6(_) => self.extensions.as_ref().map_or(0, |extensions| extensions.len()),
        };
        u16::try_from(len).unwrap_or(u16::MAX)
    }

    /// The defaults, shared: sockets keep options of their own only once they differ.
    pub(crate) fn shared_default() -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<SocketOptions>> = LazyLock::new(Arc::default);
        Arc::clone(&DEFAULT)
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            reuse_address: false,
            reuse_port: false,
            broadcast: false,
            only_v6: false,
            free_bind: false,
            transparent: false,
            bound_nic: None,
            ttl: None,
            tos: 0,
            ip_options: None,
            extensions: None,
            hop_limit: None,
            traffic_class: 0,
            auto_flow_label: None,
            // RFC 1112 section 6.1: "If the upper-layer protocol chooses not to specify a time-to-live, it should
            // default to 1 for all multicast IP datagrams."
            multicast_ttl: 1,
            multicast_hop_limit: 1,
            multicast_loop: true,
            multicast_loop_v6: true,
            multicast_nic: None,
            multicast_source: None,
            multicast_nic_v6: None,
            multicast_all: true,
            multicast_all_v6: true,
            pmtu_discovery: PmtuDiscovery::Want,
            dont_fragment_v6: false,
            min_ttl: 0,
            min_hop_limit: 0,
            port_range: (0, 0),
            error_queue: false,
            error_queue_v6: false,
            no_checksum: false,
            segment_size: 0,
            coalesce: false,
            header_included: false,
            stamp_arrivals: false,
            mark: 0,
            priority: 0,
            owner: None,
            routed_for: None,
            send_buffer: DEFAULT_BUFFER,
            recv_buffer: DEFAULT_BUFFER,
        }
    }
}

/// Linux's `net.core.rmem_default` and `wmem_default` on 64-bit machines.
const DEFAULT_BUFFER: usize = 212_992;

/// What to do about the path MTU, with Linux's `IP_PMTUDISC_*` semantics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PmtuDiscovery {
    /// Never sets DF; datagrams are fragmented (`IP_PMTUDISC_DONT`).
    Dont,
    /// Sets DF on streams, fragments datagrams that exceed the known path MTU (`IP_PMTUDISC_WANT`).
    Want,
    /// Always sets DF and refuses datagrams that exceed the known path MTU (`IP_PMTUDISC_DO`).
    Do,
    /// Always sets DF and ignores the known path MTU (`IP_PMTUDISC_PROBE`).
    Probe,
    /// Like `Dont`, and ignores the known path MTU (`IP_PMTUDISC_INTERFACE`).
    Interface,
    /// Like `Interface`, but fragments what exceeds the interface's MTU (`IP_PMTUDISC_OMIT`).
    Omit,
}

/// What one datagram overrides; `None` means the socket's own value.
#[derive(Debug, Clone, Default)]
pub struct SendMeta {
    /// The destination.
    pub to: Option<SocketAddr>,
    /// The source address (`IP_PKTINFO`, `IPV6_PKTINFO`).
    pub source: Option<IpAddr>,
    /// The NIC to leave through (`IP_PKTINFO`, `IPV6_PKTINFO`).
    pub nic: Option<NicId>,
    /// The TTL or hop limit (`IP_TTL`, `IPV6_HOPLIMIT`).
    pub ttl: Option<u8>,
    /// The TOS byte or traffic class (`IP_TOS`, `IPV6_TCLASS`).
    pub tos: Option<u8>,
    /// The flow label of IPv6 (`IPV6_FLOWINFO`); otherwise that in the destination's `flowinfo`, if it is not zero, or the
    /// connected peer's.
    pub flow_label: Option<u32>,
    /// Cut the data into datagrams of this size (`UDP_SEGMENT`).
    pub segment_size: Option<u16>,
    /// The options of IPv4 in place of the socket's (`IP_RETOPTS`); see [`SocketOptions::ip_options`].
    pub ip_options: Option<Ipv4Options>,
    /// The extension headers of IPv6 in place of the socket's.
    pub extensions: Option<Arc<Ipv6Extensions>>,
    /// The times of the datagram that the socket wants to be told (`SO_TIMESTAMPING`).
    pub stamp: Option<StampRequest>,
    /// The firewall mark (`SO_MARK`).
    pub mark: Option<u32>,
    /// The priority (`SO_PRIORITY`).
    pub priority: Option<u32>,
    /// More data for the same UDP datagram follows with the next call (`MSG_MORE`).
    pub more: bool,
}

impl SendMeta {
    /// Nothing but the socket's own values.
    pub const DEFAULT: Self = Self {
        to: None,
        source: None,
        nic: None,
        ttl: None,
        tos: None,
        flow_label: None,
        segment_size: None,
        ip_options: None,
        extensions: None,
        stamp: None,
        mark: None,
        priority: None,
        more: false,
    };
}

/// One of several datagrams to send with one call.
pub struct SendMessage<'a> {
    /// What to send: all that is left of it.
    pub data: &'a mut dyn Source,
    /// What it overrides.
    pub meta: &'a SendMeta,
}

impl<'a> SendMessage<'a> {
    /// A datagram that overrides nothing.
    pub fn new(data: &'a mut dyn Source) -> Self {
        Self { data, meta: &SendMeta::DEFAULT }
    }
}

/// Room for one of several datagrams that one call receives.
pub struct RecvMessage<'a> {
    /// Where the data goes.
    pub out: &'a mut dyn Sink,
    /// What is known about it, once it was received.
    pub datagram: Option<Datagram>,
}

impl<'a> RecvMessage<'a> {
    /// Room that is not used yet.
    pub fn new(out: &'a mut dyn Sink) -> Self {
        Self { out, datagram: None }
    }
}

/// How to send on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendFlags {
    /// More data follows at once: a partial segment waits for it (`MSG_MORE`).
    pub more: bool,
    /// The last byte is urgent (`MSG_OOB`).
    pub urgent: bool,
    /// The times of the last byte that the socket wants to be told (`SO_TIMESTAMPING`).
    pub stamp: Option<StampRequest>,
}

/// How to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecvFlags {
    /// Leave the data in the queue (`MSG_PEEK`).
    pub peek: bool,
    /// Peek at what comes behind so many bytes (`SO_PEEK_OFF`), of streams and of UDP. Datagrams count with their lengths: one
    /// that the bytes cover is passed over.
    pub skip: Option<usize>,
}

impl RecvFlags {
    /// Peeking from the front.
    pub const PEEK: Self = Self { peek: true, skip: None };
}

/// What is known about a received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes that were copied to the application.
    pub copied: usize,
    /// Bytes that the datagram has; more than `copied` if it was truncated.
    pub len: usize,
    /// The sender.
    pub from: SocketAddr,
    /// The address (and for UDP the port) it was sent to.
    pub to: SocketAddr,
    /// The NIC it arrived on.
    pub nic: NicId,
    /// Its TTL or hop limit.
    pub ttl: u8,
    /// Its TOS byte or traffic class.
    pub tos: u8,
    /// Its flow label; zero in IPv4.
    pub flow_label: u32,
    /// When it arrived.
    pub arrival: Instant,
    /// How many datagrams the socket had lost when this one arrived, modulo 2^32 (`SO_RXQ_OVFL`).
    pub dropped_before: u32,
    /// Its firewall mark: the sender's if it is on this stack, and what rules gave to it.
    pub mark: u32,
    /// Its priority: the sender's if it is on this stack.
    pub priority: u32,
    /// The size of the datagrams that were coalesced into this one (`UDP_GRO`), if they were.
    pub segment_size: Option<u16>,
    /// The options of its IPv4 header, if it had some.
    pub ip_options: Option<Ipv4Options>,
    /// Its extension headers of IPv6, if it had some.
    pub extensions: Option<Arc<ReceivedExtensions>>,
}

/// One entry of a socket's error queue (`IP_RECVERR`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedError {
    /// What it means for the socket.
    pub error: crate::error::SocketError,
    /// Where the error comes from.
    pub origin: ErrorOrigin,
    /// The ICMP type, zero for local errors.
    pub icmp_type: u8,
    /// The ICMP code, zero for local errors.
    pub icmp_code: u8,
    /// The path MTU for [`SocketError::MessageTooLong`](crate::error::SocketError::MessageTooLong), else zero.
    pub info: u32,
    /// Who sent the ICMP message.
    pub offender: Option<IpAddr>,
    /// Where the packet that caused it was going.
    pub destination: SocketAddr,
    /// What the ICMP message quotes of its payload.
    pub payload: bytes::Bytes,
}

/// Where a queued error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorOrigin {
    /// This stack.
    Local,
    /// An ICMPv4 message.
    Icmp4,
    /// An ICMPv6 message.
    Icmp6,
}

/// Which direction to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// No more receiving.
    Read,
    /// No more sending.
    Write,
    /// Neither.
    Both,
}
