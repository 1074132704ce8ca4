//! Sending and receiving.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{TcpSocket, socket_error};
use crate::buffer::{Sink, Source};
use crate::error::{RecvError, SendError};
use crate::hint::{cold_path, likely, unlikely};
use crate::options::{RecvFlags, SendFlags, SentStamp, StampOrigin};
use crate::outbox::Outbox;
use crate::packet::INLINE_PAYLOAD;
use crate::socket::copy_in::Copied;
use crate::tcp;
use crate::tcp_endpoint::{SMALL_WRITE, TcpEndpoint};
use crate::time::Instant;

impl TcpSocket {
    /// Queues as much of `data` as fits and returns how much that was (never zero unless `data` is empty).
    pub fn try_send(&self, data: &mut dyn Source) -> Result<usize, SendError> {
        self.send_as(data, SendFlags::default())
    }

    /// [`try_send`](Self::try_send) with flags.
    pub fn send_as(&self, data: &mut dyn Source, flags: SendFlags) -> Result<usize, SendError> {
        let found;
        let endpoint = match self.quick_connection() {
            Some(endpoint) => endpoint,
            None => {
                found = self.connection().ok_or(SendError::NotConnected)?;
                &found
            }
        };
        let core = &self.core;
        let wanted = data.remaining();
        let is_few =
            (1..=FEW_BYTES_SENT).contains(&wanted) && endpoint.has_room() && flags == SendFlags::default();
        if is_few {
            // Over this thread's stack: the application's memory may not be touched under the lock.
            let mut few = [0; FEW_BYTES_SENT];
            data.read_into(&mut few[..wanted])?;
            return self.send_few(endpoint, &few[..wanted]);
        }
        let len = if wanted <= SMALL_WRITE && endpoint.has_room() {
            wanted
        } else {
            // Without room the machine still has to say why.
            let (room, is_held) =
                endpoint.inspect(|inner| (inner.machine.send_room(), inner.machine.is_syn_held()));
            if is_held {
                return self.send_first(endpoint, data);
            }
            wanted.min(room).min(MAX_SEND)
        };
        let mut copied = Copied::new();
        copied.copy_in(&core.send_pool, data, len)?;
        self.send_copied(endpoint, &mut copied, data.remaining(), flags)
    }

    /// Sends a few bytes of which all go.
    #[inline]
    fn send_few(&self, endpoint: &Arc<TcpEndpoint>, few: &[u8]) -> Result<usize, SendError> {
        if likely(endpoint.send_few(&self.core, few)) {
            return Ok(few.len());
        }
        let mut copied = Copied::of_few(few);
        self.send_copied(endpoint, &mut copied, 0, SendFlags::default())
    }

    /// Sends what was copied; `left` bytes were not.
    fn send_copied(
        &self,
        endpoint: &Arc<TcpEndpoint>,
        copied: &mut Copied,
        left: usize,
        flags: SendFlags,
    ) -> Result<usize, SendError> {
        let core = &self.core;
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let result = endpoint.with(core, &mut outbox, |inner| match copied.send(&mut inner.machine, now) {
            Ok(0) if left > 0 => Err(tcp::SendError::WouldBlock),
            Ok(count) => {
                inner.machine.set_more(flags.more);
                // Only the end of all of it is urgent.
                if flags.urgent && left == 0 {
                    inner.machine.mark_urgent();
                }
                if let Some(request) = flags.stamp.filter(|_| count > 0) {
                    endpoint.want_stamp(inner, request);
                }
                Ok(count)
            }
            Err(error) => Err(error),
        });
        outbox.flush(core);
        result.map_err(send_error)
    }

    /// Reads the urgent byte out of band (`MSG_OOB`); a peek leaves it.
    pub fn try_recv_urgent(&self, flags: RecvFlags) -> Result<u8, tcp::UrgentError> {
        let endpoint = self.connection().ok_or(tcp::UrgentError::Nothing)?;
        let mut outbox = Outbox::default();
        let result = endpoint.with(&self.core, &mut outbox, |inner| inner.machine.recv_urgent(flags.peek));
        outbox.flush(&self.core);
        result
    }

    /// Whether the next byte to read is the one at the urgent mark (`SIOCATMARK`).
    pub fn is_at_mark(&self) -> bool {
        self.connection().is_some_and(|endpoint| endpoint.inspect(|inner| inner.machine.is_at_mark()))
    }

    /// Receives what is there, up to the room of `out`. Zero is the end of the stream.
    pub fn try_recv(&self, out: &mut dyn Sink, flags: RecvFlags) -> Result<usize, RecvError> {
        let found;
        let endpoint = match self.quick_connection() {
            Some(endpoint) => endpoint,
            None => {
                found = self.connection().ok_or(RecvError::NotConnected)?;
                &found
            }
        };
        if unlikely(flags.peek) {
            return self.peek(endpoint, out, flags.skip.unwrap_or(0));
        }
        if let Some(count) = self.receive_few(endpoint, out)? {
            return Ok(count);
        }
        let (mut total, mut ranges) = (0, Ranges::new());
        loop {
            let room = out.room();
            match self.take(endpoint, room, &mut ranges) {
                Ok(()) => {}
                Err(_) if total > 0 => return Ok(total),
                Err(tcp::RecvError::WouldBlock) => return Err(RecvError::WouldBlock),
                Err(tcp::RecvError::Failed(reason)) => return Err(RecvError::Pending(socket_error(reason))),
            }
            let before = total;
            for (at, range) in ranges.iter().enumerate() {
                if let Err(fault) = out.write_from(range) {
                    self.put_back(endpoint, &ranges[at..]);
                    // Linux reports what was copied before the fault.
                    return if total > 0 { Ok(total) } else { Err(fault.into()) };
                }
                total += range.len();
            }
            // Fewer ranges than one round takes: the queue is empty.
            let is_drained =
                ranges.len() < RANGES_PER_ROUND || endpoint.inspect(|inner| is_read_over(&inner.machine));
            if total - before == room || is_drained {
                return Ok(total);
            }
            ranges.clear();
        }
    }

