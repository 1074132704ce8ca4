//! What the user may do with a connection, whichever state it is in.

use super::super::error::{RecvError, SendError, ShutdownError};
use super::super::num::usize_of;
use super::super::options::Options;
use super::super::outcome::{CloseReason, Events, Outcome, Verdict};
use super::super::receive_queue::ReceiveQueue;
use super::super::receiver::{Stream, Unread};
use super::super::segment::PlainTransmit;
use super::super::urgent::UrgentError;
use super::{Connection, Phase, Shutdown};
use crate::time::Instant;
use bytes::Bytes;
use netstack_wire::seq::SeqNum;
use std::sync::Arc;

impl Connection {
    /// Queues a copy of as much of `data` as there is room for, and returns how much.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn send(&mut self, now: Instant, data: &[u8]) -> Result<usize, SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send(&self.common, data),
            Phase::Resting(_) => {
                self.wake(Some(now));
                self.send(now, data)
            }
            _ => Err(self.send_error()),
        }
    }

    /// Queues as much of `data` as there is room for without copying it, and returns how much.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn send_bytes(&mut self, now: Instant, data: &Bytes) -> Result<usize, SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send_bytes(&self.common, data),
            Phase::Resting(_) => {
                self.wake(Some(now));
                self.send_bytes(now, data)
            }
            _ => Err(self.send_error()),
        }
    }

    /// Queues all of `data` without copying it, beyond the send buffer if need be.
    ///
    /// For a caller who consumed as many bytes as [`send_room`](Self::send_room) said: the room shrinks with the
    /// congestion window, and what was consumed must not be lost to that.
    ///
    /// # Errors
    /// `WriteClosed` or `Failed`; nothing was queued then.
    pub fn send_admitted(&mut self, now: Instant, data: Bytes) -> Result<(), SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send_admitted(&self.common, data),
            Phase::Resting(_) => {
                self.wake(Some(now));
                self.send_admitted(now, data)
            }
            _ => Err(self.send_error()),
        }
    }

    /// Queues a copy of all of `data`, with the rules of [`send_admitted`](Self::send_admitted).
    ///
    /// # Errors
    /// `WriteClosed` or `Failed`; nothing was queued then.
    pub fn send_copied(&mut self, now: Instant, data: &[u8]) -> Result<(), SendError> {
        match &mut self.phase {
            Phase::Open(open) => open.send_copied(&self.common, data),
            Phase::Resting(_) => {
                self.wake(Some(now));
                self.send_copied(now, data)
            }
            _ => Err(self.send_error()),
        }
    }

    /// Queues a copy of a few bytes and gives them as the next segment, whatever the room. `None`: they may not go at once, or
    /// other than as a plain segment; nothing has happened, and [`send_copied`](Self::send_copied) takes them.
    #[inline]
    pub fn send_now(&mut self, now: Instant, data: &[u8]) -> Option<PlainTransmit> {
        match &mut self.phase {
            Phase::Open(open) => open.send_now(&self.common, now, data),
            _ => None,
        }
    }

    /// How many bytes `send` would take now; zero also when it would fail.
    #[must_use]
    pub fn send_room(&self) -> usize {
        match &self.phase {
            Phase::Open(open) => open.send_room(&self.common).unwrap_or(0),
            Phase::Resting(resting) => usize_of(resting.send_room(&self.common)),
            _ => 0,
        }
    }

    /// Whether `send` would take at least `len` bytes, which are few.
    #[must_use]
    #[inline]
    pub fn has_send_room(&self, len: u32) -> bool {
        match &self.phase {
            Phase::Open(open) => open.has_send_room(&self.common, len),
            _ => self.send_room() >= usize_of(len),
        }
    }

    /// Moves received bytes into `buf`; zero at the end of the stream. It may leave a window update to transmit.
    ///
    /// # Errors
    /// See [`RecvError`].
    #[inline]
    pub fn recv(&mut self, now: Instant, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.read(now, |queue, limit| {
            let len = buf.len().min(limit);
            queue.read(&mut buf[..len])
        })
    }

    /// Takes one contiguous range of at most `max` received bytes without copying; empty at the end of the stream.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn take(&mut self, now: Instant, max: usize) -> Result<Bytes, RecvError> {
        self.read(now, |queue, limit| queue.take(max.min(limit)))
    }

    /// Puts bytes that [`Connection::take`] gave back in front of the queue, the last ones first: their reader could not
    /// store them. The peer may have been offered their room already; the queue then holds that much more.
    pub fn put_back(&mut self, bytes: Bytes) {
        match &mut self.phase {
            Phase::Open(open) => open.rcv.queue.put_back(bytes),
            Phase::Resting(_) => {
                self.wake(None);
                self.put_back(bytes);
            }
            Phase::TimeWait(ended) => ended.unread.queue.put_back(bytes),
            Phase::Closed(ended) => ended.unread.queue.put_back(bytes),
            // A connection that data came over does not get back there.
            Phase::SynSent(_) | Phase::SynReceived(_) => {}
        }
    }

    /// Copies received bytes from `offset` on into `buf` and leaves them queued.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn peek(&mut self, offset: usize, buf: &mut [u8]) -> Result<usize, RecvError> {
        let (skip, limit) = match &self.phase {
            Phase::Open(open) => open.rcv.read_bounds(self.common.options.urgent_inline),
            Phase::TimeWait(ended) => ended.unread.read_bounds(self.common.options.urgent_inline),
            Phase::Closed(ended) => ended.unread.read_bounds(self.common.options.urgent_inline),
            _ => (0, usize::MAX),
        };
        let len = buf.len().min(limit.saturating_sub(offset));
        let is_behind = |len: u32| offset > 0 && (offset >= limit || usize_of(len) <= skip + offset);
        match self.unread() {
            Some(queue) if !queue.is_empty() && limit > 0 && !is_behind(queue.len()) => {
                Ok(queue.peek(skip + offset, &mut buf[..len]))
            }
            _ => self.end_of_stream().map(|()| 0),
        }
    }

    /// How many received bytes wait for the reader (FIONREAD).
    #[must_use]
    pub fn receive_queued(&self) -> usize {
        let is_inline = self.common.options.urgent_inline;
        usize_of(match &self.phase {
            Phase::Open(open) => open.rcv.queued_to_mark(is_inline),
            Phase::TimeWait(ended) => ended.unread.queued_to_mark(is_inline),
            Phase::Closed(ended) => ended.unread.queued_to_mark(is_inline),
            Phase::Resting(_) | Phase::SynSent(_) | Phase::SynReceived(_) => 0,
        })
    }

    /// Says whether what was queued last is to be followed by more (`MSG_MORE`): a partial segment then waits for it, at most
    /// 200 ms or until an ACK comes.
    pub fn set_more(&mut self, has_more: bool) {
        if let Phase::Open(open) = &mut self.phase {
            open.set_more(&self.common, has_more);
        }
    }

    /// Marks the end of what is queued as urgent (`MSG_OOB`): its last byte is the urgent one.
    pub fn mark_urgent(&mut self) {
        if let Phase::Open(open) = &mut self.phase {
            open.snd.mark_urgent();
        }
    }

    /// Reads the urgent byte out of band (`MSG_OOB`); a peek leaves it.
    ///
    /// # Errors
    /// See [`UrgentError`].
    pub fn recv_urgent(&mut self, is_peek: bool) -> Result<u8, UrgentError> {
        match &mut self.phase {
            _ if self.common.options.urgent_inline => Err(UrgentError::Nothing),
            Phase::Open(open) => match open.rcv.read_urgent(is_peek) {
                Err(UrgentError::WouldBlock) if open.is_read_over() => Err(UrgentError::EndOfStream),
                result => result,
            },
            Phase::TimeWait(ended) => ended.unread.read_urgent(is_peek),
            Phase::Closed(ended) => ended.unread.read_urgent(is_peek),
            Phase::Resting(_) | Phase::SynSent(_) | Phase::SynReceived(_) => Err(UrgentError::Nothing),
        }
    }

    /// Whether the next byte to read is the one at the urgent mark (`SIOCATMARK`).
    #[must_use]
    pub fn is_at_mark(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.rcv.is_at_mark(),
            Phase::TimeWait(ended) => ended.unread.is_at_mark(),
            Phase::Closed(ended) => ended.unread.is_at_mark(),
            Phase::Resting(_) | Phase::SynSent(_) | Phase::SynReceived(_) => false,
        }
    }

    /// How many queued bytes are not acknowledged (SIOCOUTQ) and not sent (SIOCOUTQNSD).
    #[must_use]
    pub fn send_queued(&self) -> (usize, usize) {
        match &self.phase {
            Phase::Open(open) => {
                let (queued, unsent) = (open.snd.queued(), open.snd.not_sent());
                (usize_of(queued), usize_of(unsent))
            }
            _ => (0, 0),
        }
    }

    /// Shuts one or both directions, with the rules of Linux (nothing is sent for the read side).
    ///
    /// # Errors
    /// There is no connection to shut.
    pub fn shutdown(&mut self, now: Instant, how: Shutdown) -> Result<Outcome, ShutdownError> {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.shutdown(&self.common, now, how);
                Ok(self.apply(now, reaction))
            }
            Phase::Resting(resting) => match resting.shutdown(&self.common, how) {
                true => Ok(transmitting()),
                false => {
                    self.wake(Some(now));
                    self.shutdown(now, how)
                }
            },
            // Linux disconnects a socket that is shut while it connects, whichever direction (inet_shutdown).
            Phase::SynSent(_) => Ok(self.close_with_error(CloseReason::Reset, None)),
            Phase::SynReceived(state) => {
                state.is_closing |= how != Shutdown::Read;
                Ok(Outcome::default())
            }
            Phase::TimeWait(_) => Ok(Outcome::default()),
            Phase::Closed(_) => Err(ShutdownError::NotConnected),
        }
    }

    /// The user is done: sends what is queued and FIN in the background, or RST if data is unread (RFC 2525 section 2.17).
    pub fn close(&mut self, now: Instant) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.close(&self.common, now);
                self.apply(now, reaction)
            }
            Phase::Resting(resting) => match resting.close(&self.common) {
                true => transmitting(),
                false => {
                    self.wake(Some(now));
                    self.close(now)
                }
            },
            Phase::SynSent(_) => self.close_silently(CloseReason::Aborted, None),
            Phase::SynReceived(state) => {
                state.is_closing = true;
                Outcome::default()
            }
            Phase::TimeWait(ended) => {
                ended.unread = Unread::default();
                Outcome::default()
            }
            Phase::Closed(ended) => {
                ended.unread = Unread::default();
                Outcome::default()
            }
        }
    }

    /// Resets the connection (linger with a zero timeout).
    pub fn abort(&mut self, now: Instant) -> Outcome {
        match &mut self.phase {
            Phase::Open(open) => {
                let reaction = open.abort(&self.common, now);
                self.apply(now, reaction)
            }
            Phase::Resting(_) => {
                self.wake(Some(now));
                self.abort(now)
            }
            Phase::SynReceived(state) => {
                let reset = state.make_reset(&self.common);
                self.close_silently(CloseReason::Aborted, Some(reset))
            }
            Phase::SynSent(_) | Phase::TimeWait(_) => self.close_silently(CloseReason::Aborted, None),
            Phase::Closed(_) => Outcome::default(),
        }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.common.options
    }

    /// Changes options; the new ones take effect at once where Linux's do.
    pub fn set_options(&mut self, now: Instant, options: Options) {
        // With the options under which it went to rest.
        self.wake(Some(now));
        let before = Arc::clone(&self.common.options);
        self.common.set_options(options);
        if let Phase::Open(open) = &mut self.phase {
            open.set_options(&self.common, now, &before);
        }
    }

    /// The IP headers of the segments are longer than 20 or 40 bytes by so much: the MSS shrinks by it.
    pub fn set_header_overhead(&mut self, header_overhead: u16) {
        let before = Arc::clone(&self.common.options);
        if header_overhead == before.header_overhead {
            return;
        }
        self.wake(None);
        self.common.set_options(Options { header_overhead, ..*before });
        if let Phase::Open(open) = &mut self.phase {
            open.set_header_overhead(&self.common, &before);
        }
    }

    /// `TCP_QUICKACK`: acknowledge at once for a while, or go back to delayed ACKs.
    pub fn set_quick_ack(&mut self, on: bool) {
        self.wake(None);
        if let Phase::Open(open) = &mut self.phase {
            open.set_quick_ack(on);
        }
    }

    /// Why a send outside of the synchronised states fails.
    fn send_error(&mut self) -> SendError {
        match &self.phase {
            Phase::SynSent(_) | Phase::SynReceived(_) | Phase::Open(_) | Phase::Resting(_) => {
                SendError::WouldBlock
            }
            Phase::TimeWait(_) | Phase::Closed(_) => {
                self.common.error.take().map_or(SendError::WriteClosed, SendError::Failed)
            }
        }
    }

    /// SND.UNA and the number of the byte that is written next, of a synchronised connection.
    #[must_use]
    pub fn send_marks(&self) -> Option<(SeqNum, SeqNum)> {
        match &self.phase {
            Phase::Open(open) => Some((open.snd.snd_una, open.snd.queue_end())),
            Phase::Resting(resting) => {
                let una = resting.snd_una();
                Some((una, una))
            }
            Phase::SynSent(_) | Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => None,
        }
    }

    /// The sequence number of the byte that is read next, while bytes may come.
    #[must_use]
    pub fn read_position(&self) -> Option<SeqNum> {
        match &self.phase {
            Phase::Open(open) => Some(open.read_position()),
            Phase::Resting(resting) => Some(resting.read_position()),
            Phase::SynSent(_) | Phase::SynReceived(_) | Phase::TimeWait(_) | Phase::Closed(_) => None,
        }
    }

    fn unread(&self) -> Option<&ReceiveQueue> {
        match &self.phase {
            Phase::Open(open) => Some(&open.rcv.queue),
            Phase::TimeWait(ended) => Some(&ended.unread.queue),
            Phase::Closed(ended) => Some(&ended.unread.queue),
            Phase::Resting(_) | Phase::SynSent(_) | Phase::SynReceived(_) => None,
        }
    }

    /// Reads with `read` if there is something, otherwise says why not.
    #[inline]
    fn read<T: Default>(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut ReceiveQueue, usize) -> T,
    ) -> Result<T, RecvError> {
        let is_inline = self.common.options.urgent_inline;
        let result = match &mut self.phase {
            Phase::Open(open) if !open.rcv.queue.is_empty() => {
                let result = read_from(&mut open.rcv, is_inline, read);
                if result.is_some() {
                    open.on_read(&self.common, now);
                }
                result
            }
            Phase::TimeWait(ended) if !ended.unread.queue.is_empty() => {
                read_from(&mut ended.unread, is_inline, read)
            }
            Phase::Closed(ended) if !ended.unread.queue.is_empty() => {
                read_from(&mut ended.unread, is_inline, read)
            }
            _ => None,
        };
        match result {
            Some(result) => Ok(result),
            None => self.end_of_stream().map(|()| T::default()),
        }
    }

    /// What a read at an empty queue gives: the end of the stream, or an error.
    fn end_of_stream(&mut self) -> Result<(), RecvError> {
        // A stream that had ended before the reset has ended in order (Linux, tcp_recvmsg: SOCK_DONE comes before the
        // error, which is left for the writer).
        if self.common.error != Some(CloseReason::ResetAfterFin)
            && let Some(error) = self.common.error.take()
        {
            return Err(RecvError::Failed(error));
        }
        match &self.phase {
            Phase::SynSent(_) | Phase::SynReceived(_) => Err(RecvError::WouldBlock),
            Phase::Open(open) if !open.is_read_over() => Err(RecvError::WouldBlock),
            Phase::Resting(resting) if !resting.is_read_over() => Err(RecvError::WouldBlock),
            Phase::Open(_) | Phase::Resting(_) | Phase::TimeWait(_) | Phase::Closed(_) => Ok(()),
        }
    }
}

/// Reads what waits; `None` if it was only the urgent byte.
fn read_from<T>(
    stream: &mut impl Stream,
    is_inline: bool,
    read: impl FnOnce(&mut ReceiveQueue, usize) -> T,
) -> Option<T> {
    match stream.begin_read(is_inline) {
        0 => None,
        limit => {
            let result = read(stream.queue(), limit);
            stream.end_read();
            Some(result)
        }
    }
}

/// An operation after which there is something to send.
fn transmitting() -> Outcome {
    Outcome { verdict: Verdict::Accepted, events: Events::TRANSMIT }
}
