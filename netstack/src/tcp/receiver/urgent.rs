//! The receiver's side of urgent data: announcements, the mark in the stream, the byte beside it. Linux's rules.

use super::super::receive_queue::ReceiveQueue;
use super::super::segment::SegmentIn;
use super::super::urgent::{Urgent, UrgentError};
use super::Receiver;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::TcpFlags;

impl Receiver {
    /// Takes the urgent pointer and the urgent byte of an acceptable segment. Whether the user is to be told.
    pub(in super::super) fn on_urgent(&mut self, segment: &SegmentIn, is_inline: bool) -> bool {
        let repr = &segment.repr;
        let is_announced = repr.flags.contains(TcpFlags::URG) && {
            let new = Urgent::announced(repr.seq, repr.urgent);
            self.announce(new, is_inline)
        };
        let has_come = self.urgent.as_mut().is_some_and(|urgent| urgent.look(repr.seq, &segment.payload));
        is_announced || has_come
    }

    /// Linux's `tcp_check_urg`: an announcement counts if it is beyond what was received and beyond the one before.
    fn announce(&mut self, new: Urgent, is_inline: bool) -> bool {
        if new.at.lt(self.rcv_nxt) || self.urgent.as_ref().is_some_and(|old| new.at.le(old.at)) {
            return false;
        }
        if self.is_at_mark() && !is_inline && !self.queue.is_empty() {
            // The urgent byte before is passed over, or it would now be taken for ordinary data.
            self.queue.take(1);
        }
        self.urgent = Some(Box::new(new));
        true
    }

    /// Whether an urgent byte has been announced that the user has not passed.
    pub(in super::super) fn is_urgent_announced(&self) -> bool {
        self.urgent.is_some()
    }

    /// Prepares a read: passes over the urgent byte unless it is read in line, and returns how many bytes may be read,
    /// which are those before the mark if any are.
    pub(in super::super) fn begin_read(&mut self, is_inline: bool) -> usize {
        let (skip, limit) = self.read_bounds(is_inline);
        if skip > 0 {
            self.queue.take(skip);
            self.urgent = None;
        }
        limit
    }

    /// A read is over: a mark that was passed is gone.
    pub(in super::super) fn end_read(&mut self) {
        if self.urgent.as_ref().is_some_and(|urgent| urgent.is_passed(self.read_to())) {
            self.urgent = None;
        }
    }

    /// How many bytes a read passes over, and how many it may then give.
    pub(in super::super) fn read_bounds(&self, is_inline: bool) -> (usize, usize) {
        read_bounds(self.urgent.as_deref(), self.queue.len(), self.read_to(), is_inline)
    }

    /// Bytes that wait for the reader up to the mark (Linux's `tcp_inq`).
    pub(in super::super) fn queued_to_mark(&self, is_inline: bool) -> u32 {
        queued_to_mark(self.urgent.as_deref(), self.queue.len(), self.read_to(), is_inline)
    }

    /// Whether the user has read up to the mark (`SIOCATMARK`).
    pub(in super::super) fn is_at_mark(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| urgent.at == self.read_to())
    }

    /// Whether the urgent byte waits to be read out of band.
    pub(in super::super) fn has_urgent(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| urgent.is_waiting())
    }

    /// Gives the urgent byte.
    pub(in super::super) fn read_urgent(&mut self, is_peek: bool) -> Result<u8, UrgentError> {
        self.urgent.as_mut().map_or(Err(UrgentError::Nothing), |urgent| urgent.read(is_peek))
    }

    /// What the user reads next.
    fn read_to(&self) -> SeqNum {
        self.rcv_nxt - u32::from(self.is_fin_taken) - self.queue.len()
    }

    /// Takes out what the user has not read, for states in which nothing more comes.
    pub(in super::super) fn take_unread(&mut self) -> Unread {
        let end = self.rcv_nxt - u32::from(self.is_fin_taken);
        let queue = core::mem::take(&mut self.queue);
        Unread { queue, urgent: self.urgent.take(), end, is_ended: self.is_fin_taken }
    }
}

/// What the user has not read of a stream that is over: Linux keeps all of it, the urgent byte too, until the socket is
/// closed.
#[derive(Debug, Default)]
pub(in super::super) struct Unread {
    pub(in super::super) queue: ReceiveQueue,
    urgent: Option<Box<Urgent>>,
    /// The end of the stream.
    end: SeqNum,
    /// It ended with a FIN.
    is_ended: bool,
}

impl Unread {
    /// Nothing of a stream that ended with a FIN at `end`.
    pub(in super::super) fn nothing_before(end: SeqNum) -> Self {
        Self { end, is_ended: true, ..Self::default() }
    }

    /// As [`Receiver::begin_read`].
    pub(in super::super) fn begin_read(&mut self, is_inline: bool) -> usize {
        let (skip, limit) = self.read_bounds(is_inline);
        if skip > 0 {
            self.queue.take(skip);
            self.urgent = None;
        }
        limit
    }

    /// As [`Receiver::end_read`].
    pub(in super::super) fn end_read(&mut self) {
        if self.urgent.as_ref().is_some_and(|urgent| urgent.is_passed(self.read_to())) {
            self.urgent = None;
        }
    }

    /// As [`Receiver::read_bounds`].
    pub(in super::super) fn read_bounds(&self, is_inline: bool) -> (usize, usize) {
        read_bounds(self.urgent.as_deref(), self.queue.len(), self.read_to(), is_inline)
    }

    /// As [`Receiver::queued_to_mark`].
    pub(in super::super) fn queued_to_mark(&self, is_inline: bool) -> u32 {
        queued_to_mark(self.urgent.as_deref(), self.queue.len(), self.read_to(), is_inline)
    }

    /// As [`Receiver::is_at_mark`].
    pub(in super::super) fn is_at_mark(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| urgent.at == self.read_to())
    }

    /// As [`Receiver::has_urgent`].
    pub(in super::super) fn has_urgent(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| urgent.is_waiting())
    }

    /// Gives the urgent byte (Linux's `tcp_recv_urg` of a closed socket).
    pub(in super::super) fn read_urgent(&mut self, is_peek: bool) -> Result<u8, UrgentError> {
        let Some(urgent) = self.urgent.as_mut() else { return Err(UrgentError::Nothing) };
        match urgent.read(is_peek) {
            Err(UrgentError::Nothing) => Err(UrgentError::Nothing),
            _ if !self.is_ended => Err(UrgentError::NotConnected),
            Err(UrgentError::WouldBlock) => Err(UrgentError::EndOfStream),
            result => result,
        }
    }

    fn read_to(&self) -> SeqNum {
        self.end - self.queue.len()
    }
}

/// How many bytes a read at `position` passes over, and how many it may then give.
fn read_bounds(urgent: Option<&Urgent>, queued: u32, position: SeqNum, is_inline: bool) -> (usize, usize) {
    let queued = super::usize_of(queued);
    let Some(urgent) = urgent else { return (0, queued) };
    if urgent.at.gt(position) {
        return (0, queued.min(super::usize_of(urgent.at - position)));
    }
    let skip = usize::from(urgent.at == position && !is_inline && queued > 0);
    (skip, queued - skip)
}

fn queued_to_mark(urgent: Option<&Urgent>, queued: u32, position: SeqNum, is_inline: bool) -> u32 {
    match urgent {
        Some(urgent) if !is_inline && urgent.at.ge(position) => queued.min(urgent.at - position),
        _ => queued,
    }
}
