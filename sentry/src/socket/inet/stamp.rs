//! Times of datagrams: told with those that are received, and by the error queue for those that are sent.

use netstack::options::{Family, SentStamp, StampKind, StampRequest};
use sentry_abi::inet::{SO_EE_ORIGIN_TIMESTAMPING, SockExtendedErr};
use sentry_abi::socket::{
    SO_TIMESTAMP, SO_TIMESTAMP_NEW, SO_TIMESTAMPING, SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW,
    SOL_SOCKET,
};
use sentry_abi::time::{Timespec, Timeval};

use crate::errno::Errno;
use crate::socket::base::{SocketBase, Switches};
use crate::socket::control::ControlMessage;
use crate::socket::inet::error_queue;

bitflags::bitflags! {
    /// `SOF_TIMESTAMPING_*`. What needs hardware is kept, and never gives a time.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Stamping: u32 {
        /// `SOF_TIMESTAMPING_TX_HARDWARE`.
        const TX_HARDWARE = 1;
        /// `SOF_TIMESTAMPING_TX_SOFTWARE`: when a packet leaves.
        const TX_SOFTWARE = 1 << 1;
        /// `SOF_TIMESTAMPING_RX_HARDWARE`.
        const RX_HARDWARE = 1 << 2;
        /// `SOF_TIMESTAMPING_RX_SOFTWARE`: when a packet comes.
        const RX_SOFTWARE = 1 << 3;
        /// `SOF_TIMESTAMPING_SOFTWARE`: the times of software are told.
        const SOFTWARE = 1 << 4;
        /// `SOF_TIMESTAMPING_SYS_HARDWARE`, without effect.
        const SYS_HARDWARE = 1 << 5;
        /// `SOF_TIMESTAMPING_RAW_HARDWARE`.
        const RAW_HARDWARE = 1 << 6;
        /// `SOF_TIMESTAMPING_OPT_ID`: what is sent is counted.
        const OPT_ID = 1 << 7;
        /// `SOF_TIMESTAMPING_TX_SCHED`: when a packet is handed to the way out.
        const TX_SCHED = 1 << 8;
        /// `SOF_TIMESTAMPING_TX_ACK`: for streams.
        const TX_ACK = 1 << 9;
        /// `SOF_TIMESTAMPING_OPT_CMSG`.
        const OPT_CMSG = 1 << 10;
        /// `SOF_TIMESTAMPING_OPT_TSONLY`: the times come without the packets.
        const OPT_TSONLY = 1 << 11;
        /// `SOF_TIMESTAMPING_OPT_STATS`: for streams.
        const OPT_STATS = 1 << 12;
        /// `SOF_TIMESTAMPING_OPT_PKTINFO`: of hardware.
        const OPT_PKTINFO = 1 << 13;
        /// `SOF_TIMESTAMPING_OPT_TX_SWHW`: of hardware.
        const OPT_TX_SWHW = 1 << 14;
        /// `SOF_TIMESTAMPING_BIND_PHC`: of hardware.
        const BIND_PHC = 1 << 15;
        /// `SOF_TIMESTAMPING_OPT_ID_TCP`: for streams.
        const OPT_ID_TCP = 1 << 16;
        /// `SOF_TIMESTAMPING_OPT_RX_FILTER`: only the times that the socket asked for.
        const OPT_RX_FILTER = 1 << 17;
        /// `SOF_TIMESTAMPING_TX_COMPLETION`: of hardware.
        const TX_COMPLETION = 1 << 18;
        /// The times that there are without hardware.
        const SOFTWARE_TIMES =
            Self::TX_SOFTWARE.bits() | Self::RX_SOFTWARE.bits() | Self::TX_SCHED.bits() | Self::TX_ACK.bits();
        /// `SOF_TIMESTAMPING_TX_RECORD_MASK`: what a message may ask for.
        const OF_MESSAGE = Self::TX_HARDWARE.bits()
            | Self::TX_SOFTWARE.bits()
            | Self::TX_SCHED.bits()
            | Self::TX_ACK.bits()
            | Self::TX_COMPLETION.bits();
        /// What makes a datagram counted.
        const COUNTED = Self::TX_HARDWARE.bits()
            | Self::TX_SOFTWARE.bits()
            | Self::TX_SCHED.bits()
            | Self::TX_COMPLETION.bits();
    }
}

/// Where the flags are kept.
const KEPT: (i32, i32) = (SOL_SOCKET, SO_TIMESTAMPING);

impl Stamping {
    /// The flags of a socket.
    #[must_use]
    pub fn of(base: &SocketBase) -> Self {
        if !base.has(Switches::TIMESTAMPING) {
            return Self::empty();
        }
        Self::from_bits_retain(base.kept(KEPT).unwrap_or(0).cast_unsigned())
    }

    /// Makes them those of a socket.
    pub fn keep(self, base: &SocketBase) {
        base.keep(KEPT, self.bits().cast_signed());
        base.set(Switches::TIMESTAMPING, !self.is_empty());
    }

