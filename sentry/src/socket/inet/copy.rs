//! Guest buffers as the stack's sources and sinks: one copy, straight between guest memory and packet memory.

use netstack::buffer::{Fault, Sink, Source};

use crate::io::{IoDst, IoSrc};

/// A guest buffer to send from.
pub struct GuestSource<'a>(pub &'a mut dyn IoSrc);

impl Source for GuestSource<'_> {
    fn remaining(&self) -> usize {
        self.0.remaining()
    }

    fn read_into(&mut self, out: &mut [u8]) -> Result<(), Fault> {
        if out.is_empty() {
            return Ok(());
        }
        match self.0.take(out) {
            Ok(n) if n == out.len() => Ok(()),
            Ok(n) => {
                // The stack takes all of a chunk or nothing: leave the cursor where its data ends.
                self.0.untake(n);
                Err(Fault)
            }
            Err(_) => Err(Fault),
        }
    }
}

/// A guest buffer to receive into.
pub struct GuestSink<'a>(pub &'a mut dyn IoDst);

impl Sink for GuestSink<'_> {
    fn room(&self) -> usize {
        self.0.remaining()
    }

    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault> {
        if data.is_empty() {
            return Ok(());
        }
        match self.0.put(data) {
            Ok(n) if n == data.len() => Ok(()),
            Ok(_) | Err(_) => Err(Fault),
        }
    }
}

/// One of several guest buffers to receive into, which remembers whether it could be written.
pub(super) struct WatchedSink<'a> {
    sink: GuestSink<'a>,
    has_failed: bool,
}

impl<'a> WatchedSink<'a> {
    /// A buffer that nothing was written to yet.
    pub(super) fn new(dst: &'a mut dyn IoDst) -> Self {
        Self { sink: GuestSink(dst), has_failed: false }
    }

    /// Whether it could not be written.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl Sink for WatchedSink<'_> {
    fn room(&self) -> usize {
        self.sink.room()
    }

    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.sink.write_from(data).inspect_err(|_| self.has_failed = true)
    }
}

/// Throws away what is received: `MSG_TRUNC` on a TCP socket (`tcp(7)`).
#[derive(Debug)]
pub struct Discard(pub usize);

impl Sink for Discard {
    fn room(&self) -> usize {
        self.0
    }

    fn write_from(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.0 = self.0.saturating_sub(data.len());
        Ok(())
    }
}
