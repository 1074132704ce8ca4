//! The receiver's side of urgent data: announcements, the mark in the stream, the byte beside it. Linux's rules.

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
        if self.urgent.as_ref().is_some_and(|urgent| self.read_to().gt(urgent.at)) {
            self.urgent = None;
        }
    }

    /// How many bytes a read passes over, and how many it may then give.
    pub(in super::super) fn read_bounds(&self, is_inline: bool) -> (usize, usize) {
        let queued = super::usize_of(self.queue.len());
        let Some(urgent) = &self.urgent else { return (0, queued) };
        let position = self.read_to();
        if urgent.at.gt(position) {
            return (0, queued.min(super::usize_of(urgent.at - position)));
        }
        let skip = usize::from(urgent.at == position && !is_inline && queued > 0);
        (skip, queued - skip)
    }

    /// Bytes that wait for the reader up to the mark (Linux's `tcp_inq`).
    pub(in super::super) fn queued_to_mark(&self, is_inline: bool) -> u32 {
        let queued = self.queue.len();
        match &self.urgent {
            Some(urgent) if !is_inline && urgent.at.ge(self.read_to()) => {
                queued.min(urgent.at - self.read_to())
            }
            _ => queued,
        }
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
}