    /// [`try_recv`](Self::try_recv) that also tells when the last of the bytes arrived, where
    /// [`SocketOptions::stamp_arrivals`](crate::options::SocketOptions::stamp_arrivals) was set before they did.
    pub fn try_recv_stamped(
        &self,
        out: &mut dyn Sink,
        flags: RecvFlags,
    ) -> Result<(usize, Option<Instant>), RecvError> {
        let count = self.try_recv(out, flags)?;
        let ahead = if flags.peek { count + flags.skip.unwrap_or(0) } else { 0 };
        let endpoint = self.connection().filter(|_| count > 0);
        Ok((count, endpoint.and_then(|endpoint| endpoint.arrival(ahead))))
    }

    /// Takes the oldest of the times that were asked for ([`SendFlags::stamp`]).
    pub fn take_sent_stamp(&self) -> Option<SentStamp> {
        self.connection()?.take_stamp()
    }

    /// Says which byte has the number zero in the times to come. Without this, it is the first that is not acknowledged when
    /// a time is asked for first.
    pub fn number_stamps(&self, origin: StampOrigin) {
        if let Some(endpoint) = self.connection() {
            endpoint.number_stamps(origin);
        }
    }

    /// Receives all that is there if that is only a few bytes: they go over this thread's stack, since the application's
    /// memory may not be touched under the lock.
    fn receive_few(
        &self,
        endpoint: &Arc<TcpEndpoint>,
        out: &mut dyn Sink,
    ) -> Result<Option<usize>, RecvError> {
        let mut few = [0; FEW_BYTES];
        let Some(count) = endpoint.receive_few(&self.core, out.room(), &mut few) else {
            cold_path();
            return Ok(None);
        };
        if let Err(fault) = out.write_from(&few[..count]) {
            cold_path();
            self.put_back(endpoint, &[Bytes::copy_from_slice(&few[..count])]);
            return Err(fault.into());
        }
        Ok(Some(count))
    }

    /// Takes some ranges of the receive queue under one lock; none at the end of the stream.
    pub(super) fn take(
        &self,
        endpoint: &Arc<TcpEndpoint>,
        room: usize,
        ranges: &mut Ranges,
    ) -> Result<(), tcp::RecvError> {
        let core = &self.core;
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let result = endpoint.with(core, &mut outbox, |inner| {
            let mut left = room;
            while left > 0 && ranges.len() < RANGES_PER_ROUND {
                if !ranges.is_empty() && is_read_over(&inner.machine) {
                    // An error that waits behind the data is for the next call.
                    break;
                }
                match inner.machine.take(now, left) {
                    Ok(range) if range.is_empty() => break,
                    Ok(range) => {
                        left -= range.len();
                        ranges.push(range);
                    }
                    Err(_) if !ranges.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        outbox.flush(core);
        result
    }

    /// Puts back what was taken and could not be stored, for the next reader.
    pub(super) fn put_back(&self, endpoint: &Arc<TcpEndpoint>, ranges: &[Bytes]) {
        let mut outbox = Outbox::default();
        endpoint.with(&self.core, &mut outbox, |inner| {
            ranges.iter().rev().for_each(|range| inner.machine.put_back(range.clone()));
        });
        outbox.flush(&self.core);
    }

    pub(super) fn peek(
        &self,
        endpoint: &Arc<TcpEndpoint>,
        out: &mut dyn Sink,
        skip: usize,
    ) -> Result<usize, RecvError> {
        let core = &self.core;
        let mut outbox = Outbox::default();
        let result = endpoint.with(core, &mut outbox, |inner| {
            let mut seen = vec![0; out.room().min(inner.machine.receive_queued().saturating_sub(skip))];
            inner.machine.peek(skip, &mut seen).map(|len| {
                seen.truncate(len);
                seen
            })
        });
        outbox.flush(core);
        match result {
            Ok(seen) => {
                out.write_from(&seen)?;
                Ok(seen.len())
            }
            Err(tcp::RecvError::WouldBlock) => Err(RecvError::WouldBlock),
            Err(tcp::RecvError::Failed(reason)) => Err(RecvError::Pending(socket_error(reason))),
        }
    }
}

/// Whether a read that has given something ends here: there is no more, or the urgent mark.
fn is_read_over(machine: &tcp::Connection) -> bool {
    machine.receive_queued() == 0 || machine.is_at_mark()
}

pub(super) fn send_error(error: tcp::SendError) -> SendError {
    match error {
        tcp::SendError::WouldBlock => SendError::WouldBlock,
        tcp::SendError::WriteClosed => SendError::Shutdown,
        tcp::SendError::Failed(reason) => SendError::Pending(socket_error(reason)),
    }
}

/// So little is copied twice rather than shared.
const FEW_BYTES: usize = 128;
/// So little goes out in the buffer of its headers.
const FEW_BYTES_SENT: usize = INLINE_PAYLOAD;
/// The most that one call copies: enough to fill several super-segments, little enough to stay in the cache.
const MAX_SEND: usize = 256 << 10;
/// Ranges on their way from the receive queue to the application.
pub(super) type Ranges = SmallVec<[Bytes; RANGES_PER_ROUND]>;

/// Ranges taken per lock; more than a reader's buffer usually spans.
const RANGES_PER_ROUND: usize = 16;
