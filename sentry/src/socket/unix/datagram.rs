//! Datagrams and sequenced packets: messages with boundaries.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use sentry_abi::socket::MsgFlags;

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::socket::base::{SocketType, Switches};
use crate::socket::control::ControlMessage;
use crate::socket::ops::{Destination, Received, RecvRequest, SendRequest, Socket};
use crate::socket::unix::UnixSocket;
use crate::socket::unix::address::{Name, Wanted};
use crate::socket::unix::message::{Message, true_size};
use crate::socket::unix::socket::{Role, unblock};
use crate::socket::unix::stream::split_control;
use crate::task::Tid;
use crate::wait::Readiness;

/// What Linux keeps of the send buffer (`unix_dgram_sendmsg`).
const RESERVED: usize = 32;

impl UnixSocket {
    /// Makes `peer` the default destination of a datagram socket.
    ///
    /// # Errors
    /// `EPERM` when the peer talks to somebody else; `ECONNREFUSED` when it is closed.
    pub(super) fn set_peer(self: &Arc<Self>, peer: &Arc<Self>) -> Result<(), Errno> {
        let _control = self.control.lock();
        {
            let state = peer.state.lock();
            if state.is_closed {
                return Err(Errno::ECONNREFUSED);
            }
            self.check_may_send(&state.role)?;
        }
        let old = std::mem::replace(&mut self.state.lock().role, Role::Connected(peer.clone()));
        drop(old);
        Ok(())
    }

    /// Forgets the default destination (`connect(2)` with `AF_UNSPEC`).
    pub(super) fn dissolve(&self) -> Result<(), Errno> {
        let old = std::mem::take(&mut self.state.lock().role);
        drop(old);
        Ok(())
    }

    /// `unix_may_send`: a connected socket takes datagrams of its peer only.
    fn check_may_send(&self, peer_role: &Role) -> Result<(), Errno> {
        match peer_role {
            Role::Connected(other) if !std::ptr::eq(Arc::as_ptr(other), self) => Err(Errno::EPERM),
            Role::Connected(_) | Role::Idle | Role::Listening { .. } => Ok(()),
        }
    }

    /// True when `peer`'s inbox is full for us; we are told when that changes.
    pub(super) fn is_refused_by(&self, peer: &Self) -> bool {
        if std::ptr::eq(peer, self) {
            return false;
        }
        let mut state = peer.state.lock();
        let is_mutual =
            matches!(&state.role, Role::Connected(other) if std::ptr::eq(Arc::as_ptr(other), self));
        let most = usize::try_from(self.namespace.settings().local_datagrams.get()).unwrap_or(usize::MAX);
        let is_full = !is_mutual && !state.is_closed && state.inbox.len() > most;
        if is_full {
            let me = self.weak();
            if !state.blocked.iter().any(|waiting| waiting.ptr_eq(&me)) {
                state.blocked.push(me);
            }
        }
        is_full
    }

