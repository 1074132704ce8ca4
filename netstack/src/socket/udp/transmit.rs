//! Sending datagrams: the long way, which decides everything, and the short one for more of the same.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::ip::Protocol;
use netstack_wire::udp::{self, UdpRepr};

use crate::buffer::Source;
use crate::error::SendError;
use crate::options::{SendMessage, SendMeta};
use crate::outbox::{Cork, Outbox};
use crate::packet::{Checksum, Gso, GsoKind, HEADROOM, Packet};
use crate::socket::UdpSocket;
use crate::socket::datagram::{Express, Outgoing, gather};

impl UdpSocket {
    /// Sends all that is left of `data` as one datagram and returns its length; as several if it is to be cut
    /// ([`SendMeta::segment_size`]).
    pub fn try_send(&self, data: &mut dyn Source, meta: &SendMeta) -> Result<usize, SendError> {
        let mut outbox = Outbox::default();
        let express = express_to(meta).and_then(|to| self.endpoint.express(&self.core, to));
        let sent = match express.as_deref().map(|express| express.try_send(data, &mut outbox)) {
            Some(Ok(Some(len))) => {
                self.count_express(1);
                Ok(len)
            }
            Some(Err(error)) => Err(error),
            Some(Ok(None)) | None => self.send_long(data, meta, &mut outbox),
        };
        outbox.flush(&self.core);
        sent
    }

