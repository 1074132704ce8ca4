//! Sending and receiving by reference, for programs whose data is in shared buffers already (proxies, gateways).

use bytes::Bytes;

use crate::error::{RecvError, SendError};
use crate::outbox::Outbox;
use crate::socket::tcp::transfer::{Ranges, send_error};
use crate::socket::tcp::{TcpSocket, socket_error};
use crate::tcp;

impl TcpSocket {
    /// How much [`try_send`](Self::try_send) and [`try_send_bytes`](Self::try_send_bytes) would take now; zero also when
    /// they would fail.
    pub fn send_room(&self) -> usize {
        self.connection().map_or(0, |endpoint| endpoint.inspect(|inner| inner.machine.send_room()))
    }

    /// Queues all of `data` without copying it. The caller keeps to [`send_room`](Self::send_room): what is beyond it is
    /// queued nevertheless, so that data that was read from elsewhere has a place.
    pub fn try_send_bytes(&self, data: impl IntoIterator<Item = Bytes>) -> Result<(), SendError> {
        let endpoint = self.connection().ok_or(SendError::NotConnected)?;
        let core = &self.core;
        let mut outbox = Outbox::default();
        let result = endpoint.with(core, &mut outbox, |inner| {
            let now = core.clock.now();
            data.into_iter().try_for_each(|part| inner.machine.send_admitted(now, part))
        });
        outbox.flush(core);
        result.map_err(send_error)
    }

    /// Takes up to `max` received bytes as they came, without copying them, and appends them to `out`. Returns how many
    /// there were; zero is the end of the stream.
    pub fn try_recv_bytes(&self, max: usize, out: &mut impl Extend<Bytes>) -> Result<usize, RecvError> {
        let endpoint = self.connection().ok_or(RecvError::NotConnected)?;
        let mut ranges = Ranges::new();
        match self.take(&endpoint, max, &mut ranges) {
            Ok(()) => {
                let count = ranges.iter().map(Bytes::len).sum();
                out.extend(ranges);
                Ok(count)
            }
            Err(tcp::RecvError::WouldBlock) => Err(RecvError::WouldBlock),
            Err(tcp::RecvError::Failed(reason)) => Err(RecvError::Pending(socket_error(reason))),
        }
    }
}
