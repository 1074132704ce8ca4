//! Connecting with data in the SYN (RFC 7413).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use netstack_wire::tcp::FastOpenCookie;

use crate::buffer::Source;
use crate::error::{ConnectError, FastOpenError, SendError};
use crate::ip::unmapped;
use crate::outbox::Outbox;
use crate::socket::tcp::TcpSocket;
use crate::socket::tcp::connect::Opening;
use crate::socket::tcp::transfer::send_error;
use crate::tcp::{FastOpen, FastOpenModes, Payload};
use crate::tcp_endpoint::TcpEndpoint;

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
        let modes = self.core.tcp_config.lock().fast_open;
        if !modes.contains(FastOpenModes::CLIENT) {
            self.connect(remote)?;
            return Ok(0);
        }
        if let Some(endpoint) = self.connection() {
            if endpoint.inspect(|inner| inner.machine.is_syn_held()) {
                return self.send_first(&endpoint, data).map_err(|error| match error {
                    SendError::Fault(fault) => FastOpenError::Fault(fault),
                    _ => FastOpenError::Connect(ConnectError::InvalidState),
                });
            }
            // Says what it is doing already, or tries again after a failure.
            self.connect(remote)?;
            return Ok(0);
        }
        let Some((cookie, mss)) = self.credentials(remote.ip(), modes) else {
            self.begin(remote, Opening::With(FastOpen::request()))?;
            return Ok(0);
        };
        let mut first = vec![0; data.remaining().min(usize::from(mss))];
        data.read_into(&mut first)?;
        let taken = first.len();
        let attempt = FastOpen { cookie, mss, data: Payload::from(Bytes::from(first)) };
        self.begin(remote, Opening::With(attempt))?;
        self.core.counters.tcp_fast_open_active.increment();
        Ok(taken)
    }

    /// Whether the connection's SYN waits for the first data (`TCP_FASTOPEN_CONNECT`): [`connect`](Self::connect) has
    /// succeeded, and [`try_send`](Self::try_send) starts the handshake.
    pub fn waits_for_data(&self) -> bool {
        self.connection().is_some_and(|endpoint| endpoint.inspect(|inner| inner.machine.is_syn_held()))
    }

    /// How [`connect`](Self::connect) begins a connection, as the socket's options have it.
    pub(super) fn opening(&self, remote: SocketAddr) -> Opening {
        // The default is not to.
        let is_wanted = {
            let settings = self.settings.lock();
            let options = settings.early.as_ref().and_then(|early| early.tcp.as_ref());
            options.is_some_and(|options| options.fast_open_connect)
        };
        if !is_wanted {
            return Opening::Plain;
        }
        let modes = self.core.tcp_config.lock().fast_open;
        match self.credentials(remote.ip(), modes) {
            _ if !modes.contains(FastOpenModes::CLIENT) => Opening::Plain,
            Some(_) => Opening::Deferred,
            None => Opening::With(FastOpen::request()),
        }
    }

    /// Sends the SYN that waited for data, with the first of it.
    #[cold]
    pub(super) fn send_first(
        &self,
        endpoint: &Arc<TcpEndpoint>,
        data: &mut dyn Source,
    ) -> Result<usize, SendError> {
        let core = &self.core;
        let modes = core.tcp_config.lock().fast_open;
        // A cookie that was forgotten since is asked for again; the data then follows the handshake.
        let (cookie, mss) = self
            .credentials(endpoint.flow.remote_addr, modes)
            .unwrap_or((Some(FastOpenCookie::REQUEST), DEFAULT_MSS));
        let mut first = vec![0; data.remaining().min(usize::from(mss))];
        data.read_into(&mut first)?;
        let taken = first.len();
        let attempt = FastOpen { cookie, mss, data: Payload::from(Bytes::from(first)) };
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let sent = endpoint.with(core, &mut outbox, |inner| inner.machine.release_syn(now, attempt));
        outbox.flush(core);
        sent.map_err(send_error)?;
        core.counters.tcp_fast_open_active.increment();
        Ok(taken)
    }

    /// The cookie and MSS for a SYN with data to `remote`; `None` where a cookie has to be asked for first.
    fn credentials(&self, remote: IpAddr, modes: FastOpenModes) -> Option<(Option<FastOpenCookie>, u16)> {
        if let Some(known) = self.core.fast_open.get(unmapped(remote)) {
            return Some((Some(known.cookie), known.mss));
        }
        let is_open_to_all = modes.contains(FastOpenModes::CLIENT_WITHOUT_COOKIE)
            || self.tcp_options().fast_open_without_cookie;
        is_open_to_all.then_some((None, DEFAULT_MSS))
    }
}

/// RFC 7413 section 4.1.3: what fits if the server's MSS is not known (RFC 9293 section 3.7.1).
const DEFAULT_MSS: u16 = 536;
