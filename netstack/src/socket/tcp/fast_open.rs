//! Connecting with data in the SYN (RFC 7413).

use std::net::SocketAddr;

use bytes::Bytes;

use crate::buffer::Source;
use crate::error::FastOpenError;
use crate::ip::unmapped;
use crate::socket::tcp::TcpSocket;
use crate::tcp::{FastOpen, FastOpenModes, Payload};

impl TcpSocket {
    /// Starts a connection whose SYN carries the first bytes of `data`, and returns how many were taken. They reach the
    /// peer at least once: a request that must not be made twice does not belong into a SYN.
    ///
    /// Zero means that no cookie of this server is known (the SYN asks for one, and the next connection has it) or that
    /// the stack's settings do not allow it; the connection is under way all the same and `data` untouched. The rest is as
    /// for [`connect`](Self::connect).
    pub fn connect_with_data(
        &self,
        remote: SocketAddr,
        data: &mut dyn Source,
    ) -> Result<usize, FastOpenError> {
        let modes = self.core.tcp_config.read().fast_open;
        if !modes.contains(FastOpenModes::CLIENT) {
            self.connect(remote)?;
            return Ok(0);
        }
        if self.connection().is_some() {
            // Says what it is doing already, or tries again after a failure.
            self.connect(remote)?;
            return Ok(0);
        }
        let is_open_to_all = modes.contains(FastOpenModes::CLIENT_WITHOUT_COOKIE)
            || self.early_options().fast_open_without_cookie;
        let known = self.core.fast_open.get(unmapped(remote.ip()));
        let (cookie, mss) = match known {
            Some(known) => (Some(known.cookie), known.mss),
            None if is_open_to_all => (None, DEFAULT_MSS),
            None => {
                self.begin(remote, Some(FastOpen::request()))?;
                return Ok(0);
            }
        };
        let mut first = vec![0; data.remaining().min(usize::from(mss))];
        data.read_into(&mut first)?;
        let taken = first.len();
        self.begin(remote, Some(FastOpen { cookie, mss, data: Payload::from(Bytes::from(first)) }))?;
        self.core.counters.tcp_fast_open_active.increment();
        Ok(taken)
    }
}

/// RFC 7413 section 4.1.3: what fits if the server's MSS is not known (RFC 9293 section 3.7.1).
const DEFAULT_MSS: u16 = 536;
