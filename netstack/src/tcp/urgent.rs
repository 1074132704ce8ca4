//! Urgent data on its way to the user (RFC 9293 section 3.8.5, RFC 6093): one byte of the stream that can be read out of
//! band, and the mark that it leaves.
//!
//! As in Linux and BSD the pointer stands behind the urgent byte, and only the last announcement counts.

use super::segment::Payload;
use netstack_wire::seq::SeqNum;

/// The urgent byte that the peer has announced and the user has not passed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Urgent {
    /// Where it stands in the stream.
    pub(super) at: SeqNum,
    byte: UrgentByte,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UrgentByte {
    /// Announced, but not here.
    Awaited,
    /// Here.
    Waiting(u8),
    /// Read out of band.
    Read,
}

/// Why there is no urgent byte to read (`MSG_OOB`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrgentError {
    /// None was announced, it has been read, or urgent data is read in line.
    #[error("no urgent data")]
    Nothing,
    /// It was announced and has not arrived.
    #[error("the urgent data has not arrived")]
    WouldBlock,
    /// It was announced, and the stream ended before it.
    #[error("the stream ended before the urgent data")]
    EndOfStream,
    /// The connection was broken off before it could be read.
    #[error("not connected")]
    NotConnected,
}

impl Urgent {
    /// The mark of an announcement by `pointer` in a segment at `seq`. A zero stands for the byte before (Linux).
    pub(super) fn announced(seq: SeqNum, pointer: u16) -> Self {
        let behind = u32::from(pointer.saturating_sub(1));
        Self { at: seq + behind, byte: UrgentByte::Awaited }
    }

    /// Looks for the byte in a segment; whether it has just come.
    pub(super) fn look(&mut self, seq: SeqNum, payload: &Payload) -> bool {
        if self.byte != UrgentByte::Awaited || self.at.lt(seq) {
            return false;
        }
        let mut offset = super::num::usize_of(self.at - seq);
        for range in payload.slices() {
            if let Some(&byte) = range.get(offset) {
                self.byte = UrgentByte::Waiting(byte);
                return true;
            }
            offset -= range.len();
        }
        false
    }

    /// Whether a user who reads at `position` next is past it.
    pub(super) fn is_passed(&self, position: SeqNum) -> bool {
        position.gt(self.at)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.byte, UrgentByte::Waiting(_))
    }

    /// Gives the byte; a peek leaves it.
    pub(super) fn read(&mut self, is_peek: bool) -> Result<u8, UrgentError> {
        match self.byte {
            UrgentByte::Awaited => Err(UrgentError::WouldBlock),
            UrgentByte::Read => Err(UrgentError::Nothing),
            UrgentByte::Waiting(byte) => {
                if !is_peek {
                    self.byte = UrgentByte::Read;
                }
                Ok(byte)
            }
        }
    }
}
