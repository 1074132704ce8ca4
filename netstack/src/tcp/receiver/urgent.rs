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

    /// Gives the urgent byte.
    pub(in super::super) fn read_urgent(&mut self, is_peek: bool) -> Result<u8, UrgentError> {
        self.urgent.as_mut().map_or(Err(UrgentError::Nothing), |urgent| urgent.read(is_peek))
    }

    /// Takes out what the user has not read, for states in which nothing more comes.
    pub(in super::super) fn take_unread(&mut self) -> Unread {
        let end = self.stream_end();
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
}

/// A stream as the user reads it: what waits, and the mark of urgent data in it.
pub(in super::super) trait Stream {
    /// What has not been read.
    fn queue(&mut self) -> &mut ReceiveQueue;

    /// How much that is.
    fn queued(&self) -> u32;

    /// The mark.
    fn urgent(&self) -> Option<&Urgent>;

    /// Forgets the mark.
    fn forget_urgent(&mut self);

    /// The sequence number behind the last byte that waits.
    fn stream_end(&self) -> SeqNum;

    /// What the user reads next.
    fn read_to(&self) -> SeqNum {
        self.stream_end() - self.queued()
    }

    /// Prepares a read: passes over the urgent byte unless it is read in line, and returns how many bytes may be read,
    /// which are those before the mark if any are.
    fn begin_read(&mut self, is_inline: bool) -> usize {
        let (skip, limit) = self.read_bounds(is_inline);
        if skip > 0 {
            self.queue().take(skip);
            self.forget_urgent();
        }
        limit
    }

    /// A read is over: a mark that was passed is gone.
    fn end_read(&mut self) {
        if self.urgent().is_some_and(|urgent| urgent.is_passed(self.read_to())) {
            self.forget_urgent();
        }
    }

    /// How many bytes a read passes over, and how many it may then give.
    #[inline]
    fn read_bounds(&self, is_inline: bool) -> (usize, usize) {
        let queued = super::usize_of(self.queued());
        let Some(urgent) = self.urgent() else { return (0, queued) };
        let position = self.read_to();
        if urgent.at.gt(position) {
            return (0, queued.min(super::usize_of(urgent.at - position)));
        }
        let skip = usize::from(urgent.at == position && !is_inline && queued > 0);
        (skip, queued - skip)
    }

    /// Bytes that wait for the reader up to the mark (Linux's `tcp_inq`).
    fn queued_to_mark(&self, is_inline: bool) -> u32 {
        match self.urgent() {
            Some(urgent) if !is_inline && urgent.at.ge(self.read_to()) => {
                self.queued().min(urgent.at - self.read_to())
            }
            _ => self.queued(),
        }
    }

    /// Whether the user has read up to the mark (`SIOCATMARK`).
    fn is_at_mark(&self) -> bool {
        self.urgent().is_some_and(|urgent| urgent.at == self.read_to())
    }

    /// Whether the urgent byte waits to be read out of band.
    fn has_urgent(&self) -> bool {
        self.urgent().is_some_and(Urgent::is_waiting)
    }
}

impl Stream for Receiver {
    fn queue(&mut self) -> &mut ReceiveQueue {
        &mut self.queue
    }

    #[inline]
    fn queued(&self) -> u32 {
        self.queue.len()
    }

    #[inline]
    fn urgent(&self) -> Option<&Urgent> {
        self.urgent.as_deref()
    }

    fn forget_urgent(&mut self) {
        self.urgent = None;
    }

    #[inline]
    fn stream_end(&self) -> SeqNum {
        self.rcv_nxt - u32::from(self.is_fin_taken)
    }
}

impl Stream for Unread {
    fn queue(&mut self) -> &mut ReceiveQueue {
        &mut self.queue
    }

    fn queued(&self) -> u32 {
        self.queue.len()
    }

    fn urgent(&self) -> Option<&Urgent> {
        self.urgent.as_deref()
    }

    fn forget_urgent(&mut self) {
        self.urgent = None;
    }

    fn stream_end(&self) -> SeqNum {
        self.end
    }
}
