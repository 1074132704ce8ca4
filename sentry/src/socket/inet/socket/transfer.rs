//! Sending and receiving.

use std::sync::atomic::Ordering;

use netstack::TcpSocket;
use netstack::error::{FastOpenError, SendError};
use netstack::options::{
    Datagram, Family as IpFamily, RecvFlags, RecvMessage, SendFlags, SendMeta, SentStamp,
};
use netstack::tcp::{FastOpenModes, State, UrgentError};
use sentry_abi::inet::TCP_CM_INQ;
use sentry_abi::socket::{MsgFlags, SO_RXQ_OVFL, SOL_SOCKET, SOL_TCP};

use super::{InetSocket, Protocol};
use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::socket::base::Switches;
use crate::socket::control::ControlMessage;
use crate::socket::inet::copy::{Discard, GuestSink, GuestSource, WatchedSink};
use crate::socket::inet::receive::Receive;
use crate::socket::inet::stamp::Stamping;
use crate::socket::inet::{ToErrno, address, ancillary, repair, stamp, tag};
use crate::socket::ops::{Destination, Received, RecvRequest, SendRequest, Socket};

impl InetSocket {
    pub(super) fn send_tcp(
        &self,
        tcp: &TcpSocket,
        src: &mut dyn IoSrc,
        request: &SendRequest<'_>,
    ) -> Result<usize, Errno> {
        if request.flags.contains(MsgFlags::FASTOPEN) {
            return self.open_with_data(tcp, src, request);
        }
        if repair::is_on(&self.base) {
            return repair::send(&self.base, tcp, src);
        }
        let mut flags = SendFlags {
            more: request.flags.contains(MsgFlags::MORE),
            urgent: request.flags.contains(MsgFlags::OOB),
            stamp: None,
        };
        if self.base.has(Switches::TIMESTAMPING) || !request.control.is_empty() {
            flags.stamp = Stamping::of(&self.base).with_message(&request.control)?.request_of_stream();
        }
        if src.remaining() == 0 {
            let is_open = matches!(tcp.state(), State::Established | State::CloseWait);
            return if is_open { Ok(0) } else { Err(self.take_error().unwrap_or(Errno::EPIPE)) };
        }
        let sent = tcp.send_as(&mut GuestSource(src), flags).map_err(|e| match e {
            SendError::NotConnected => Errno::EPIPE,
            e => e.to_errno(),
        });
        if self.is_deferred.load(Ordering::Relaxed) && sent.is_ok() {
            self.is_deferred.store(false, Ordering::Relaxed);
            self.is_connecting.store(true, Ordering::Relaxed);
        }
        sent
    }

    /// `MSG_FASTOPEN` (`tcp(7)`): connects, with data in the SYN if a cookie is known.
    fn open_with_data(
        &self,
        tcp: &TcpSocket,
        src: &mut dyn IoSrc,
        request: &SendRequest<'_>,
    ) -> Result<usize, Errno> {
        let Destination::Address(to) = &request.to else { return Err(Errno::EINVAL) };
        let is_allowed = self.namespace.stack().tcp_config().fast_open.contains(FastOpenModes::CLIENT);
        let remote = address::decode(self.family, to)?.filter(|_| is_allowed).ok_or(Errno::EOPNOTSUPP)?;
        let taken = tcp.connect_with_data(remote, &mut GuestSource(src)).map_err(|e| match e {
            FastOpenError::Connect(e) => e.to_errno(),
            FastOpenError::Fault(_) => Errno::EFAULT,
        })?;
        self.is_connecting.store(true, Ordering::Relaxed);
        if taken > 0 { Ok(taken) } else { Err(Errno::EINPROGRESS) }
    }

    pub(super) fn send_datagram(
        &self,
        src: &mut dyn IoSrc,
        request: &SendRequest<'_>,
    ) -> Result<usize, Errno> {
        let is_udp = self.udp().is_some();
        // udp_sendmsg: "Mirror BSD error message compatibility"; udpv6_sendmsg does not look at it. MSG_MORE is for UDP.
        let refused = match (is_udp, self.family) {
            (true, IpFamily::V4) => MsgFlags::OOB,
            (true, IpFamily::V6) => MsgFlags::empty(),
            (false, _) => MsgFlags::OOB | MsgFlags::MORE,
        };
        if request.flags.intersects(refused) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut meta = SendMeta { more: request.flags.contains(MsgFlags::MORE), ..SendMeta::default() };
        if let Destination::Address(to) = &request.to {
            meta.to = self.decode_to(to)?;
            if is_udp && meta.to.is_some_and(|to| to.port() == 0) {
                return Err(Errno::EINVAL);
            }
        }
        ancillary::apply(self.family, &request.control, &mut meta)?;
        if let Some(label) = meta.flow_label {
            self.namespace.flow_labels().check(self, label)?;
        }
        meta.nic = meta.nic.or_else(|| self.notes.nic_for(|| meta.to.or_else(|| self.peer())));
        let mut counts = false;
        if self.base.has(Switches::TIMESTAMPING) {
            let stamping = Stamping::of(&self.base).with_message(&request.control)?;
            counts = stamping.counts();
            meta.stamp = stamping.request(if counts { self.notes.take_stamp_id() } else { 0 });
        }
        let mut source = GuestSource(src);
        let sent = match &self.protocol {
            Protocol::Udp(s) => s.try_send(&mut source, &meta),
            Protocol::Ping(s) => s.try_send(&mut source, &meta),
            Protocol::Raw(s) => s.try_send(&mut source, &meta),
            Protocol::Tcp(s) => s.try_send(&mut source),
        };
        if counts && sent.is_err() {
            self.notes.untake_stamp_id();
        }
        sent.map_err(|e| e.to_errno())
    }

