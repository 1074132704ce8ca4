//! Listening, connecting and accepting of streams and sequenced packets.

use std::collections::VecDeque;
use std::sync::Arc;

use sentry_abi::socket::Ucred;

use crate::errno::Errno;
use crate::socket::ops::{RawAddr, Socket};
use crate::socket::unix::UnixSocket;
use crate::socket::unix::address::Name;
use crate::socket::unix::socket::{Role, unblock};
use crate::wait::Readiness;

impl UnixSocket {
    /// `listen(2)`. The credentials are what connecting sockets see as their peer's.
    pub(super) fn start_listening(&self, credentials: Ucred, backlog: u32) -> Result<(), Errno> {
        if !self.has_connections() {
            return Err(Errno::EOPNOTSUPP);
        }
        let _control = self.control.lock();
        let limit = usize::try_from(backlog).unwrap_or(usize::MAX);
        let blocked = {
            let mut state = self.state.lock();
            if state.name.is_none() {
                return Err(Errno::EINVAL);
            }
            match &mut state.role {
                Role::Connected(_) => return Err(Errno::EINVAL),
                Role::Idle => state.role = Role::Listening { backlog: limit, queue: VecDeque::new() },
                Role::Listening { backlog, .. } => *backlog = limit,
            }
            state.peer_credentials = Some(credentials);
            state.take_blocked()
        };
        unblock(blocked);
        Ok(())
    }

    /// Whether the socket is free to connect.
    ///
    /// # Errors
    /// `EISCONN`, `EINVAL` while listening.
    fn check_can_connect(&self) -> Result<(), Errno> {
        match self.state.lock().role {
            Role::Idle => Ok(()),
            Role::Connected(_) => Err(Errno::EISCONN),
            Role::Listening { .. } => Err(Errno::EINVAL),
        }
    }

    /// Connects to `listener`.
    ///
    /// # Errors
    /// `ECONNREFUSED` when it does not listen; `EAGAIN` while its queue is full, in which case this socket is told
    /// (`OUT`) when it may try again.
    pub(super) fn connect_to(
        self: &Arc<Self>,
        listener: &Arc<Self>,
        credentials: Ucred,
    ) -> Result<(), Errno> {
        let _control = self.control.lock();
        self.check_can_connect()?;
        let end = Self::with_base(listener.namespace.clone(), listener.base.inherit());
        end.account.set_limit(listener.account.limit());
        {
            let mut listening = listener.state.lock();
            let name = listening.name.clone();
            let listener_credentials = listening.peer_credentials;
            let is_shut = listening.is_read_shut;
            let Role::Listening { backlog, queue } = &mut listening.role else {
                return Err(Errno::ECONNREFUSED);
            };
            if is_shut {
                return Err(Errno::ECONNREFUSED);
            }
            if queue.len() > *backlog {
                listening.blocked.push(self.weak());
                return Err(Errno::EAGAIN);
            }
            {
                let mut state = end.state.lock();
                state.name = name;
                state.role = Role::Connected(self.clone());
                state.peer_credentials = Some(credentials);
            }
            {
                let mut state = self.state.lock();
                state.role = Role::Connected(end.clone());
                state.peer_credentials = listener_credentials;
            }
            queue.push_back(end);
        }
        listener.wait_queue().notify_next(Readiness::IN);
        self.wait_queue().notify(Readiness::OUT);
        Ok(())
    }

    /// Takes the oldest connection with its peer's address.
    ///
    /// # Errors
    /// `EAGAIN` when there is none, `EINVAL` when not listening or shut down, `EOPNOTSUPP` for datagrams.
    pub(super) fn accept_connection(&self) -> Result<(Arc<Self>, RawAddr), Errno> {
        if !self.has_connections() {
            return Err(Errno::EOPNOTSUPP);
        }
        let (end, blocked) = {
            let mut state = self.state.lock();
            let is_shut = state.is_read_shut;
            let Role::Listening { queue, .. } = &mut state.role else { return Err(Errno::EINVAL) };
            match queue.pop_front() {
                Some(end) => (end, state.take_blocked()),
                None if is_shut => return Err(Errno::EINVAL),
                None => return Err(Errno::EAGAIN),
            }
        };
        unblock(blocked);
        let peer = end.state.lock().peer();
        let name = peer.and_then(|peer| peer.state.lock().name.clone());
        Ok((end, Name::encode(name.as_ref())))
    }
}
