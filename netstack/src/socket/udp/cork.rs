//! Datagrams that several calls put together (`UDP_CORK`, `MSG_MORE`).
//!
//! The first call says where the datagram goes and how; the others only bring data. What is kept is boxed and hardly ever there,
//! and sockets that never did this are told apart by one flag.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use netstack_wire::ip::Protocol;
use netstack_wire::{ipv4, udp};

use crate::buffer::Source;
use crate::error::SendError;
use crate::ip::Fragmenting;
use crate::options::{Family, SendMeta};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::socket::UdpSocket;
use crate::socket::datagram::{Outgoing, gather};
use crate::socket::udp::transmit::{check_segments, datagram};

/// What a socket that was corked keeps.
#[derive(Default)]
pub(crate) struct Corked {
    /// `UDP_CORK`.
    is_on: bool,
    pending: Option<Pending>,
}

/// A datagram that grows.
struct Pending {
    outgoing: Outgoing,
    port: u16,
    data: Vec<u8>,
    /// The first call said so.
    has_own_ttl: bool,
}

impl std::fmt::Debug for Corked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let len = self.pending.as_ref().map(|pending| pending.data.len());
        f.debug_struct("Corked").field("is_on", &self.is_on).field("pending", &len).finish()
    }
}

impl UdpSocket {
    /// Has the data of all calls that follow go into one datagram, until this is turned off again (`UDP_CORK`). Turning it
    /// off sends what there is, also what was sent with [`SendMeta::more`].
    ///
    /// # Errors
    /// Those of the datagram that was sent; corking is off all the same.
    pub fn set_cork(&self, on: bool) -> Result<(), SendError> {
        if !on && !self.endpoint.was_corked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let pending = {
            let mut state = self.endpoint.lock();
            let corked = state.corked.get_or_insert_default();
            corked.is_on = on;
            let pending = if on { None } else { corked.pending.take() };
            state.forget_way();
            pending
        };
        self.endpoint.was_corked.store(true, Ordering::Relaxed);
        let Some(pending) = pending else { return Ok(()) };
        let mut outbox = Outbox::default();
        let sent = self.send_pending(pending, &mut outbox);
        outbox.flush(&self.core);
        sent
    }

    /// Whether the data of the next call waits for more ([`set_cork`](Self::set_cork)).
    pub fn is_corked(&self) -> bool {
        self.endpoint.lock().corked.as_ref().is_some_and(|corked| corked.is_on)
    }

    /// Sends by a socket that is or was corked, or data that more follows. `None` if it is a datagram like any other.
    #[cold]
    pub(super) fn send_corked(
        &self,
        data: &mut dyn Source,
        meta: &SendMeta,
        outbox: &mut Outbox,
    ) -> Result<Option<usize>, SendError> {
        let len = data.remaining();
        let (is_on, has_pending) = {
            let state = self.endpoint.lock();
            let corked = state.corked.as_ref();
            corked.map_or((false, false), |corked| (corked.is_on, corked.pending.is_some()))
        };
        if !has_pending && !is_on && !meta.more {
            return Ok(None);
        }
        if len > usize::from(u16::MAX) - udp::HEADER_LEN {
            // udpv6_sendmsg finds out when it adds the data, udp_sendmsg before it looks at what there is.
            if self.endpoint.family == Family::V6 {
                self.take_pending();
            }
            return Err(SendError::MessageTooLong);
        }
        let first = if has_pending { None } else { Some(self.begin(meta)?) };
        let bytes = gather(data).inspect_err(|_| drop(self.take_pending()))?;
        let finished = {
            let mut state = self.endpoint.lock();
            let corked = state.corked.get_or_insert_default();
            // Somebody else may have begun or finished one meanwhile.
            let Some(mut pending) = corked.pending.take().or(first) else {
                return Err(SendError::WouldBlock);
            };
            if !pending.has_room(bytes.len()) {
                return Err(SendError::MessageTooLong);
            }
            pending.data.extend_from_slice(&bytes);
            let finished = if corked.is_on || meta.more {
                corked.pending = Some(pending);
                None
            } else {
                Some(pending)
            };
            // What goes the short way does not look here.
            state.forget_way();
            finished
        };
        self.endpoint.was_corked.store(true, Ordering::Relaxed);
        if let Some(pending) = finished {
            self.send_pending(pending, outbox)?;
        }
        Ok(Some(len))
    }

    fn take_pending(&self) -> Option<Pending> {
        self.endpoint.lock().corked.as_mut().and_then(|corked| corked.pending.take())
    }

    fn begin(&self, meta: &SendMeta) -> Result<Pending, SendError> {
        let (mut outgoing, port) =
            self.endpoint.outgoing_from(&self.core, Protocol::UDP, meta, || self.autobind())?;
        outgoing.label(&self.core, port);
        Ok(Pending { outgoing, port, data: Vec::new(), has_own_ttl: meta.ttl.is_some() })
    }

    fn send_pending(&self, pending: Pending, outbox: &mut Outbox) -> Result<(), SendError> {
        let Pending { mut outgoing, port, data, has_own_ttl } = pending;
        if let (IpAddr::V4(to), false) = (outgoing.output.destination, has_own_ttl || outgoing.is_to_group())
        {
            debug_assert!(!to.is_multicast());
            // __ip_make_skb asks the socket when the datagram leaves, ip6_setup_cork when it begins.
            let default = outgoing.way.egress.default_ttl(&self.core);
            outgoing.output.ttl = self.endpoint.lock().options.ttl.unwrap_or(default);
        }
        if outgoing.has_extensions() {
            outgoing.segment_size = outgoing.segment_size.filter(|&size| usize::from(size) >= data.len());
        }
        if let Some(size) = outgoing.segment_size {
            check_segments(&outgoing, data.len(), size)?;
        }
        let packet = datagram(port, &outgoing, Packet::from_frame(data.into()));
        let sent = self.endpoint.dispatch(&self.core, &mut outgoing, packet, outbox);
        let destination = (outgoing.output.destination, outgoing.port);
        sent.map_err(|error| self.endpoint.output_failed(error, destination))?;
        self.core.counters.udp_out_datagrams.increment();
        Ok(())
    }
}

impl Pending {
    /// Whether so many more bytes fit a packet (`__ip_append_data`).
    fn has_room(&self, more: usize) -> bool {
        let output = &self.outgoing.output;
        let limit = match output.fragmenting {
            Fragmenting::Forbidden => usize::try_from(self.outgoing.way.egress.mtu).unwrap_or(usize::MAX),
            Fragmenting::IfNeeded | Fragmenting::Allowed => match output.destination {
                IpAddr::V4(_) => ipv4::MAX_PACKET_LEN,
                IpAddr::V6(_) => ipv4::MAX_PACKET_LEN + output.header_len(),
            },
        };
        output.header_len() + udp::HEADER_LEN + self.data.len() + more <= limit
    }
}