    /// Sends one message to the peer, or to the socket that the system call layer found.
    pub(super) fn send_packet(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno> {
        if request.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if let (Destination::Socket(peer), SocketType::Datagram) = (&request.to, self.base.kind) {
            return self.send_to(peer, src, request);
        }
        let (peer, from) = {
            let state = self.state.lock();
            // A sequenced packet socket ignores the address (unix_seqpacket_sendmsg).
            if self.base.kind == SocketType::SeqPacket && !matches!(state.role, Role::Connected(_)) {
                return Err(Errno::ENOTCONN);
            }
            let peer = state.peer().ok_or(Errno::ENOTCONN)?;
            if state.is_write_shut {
                return Err(Errno::EPIPE);
            }
            (peer, state.name.clone())
        };
        let sent = self.deliver(&peer, src, request, from);
        if sent == Err(Errno::ECONNREFUSED) && self.base.kind == SocketType::Datagram {
            // The peer is gone: Linux disconnects (unix_dgram_sendmsg), so that the next send gives ENOTCONN.
            self.dissolve()?;
        }
        sent
    }

    /// Sends one datagram to `peer`, whoever the default destination is.
    fn send_to(
        &self,
        peer: &Arc<Self>,
        src: &mut dyn IoSrc,
        request: &SendRequest<'_>,
    ) -> Result<usize, Errno> {
        let from = {
            let state = self.state.lock();
            if state.is_write_shut {
                return Err(Errno::EPIPE);
            }
            state.name.clone()
        };
        self.deliver(peer, src, request, from)
    }

    fn deliver(
        &self,
        peer: &Arc<Self>,
        src: &mut dyn IoSrc,
        request: &SendRequest<'_>,
        from: Option<Name>,
    ) -> Result<usize, Errno> {
        let len = src.remaining();
        if len > self.account.limit().saturating_sub(RESERVED) {
            return Err(Errno::EMSGSIZE);
        }
        if !self.account.has_room() {
            return Err(Errno::EAGAIN);
        }
        if self.is_refused_by(peer) {
            return Err(Errno::EAGAIN);
        }
        let mut buf = vec![0; len];
        let taken = if len == 0 { 0 } else { src.take(&mut buf)? };
        if taken < len {
            src.untake(taken);
            return Err(Errno::EFAULT);
        }
        let (files, sender) = split_control(request);
        let charge = self.account.charge(true_size(len, false));
        let message = Message { data: Bytes::from(buf), files, sender, from, charge, is_peeked: false };
        let refused = {
            let mut state = peer.state.lock();
            let reason = if state.is_closed {
                Some(if self.has_connections() { Errno::EPIPE } else { Errno::ECONNREFUSED })
            } else if let Err(e) = self.check_may_send(&state.role) {
                Some(e)
            } else if state.is_read_shut {
                Some(Errno::EPIPE)
            } else if peer.refuses(&message) {
                Some(Errno::EPERM)
            } else {
                None
            };
            match reason {
                Some(reason) => Some((reason, message)),
                None => {
                    state.inbox.push_back(message);
                    None
                }
            }
        };
        if let Some((reason, message)) = refused {
            src.untake(len);
            drop(message);
            return Err(reason);
        }
        peer.wait_queue().notify(Readiness::IN);
        Ok(len)
    }

    pub(super) fn recv_packet(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        if request.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let _reader = self.reader.lock();
        let is_peek = request.flags.contains(MsgFlags::PEEK);
        let (message, blocked) = {
            let mut state = self.state.lock();
            if self.base.kind == SocketType::SeqPacket && !matches!(state.role, Role::Connected(_)) {
                return Err(Errno::ENOTCONN);
            }
            if is_peek {
                let Some((front, skip)) = look(&mut state.inbox, self.base.peek_skip(request.flags)) else {
                    drop(state);
                    return self.nothing_to_read().map(|()| Received::default());
                };
                let data = front.data.slice(skip..);
                ((data, front.files.clone(), front.sender, front.from.clone(), None), Vec::new())
            } else if state.inbox.is_empty() {
                drop(state);
                return self.nothing_to_read().map(|()| Received::default());
            } else {
                let Some(Message { data, files, sender, from, charge, is_peeked: _ }) =
                    state.inbox.pop_front()
                else {
                    return Err(Errno::EAGAIN);
                };
                ((data, files, sender, from, Some(charge)), state.take_blocked())
            }
        };
        let (data, files, sender, from, charge) = message;
        drop(charge);
        unblock(blocked);
        let want = data.len().min(dst.remaining());
        let copied = if want == 0 { 0 } else { dst.put(&data[..want])? };
        if copied < want {
            // Linux loses the datagram, too (skb_free_datagram after a failed copy).
            return Err(Errno::EFAULT);
        }
        self.base.note_received(request.flags, if is_peek { copied } else { data.len() });
        let mut got = Received { copied, len: data.len(), ..Received::default() };
        got.flags.set(MsgFlags::TRUNC, data.len() > copied);
        if let Some(name) = &from {
            got.from = Name::encode(Some(name));
        }
        if self.base.has(Switches::PASS_CREDENTIALS) {
            got.control.push(ControlMessage::Credentials(sender));
        }
        if !files.files.is_empty() {
            got.control.push(ControlMessage::Rights(files.files.clone()));
        }
        if self.base.has(Switches::PASS_PROCESS) {
            got.control.push(ControlMessage::Process(Tid(sender.pid)));
        }
        Ok(got)
    }

    /// The destination of a datagram.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn resolve(&self, task: &mut crate::task::CurrentTask, address: &[u8]) -> Result<Arc<Self>, Errno> {
        self.find(task, &Wanted::decode(address)?)
    }
}

/// The message behind `skip` bytes, and how many of these are in it; an empty one is passed over once somebody has seen it
/// (`__skb_try_recv_from_queue`).
fn look(inbox: &mut VecDeque<Message>, skip: Option<usize>) -> Option<(&Message, usize)> {
    let mut left = skip.unwrap_or(0);
    let message = inbox.iter_mut().find(|message| {
        let len = message.data.len();
        let is_behind = skip.is_none() || left < len || (left == 0 && !message.is_peeked);
        left -= if is_behind { 0 } else { len };
        is_behind
    })?;
    message.is_peeked = true;
    Some((message, left))
}