    /// Sends one datagram after the other, as sendmmsg(2), and returns how many were sent. The link gets them in
    /// batches.
    ///
    /// # Errors
    /// That of the first datagram. One of a later datagram ends the call early; sending the rest meets it again.
    pub fn try_send_many(&self, messages: &mut [SendMessage<'_>]) -> Result<usize, SendError> {
        let mut outbox = Outbox::default();
        let mut sent = 0;
        let mut outcome = Ok(());
        for batch in messages.chunks_mut(BATCH) {
            let before = sent;
            outcome = self.send_batch(batch, &mut sent, &mut outbox);
            outbox.flush(&self.core);
            if outcome.is_err() || sent - before < batch.len() {
                break;
            }
        }
        match outcome {
            Err(error) if sent == 0 => Err(error),
            _ => Ok(sent),
        }
    }

    /// Does `work`, and gives what this thread sends meanwhile, on any socket, to the links in batches, as
    /// [`try_send_many`](Self::try_send_many) does; for callers that have the messages one after the other. `work` must
    /// not wait for anything.
    pub fn batched<R>(work: impl FnOnce() -> R) -> R {
        let _cork = Cork::new();
        work()
    }

    fn send_batch(
        &self,
        messages: &mut [SendMessage<'_>],
        sent: &mut usize,
        outbox: &mut Outbox,
    ) -> Result<(), SendError> {
        let (mut to, mut express, mut by_express) = (None, None, 0);
        let mut outcome = Ok(());
        let mut rest = messages;
        while let Some(first) = rest.first() {
            let next = express_to(first.meta);
            // Asked for once, and again after the long way may have made one.
            if express.is_none() || next != to {
                to = next;
                express = next.and_then(|to| self.endpoint.express(&self.core, to));
            }
            let short = match express.as_deref() {
                Some(express) => express.send_some(rest, to, outbox),
                None => Ok(None),
            };
            let count = match short {
                Ok(Some(count)) => {
                    by_express += count as u64;
                    count
                }
                Ok(None) => {
                    let SendMessage { data, meta } = &mut rest[0];
                    outcome = self.send_long(*data, meta, outbox).map(drop);
                    1
                }
                Err(error) => {
                    outcome = Err(error);
                    1
                }
            };
            if outcome.is_err() {
                break;
            }
            *sent += count;
            rest = &mut rest[count..];
        }
        self.count_express(by_express);
        outcome
    }

    fn count_express(&self, datagrams: u64) {
        self.core.counters.ip_out_requests.add(datagrams);
        self.core.counters.udp_out_datagrams.add(datagrams);
    }

    fn send_long(
        &self,
        data: &mut dyn Source,
        meta: &SendMeta,
        outbox: &mut Outbox,
    ) -> Result<usize, SendError> {
        if (meta.more || self.endpoint.was_corked.load(Ordering::Relaxed))
            && let Some(len) = self.send_corked(data, meta, outbox)?
        {
            return Ok(len);
        }
        let len = data.remaining();
        if len > usize::from(u16::MAX) - udp::HEADER_LEN {
            return Err(SendError::MessageTooLong);
        }
        let (mut outgoing, port) =
            self.endpoint.outgoing_from(&self.core, Protocol::UDP, meta, || self.autobind())?;
        if outgoing.has_extensions() {
            // As Linux: what is cut later has no place for options.
            outgoing.segment_size = outgoing.segment_size.filter(|&size| usize::from(size) >= len);
        }
        if let Some(size) = outgoing.segment_size {
            check_segments(&outgoing, len, size)?;
        }
        outgoing.label(&self.core, port);
        let packet = datagram(port, &outgoing, payload(data, outgoing.segment_size)?);
        let sent = self.endpoint.dispatch(&self.core, &mut outgoing, packet, outbox);
        if let (Ok(()), None, Some(to)) = (sent, outgoing.segment_size, express_to(meta)) {
            self.endpoint.prepare_express(&self.core, to, port, &outgoing);
        }
        let destination = (outgoing.output.destination, outgoing.port);
        self.endpoint.keep(outgoing.way);
        match sent {
            Ok(()) => {
                self.core.counters.udp_out_datagrams.increment();
                Ok(len)
            }
            Err(error) => Err(self.endpoint.output_failed(error, destination)),
        }
    }
}

impl Express {
    /// Sends the first message, and those after it that can be in one packet with it. Returns how many it sent; `None` if
    /// not even the first one fits.
    fn send_some(
        &self,
        messages: &mut [SendMessage<'_>],
        to: Option<Option<SocketAddr>>,
        outbox: &mut Outbox,
    ) -> Result<Option<usize>, SendError> {
        match self.run_of(messages, to) {
            0 | 1 => self.try_send(messages[0].data, outbox).map(|sent| sent.map(|_| 1)),
            count => self.send_run(&mut messages[..count], outbox).map(Some),
        }
    }

    /// How many messages from the first on make a super-segment that the link cuts into these datagrams again: all as
    /// long as the first, except for the last, which may be shorter.
    fn run_of(&self, messages: &[SendMessage<'_>], to: Option<Option<SocketAddr>>) -> usize {
        let limit = self.template.max_udp_segments_len().saturating_sub(udp::HEADER_LEN);
        let Some(size) = messages.first().map(|first| first.data.remaining()) else { return 0 };
        if limit == 0 || self.no_checksum || size + udp::HEADER_LEN > self.template.max_len() {
            return 1;
        }
        let (mut count, mut total) = (1, size);
        for SendMessage { data, meta } in messages.iter().take(MAX_MERGED).skip(1) {
            let len = data.remaining();
            total += len;
            if !(1..=size).contains(&len) || total > limit || express_to(meta) != to {
                break;
            }
            count += 1;
            if len < size {
                break;
            }
        }
        count
    }

    /// Sends messages as one super-segment, and returns how many they were: fewer if memory could not be read.
    fn send_run(&self, messages: &mut [SendMessage<'_>], outbox: &mut Outbox) -> Result<usize, SendError> {
        let size = messages[0].data.remaining();
        let mut bytes = Vec::with_capacity(size * messages.len());
        let mut count = 0;
        for SendMessage { data, .. } in messages {
            let start = bytes.len();
            bytes.resize(start + data.remaining(), 0);
            match data.read_into(&mut bytes[start..]) {
                Ok(()) => count += 1,
                Err(fault) if count == 0 => return Err(fault.into()),
                Err(_) => {
                    bytes.truncate(start);
                    break;
                }
            }
        }
        let is_super = bytes.len() > size;
        let mut packet = Packet::from_frame(bytes.into());
        // A single datagram is within the MTU.
        packet.meta.gso = is_super.then_some(Gso { kind: GsoKind::Udp, size: size as u16 });
        self.send(packet, outbox);
        Ok(count)
    }

    /// Sends a datagram, unless it does not fit.
    #[inline]
    fn try_send(&self, data: &mut dyn Source, outbox: &mut Outbox) -> Result<Option<usize>, SendError> {
        let len = data.remaining();
        let total = len + udp::HEADER_LEN;
        if total > self.template.max_len() {
            return Ok(None);
        }
        self.send(payload(data, None)?, outbox);
        Ok(Some(len))
    }

    /// Puts the headers in front of a payload that fits 16 bits with them, and sends it.
    #[inline]
    fn send(&self, mut packet: Packet, outbox: &mut Outbox) {
        let total = packet.len() + udp::HEADER_LEN;
        let ports = u32::from(self.local_port) << 16 | u32::from(self.port);
        let header = u64::from(ports) << 32 | (total as u64) << 16;
        packet.prepend(&header.to_be_bytes());
        if !self.no_checksum {
            // The length is in the pseudo-header too.
            let sum = checksum::add(self.template.pseudo(), total as u16);
            let field = if self.template.link_finishes_checksum() {
                packet.meta.checksum = Checksum::Partial { start: 0, offset: udp::CHECKSUM_OFFSET as u16 };
                sum
            } else {
                let mut all = Accumulator::new(sum);
                all.add(packet.head());
                packet.body().iter().for_each(|range| all.add(range));
                udp::checksum_on_wire(all.checksum())
            };
            packet.head_mut()[udp::CHECKSUM_OFFSET..udp::HEADER_LEN].copy_from_slice(&field.to_be_bytes());
        }
        packet.meta.mark = self.mark;
        packet.meta.priority = self.priority;
        packet.meta.owner = self.owner;
        self.template.send(packet, outbox);
    }
}

/// Where a message goes that says nothing else; `None` if it does.
fn express_to(meta: &SendMeta) -> Option<Option<SocketAddr>> {
    let SendMeta { to, source, nic, ttl, tos, flow_label, segment_size, ip_options, extensions, .. } = meta;
    let SendMeta { stamp, mark, priority, more, .. } = meta;
    let is_plain =
        source.is_none() && nic.is_none() && ttl.is_none() && tos.is_none() && flow_label.is_none();
    let is_plain = is_plain
        && segment_size.is_none()
        && ip_options.is_none()
        && extensions.is_none()
        && stamp.is_none()
        && mark.is_none()
        && priority.is_none()
        && !more;
    is_plain.then_some(*to)
}

/// What Linux asks of data that is to be cut (`udp_send_skb`).
pub(super) fn check_segments(outgoing: &Outgoing, len: usize, size: u16) -> Result<(), SendError> {
    let size = usize::from(size);
    let headers = outgoing.output.header_len() + udp::HEADER_LEN;
    if headers + size.min(len) > usize::try_from(outgoing.way.egress.mtu).unwrap_or(usize::MAX) {
        return Err(SendError::MessageTooLong);
    }
    if len > size * MAX_SEGMENTS || outgoing.no_checksum {
        return Err(SendError::Invalid);
    }
    Ok(())
}

/// The datagram's payload. A few bytes go where the headers go: they need no buffer of their own, and the link gets the
/// whole packet in one piece. What is to be segmented stays in the body.
fn payload(data: &mut dyn Source, segment_size: Option<u16>) -> Result<Packet, SendError> {
    let len = data.remaining();
    if len > MAX_IN_HEAD || segment_size.is_some() {
        return Ok(Packet::from_frame(gather(data)?));
    }
    let mut packet = Packet::default();
    data.read_into(packet.push_header(len))?;
    Ok(packet)
}

pub(super) fn datagram(port: u16, outgoing: &Outgoing, mut packet: Packet) -> Packet {
    let payload_len = packet.len();
    let header = UdpRepr {
        source_port: port,
        destination_port: outgoing.port,
        // Checked against the maximum before.
        len: u16::try_from(udp::HEADER_LEN + payload_len).unwrap_or(u16::MAX),
        checksum: 0,
    };
    header.emit(packet.push_header(udp::HEADER_LEN));
    if !(outgoing.no_checksum && outgoing.output.destination.is_ipv4()) {
        // CHECKSUM_OFFSET is 6.
        packet.meta.checksum = Checksum::Partial { start: 0, offset: udp::CHECKSUM_OFFSET as u16 };
    }
    let segment_size = outgoing.segment_size.filter(|&size| usize::from(size) < packet.body_len());
    packet.meta.gso = segment_size.map(|size| Gso { kind: GsoKind::Udp, size });
    outgoing.tag(&mut packet);
    packet
}

/// What the headroom has left beside the headers of Ethernet (14), IPv6 (40) and UDP.
const MAX_IN_HEAD: usize = HEADROOM - 14 - 40 - udp::HEADER_LEN;

/// Linux's `UDP_MAX_SEGMENTS`, since 6.9.
const MAX_SEGMENTS: usize = 128;

/// Datagrams in one super-segment: Linux's `UDP_MAX_SEGMENTS` before 6.9.
const MAX_MERGED: usize = 64;

/// Datagrams that are given to the link at once. More would leave the cache on their way.
const BATCH: usize = 64;