    pub(super) fn recv_tcp(
        &self,
        tcp: &TcpSocket,
        dst: &mut dyn IoDst,
        request: RecvRequest,
    ) -> Result<Received, Errno> {
        if request.flags.contains(MsgFlags::OOB) {
            return Self::recv_urgent(tcp, dst, request);
        }
        if repair::is_on(&self.base) {
            return repair::receive(&self.base, tcp, dst, request);
        }
        let flags = RecvFlags {
            peek: request.flags.contains(MsgFlags::PEEK),
            skip: self.base.peek_skip(request.flags),
        };
        let wants_time = request.wants_control && Stamping::wants_arrivals(&self.base);
        let got = match (request.flags.contains(MsgFlags::TRUNC), wants_time) {
            (true, _) => tcp.try_recv_stamped(&mut Discard(dst.remaining()), flags),
            (false, true) => tcp.try_recv_stamped(&mut GuestSink(dst), flags),
            (false, false) => tcp.try_recv(&mut GuestSink(dst), flags).map(|copied| (copied, None)),
        };
        let (copied, arrival) = got.map_err(|e| e.to_errno())?;
        self.base.note_received(request.flags, copied);
        let mut received = Received { copied, len: copied, ..Received::default() };
        if let Some(arrival) = arrival.filter(|_| request.wants_control) {
            stamp::describe_received(&self.base, || self.real_time(arrival), &mut received.control);
        }
        if request.wants_control && self.receive.get().contains(Receive::IN_QUEUE) {
            let left = i32::try_from(tcp.recv_queue_len()).unwrap_or(i32::MAX);
            received.control.push(ControlMessage::value(SOL_TCP, TCP_CM_INQ, &left));
        }
        Ok(received)
    }

    /// The urgent byte (Linux's `tcp_recv_urg`).
    fn recv_urgent(tcp: &TcpSocket, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        let flags = RecvFlags { peek: request.flags.contains(MsgFlags::PEEK), skip: None };
        let byte = match tcp.try_recv_urgent(flags) {
            Ok(byte) => byte,
            Err(UrgentError::Nothing) => return Err(Errno::EINVAL),
            Err(UrgentError::WouldBlock) => return Err(Errno::EAGAIN),
            Err(UrgentError::NotConnected) => return Err(Errno::ENOTCONN),
            Err(UrgentError::EndOfStream) => return Ok(Received::default()),
        };
        let has_room = dst.remaining() > 0;
        if has_room && !request.flags.contains(MsgFlags::TRUNC) {
            dst.put(&[byte])?;
        }
        let count = usize::from(has_room);
        let mut received = Received { copied: count, len: count, ..Received::default() };
        received.flags = if has_room { MsgFlags::OOB } else { MsgFlags::OOB | MsgFlags::TRUNC };
        Ok(received)
    }

    pub(super) fn recv_datagram(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        let flags = RecvFlags { peek: request.flags.contains(MsgFlags::PEEK), skip: None };
        let room = dst.remaining();
        let mut sink = GuestSink(dst);
        let got: Result<Datagram, _> = match &self.protocol {
            Protocol::Udp(s) => {
                let skip = self.base.peek_skip(request.flags);
                s.try_recv(&mut sink, RecvFlags { skip, ..flags })
            }
            Protocol::Ping(s) => s.try_recv(&mut sink, flags),
            Protocol::Raw(s) => s.try_recv(&mut sink, flags),
            Protocol::Tcp(_) => return Err(Errno::EOPNOTSUPP),
        };
        let datagram = got.map_err(|e| e.to_errno())?;
        Ok(self.told(&datagram, room, request))
    }