    /// With what a message asks for itself (`__sock_cmsg_send`).
    ///
    /// # Errors
    /// `EINVAL` for a wrong size, and flags that are not about sending.
    pub(super) fn with_message(self, control: &[ControlMessage]) -> Result<Self, Errno> {
        let mut all = self;
        for message in control {
            if let ControlMessage::Bytes {
                level: SOL_SOCKET,
                kind: SO_TIMESTAMPING | SO_TIMESTAMPING_NEW,
                data,
            } = message
            {
                let bytes = <[u8; 4]>::try_from(data.as_slice()).map_err(|_| Errno::EINVAL)?;
                let asked = Self::from_bits(u32::from_ne_bytes(bytes)).ok_or(Errno::EINVAL)?;
                if !Self::OF_MESSAGE.contains(asked) {
                    return Err(Errno::EINVAL);
                }
                all = all.difference(Self::OF_MESSAGE) | asked;
            }
        }
        Ok(all)
    }

    /// Whether a datagram with these flags takes a number.
    pub(super) fn counts(self) -> bool {
        self.contains(Self::OPT_ID) && self.intersects(Self::COUNTED)
    }

    /// What the stack is asked for.
    pub(super) fn request(self, id: u32) -> Option<StampRequest> {
        self.intersects(Self::TX_SOFTWARE | Self::TX_SCHED).then(|| StampRequest {
            scheduled: self.contains(Self::TX_SCHED),
            sent: self.contains(Self::TX_SOFTWARE),
            acknowledged: false,
            id,
            with_packet: !self.contains(Self::OPT_TSONLY),
        })
    }

    /// What the stack is asked for about the last byte of a write.
    pub(super) fn request_of_stream(self) -> Option<StampRequest> {
        let acknowledged = self.contains(Self::TX_ACK);
        let with_packet = !self.contains(Self::OPT_TSONLY);
        let of_ack = || acknowledged.then(|| StampRequest { with_packet, ..StampRequest::default() });
        self.request(0).or_else(of_ack).map(|request| StampRequest { acknowledged, ..request })
    }

    /// Whether times of arrival are of use, with the other switches of the socket.
    #[must_use]
    pub fn wants_arrivals(base: &SocketBase) -> bool {
        base.switches().intersects(Switches::TIMESTAMP | Switches::TIMESTAMP_NS)
            || Self::of(base).contains(Self::SOFTWARE | Self::RX_SOFTWARE)
    }
}

/// The times that come with a datagram that arrived at `at`, in nanoseconds since 1970.
pub(super) fn describe_received(base: &SocketBase, at: impl FnOnce() -> u64, out: &mut Vec<ControlMessage>) {
    let switches = base.switches();
    if !switches.intersects(Switches::TIMESTAMP | Switches::TIMESTAMP_NS | Switches::TIMESTAMPING) {
        return;
    }
    let at = at();
    let is_new = switches.contains(Switches::TIMESTAMP_NEW);
    if switches.contains(Switches::TIMESTAMP_NS) {
        let kind = if is_new { SO_TIMESTAMPNS_NEW } else { SO_TIMESTAMPNS };
        out.push(ControlMessage::value(SOL_SOCKET, kind, &Timespec::from_ns(at)));
    } else if switches.contains(Switches::TIMESTAMP) {
        let kind = if is_new { SO_TIMESTAMP_NEW } else { SO_TIMESTAMP };
        out.push(ControlMessage::value(SOL_SOCKET, kind, &Timeval::from_ns(at)));
    }
    // Linux without OPT_RX_FILTER also tells times that another socket has asked for.
    if Stamping::of(base).contains(Stamping::SOFTWARE | Stamping::RX_SOFTWARE) {
        out.push(message(base, at));
    }
}

/// The control messages of an entry of the error queue.
pub(super) fn describe_sent(
    family: Family,
    base: &SocketBase,
    stamp: &SentStamp,
    at: u64,
) -> Vec<ControlMessage> {
    let mut control = Vec::new();
    if Stamping::of(base).contains(Stamping::SOFTWARE) {
        control.push(message(base, at));
    }
    let error = SockExtendedErr {
        errno: u32::from(Errno::ENOMSG.code()),
        origin: SO_EE_ORIGIN_TIMESTAMPING,
        kind: 0,
        code: 0,
        pad: 0,
        info: match stamp.kind {
            StampKind::Sent => SCM_TSTAMP_SND,
            StampKind::Scheduled => SCM_TSTAMP_SCHED,
            StampKind::Acknowledged => SCM_TSTAMP_ACK,
        },
        data: stamp.id,
    };
    control.push(error_queue::message(family, &error, None));
    control
}

/// `struct scm_timestamping`: a time of software, one that is never there, and one of hardware.
fn message(base: &SocketBase, at: u64) -> ControlMessage {
    let kind = if base.has(Switches::TIMESTAMP_NEW) { SO_TIMESTAMPING_NEW } else { SO_TIMESTAMPING };
    let none = Timespec::from_ns(0);
    ControlMessage::value(SOL_SOCKET, kind, &[Timespec::from_ns(at), none, none])
}

/// `SCM_TSTAMP_*`.
const SCM_TSTAMP_SND: u32 = 0;
const SCM_TSTAMP_SCHED: u32 = 1;
const SCM_TSTAMP_ACK: u32 = 2;