    /// Receives as many datagrams as there are for the rooms, without waiting (`recvmmsg(2)`): under one lock, if the socket is
    /// one that can; `None` for others.
    ///
    /// # Errors
    /// As [`Socket::try_recv`]; of the first.
    pub fn try_recv_many(&self, rooms: &mut [(&mut dyn IoDst, RecvRequest)]) -> Option<Result<Batch, Errno>> {
        let is_plain = |request: &RecvRequest| {
            !request.flags.intersects(MsgFlags::PEEK | MsgFlags::ERRQUEUE | MsgFlags::OOB)
        };
        let udp = self.udp().filter(|_| rooms.iter().all(|(_, request)| is_plain(request)))?;
        let told: Vec<_> = rooms.iter().map(|(room, request)| (room.remaining(), *request)).collect();
        let mut sinks: Vec<_> = rooms.iter_mut().map(|(room, _)| WatchedSink::new(&mut **room)).collect();
        let mut messages: Vec<_> = sinks.iter_mut().map(|sink| RecvMessage::new(sink)).collect();
        let received = udp.try_recv_many(&mut messages).map_err(|e| e.to_errno());
        let datagrams: Vec<_> = messages.into_iter().filter_map(|message| message.datagram).collect();
        let tell = |(datagram, (room, request)): (&Datagram, _)| self.told(datagram, room, request);
        Some(received.map(|count| Batch {
            received: datagrams.iter().zip(told).take(count).map(tell).collect(),
            met_fault: sinks.iter().any(WatchedSink::has_failed),
        }))
    }

    /// What the guest is told of a datagram for which it had `room`.
    fn told(&self, datagram: &Datagram, room: usize, request: RecvRequest) -> Received {
        let mut received = Received { copied: datagram.copied, len: datagram.len, ..Received::default() };
        // udp_recvmsg: the whole length counts, also of what was passed over.
        received.flags.set(MsgFlags::TRUNC, datagram.copied < datagram.len && datagram.copied == room);
        if let Protocol::Udp(_) = &self.protocol {
            let is_whole = request.flags.contains(MsgFlags::TRUNC);
            self.base.note_received(request.flags, if is_whole { datagram.len } else { datagram.copied });
        }
        if request.wants_address {
            received.from = address::encode(self.family, datagram.from);
        }
        if request.wants_control {
            stamp::describe_received(&self.base, || self.real_time(datagram.arrival), &mut received.control);
            // sock_recv_drops: nothing is told before something is lost.
            if datagram.dropped_before != 0 && self.base.has(Switches::TELLS_DROPS) {
                let drops = ControlMessage::value(SOL_SOCKET, SO_RXQ_OVFL, &datagram.dropped_before);
                received.control.push(drops);
            }
            tag::describe(&self.base, (datagram.mark, datagram.priority), &mut received.control);
            ancillary::describe(self.family, self.receive.get(), datagram, &mut received.control);
        }
        received
    }

    /// An entry of the error queue that tells when a datagram was sent.
    pub(super) fn recv_stamp(&self, dst: &mut dyn IoDst) -> Result<Received, Errno> {
        let stamp = match &self.protocol {
            Protocol::Udp(s) => s.take_sent_stamp(),
            Protocol::Ping(s) => s.take_sent_stamp(),
            Protocol::Raw(s) => s.take_sent_stamp(),
            Protocol::Tcp(s) => s.take_sent_stamp().map(|stamp| self.numbered(stamp)),
        };
        let stamp = stamp.ok_or(Errno::EAGAIN)?;
        let want = stamp.packet.len().min(dst.remaining());
        let copied = if want == 0 { 0 } else { dst.put(&stamp.packet[..want])? };
        let mut flags = MsgFlags::ERRQUEUE;
        flags.set(MsgFlags::TRUNC, copied < stamp.packet.len());
        let control = stamp::describe_sent(self.family, &self.base, &stamp, self.real_time(stamp.at));
        Ok(Received { copied, len: stamp.packet.len(), flags, control, ..Received::default() })
    }

    /// As the socket wants what is sent to be counted (`__skb_complete_tx_timestamp`).
    fn numbered(&self, stamp: SentStamp) -> SentStamp {
        let counts = Stamping::of(&self.base).contains(Stamping::OPT_ID);
        SentStamp { id: if counts { stamp.id } else { 0 }, ..stamp }
    }

    /// A time of the stack in nanoseconds since 1970.
    fn real_time(&self, at: netstack::time::Instant) -> u64 {
        let age = self.namespace.stack().now().saturating_duration_since(at);
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(0);
        self.clocks.realtime_ns().saturating_sub(age_ns)
    }
}

/// What one call has received.
#[derive(Debug)]
pub struct Batch {
    /// The datagrams.
    pub received: Vec<Received>,
    /// The memory for the one behind them could not be written: it is lost.
    pub met_fault: bool,
}
