//! Bytes over a connected pair.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use sentry_abi::socket::{MsgFlags, SO_INQ, SOL_SOCKET, Ucred};

use crate::errno::Errno;
use crate::io::{IoDst, IoSrc};
use crate::socket::base::Switches;
use crate::socket::control::ControlMessage;
use crate::socket::ops::{Destination, Received, RecvRequest, SendRequest, Socket};
use crate::socket::unix::UnixSocket;
use crate::socket::unix::address::Name;
use crate::socket::unix::message::{Message, Parcel, true_size};
use crate::socket::unix::socket::Role;
use crate::task::Tid;
use crate::wait::Readiness;

/// The most bytes of one piece (`UNIX_SKB_FRAGS_SZ`).
const MAX_PIECE: usize = 32 << 10;

/// The parts of a request that local sockets care about.
pub(super) fn split_control(request: &SendRequest<'_>) -> (Arc<Parcel>, Ucred) {
    let mut files = Vec::new();
    let mut sender = request.sender;
    for message in &request.control {
        match message {
            ControlMessage::Rights(rights) => files.extend(rights.iter().cloned()),
            ControlMessage::Credentials(ucred) => sender = *ucred,
            ControlMessage::Process(_) | ControlMessage::Bytes { .. } => {}
        }
    }
    (Arc::new(Parcel { files, _charge: request.in_flight.clone() }), sender)
}

impl UnixSocket {
    pub(super) fn send_stream(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno> {
        if request.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let (peer, from) = {
            let state = self.state.lock();
            match &state.role {
                Role::Connected(_) if !matches!(request.to, Destination::Default) => {
                    return Err(Errno::EISCONN);
                }
                Role::Idle | Role::Listening { .. } if !matches!(request.to, Destination::Default) => {
                    return Err(Errno::EOPNOTSUPP);
                }
                Role::Idle | Role::Listening { .. } => return Err(Errno::ENOTCONN),
                Role::Connected(_) if state.is_write_shut => return Err(Errno::EPIPE),
                Role::Connected(peer) => (peer.clone(), state.name.clone()),
            }
        };
        let (mut files, sender) = split_control(request);
        let mut done = 0;
        while src.remaining() > 0 {
            match self.send_piece(&peer, src, &files, sender, from.clone()) {
                Ok(sent) => {
                    done += sent;
                    // The files travel with the first piece.
                    files = Arc::default();
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn send_piece(
        &self,
        peer: &Self,
        src: &mut dyn IoSrc,
        files: &Arc<Parcel>,
        sender: Ucred,
        from: Option<Name>,
    ) -> Result<usize, Errno> {
        if !self.account.has_room() {
            return Err(Errno::EAGAIN);
        }
        let half = (self.account.limit() / 2).saturating_sub(64).max(1);
        let mut buf = vec![0; src.remaining().min(MAX_PIECE).min(half)];
        let taken = src.take(&mut buf)?;
        buf.truncate(taken);
        let charge = self.account.charge(true_size(taken, true));
        let data = Bytes::from(buf);
        let message = Message { data, files: files.clone(), sender, from, charge, is_peeked: false };
        let rejected = {
            let mut state = peer.state.lock();
            if state.is_closed || state.is_read_shut {
                Some((Errno::EPIPE, message))
            } else if peer.refuses(&message) {
                Some((Errno::EPERM, message))
            } else {
                state.inbox.push_back(message);
                None
            }
        };
        if let Some((reason, message)) = rejected {
            src.untake(taken);
            drop(message);
            return Err(reason);
        }
        peer.wait_queue().notify(Readiness::IN);
        Ok(taken)
    }

    pub(super) fn recv_stream(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        let mut got = self.recv_pieces(dst, request)?;
        if self.base.has(Switches::TELLS_QUEUED) {
            let left = i32::try_from(self.queue_len()).unwrap_or(i32::MAX);
            got.control.push(ControlMessage::value(SOL_SOCKET, SO_INQ, &left));
        }
        Ok(got)
    }

    fn recv_pieces(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        if request.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let _reader = self.reader.lock();
        if matches!(self.state.lock().role, Role::Idle | Role::Listening { .. }) {
            return Err(Errno::EINVAL);
        }
        if dst.remaining() == 0 && !request.flags.contains(MsgFlags::PEEK) {
            return Ok(Received::default());
        }
        let mut got = Received::default();
        let mut sender = None;
        let mut at = 0;
        let mut skip = self.base.peek_skip(request.flags).unwrap_or(0);
        while dst.remaining() > 0 || sender.is_none() {
            let Some((mut data, files, from, name)) = self.front(at) else { break };
            if skip >= data.len() && skip > 0 {
                skip -= data.len();
                at += 1;
                continue;
            }
            data.advance(std::mem::take(&mut skip));
            // A reader that asks for credentials never gets bytes of two senders in one call (unix(7)).
            let wants_sender =
                self.base.has(Switches::PASS_CREDENTIALS) || self.base.has(Switches::PASS_PROCESS);
            if wants_sender && sender.is_some_and(|s| s != from) {
                break;
            }
            let want = data.len().min(dst.remaining());
            let copied = match dst.put(&data[..want]) {
                Ok(n) => n,
                Err(_) if got.copied > 0 => break,
                Err(e) => return Err(e),
            };
            if sender.replace(from).is_none() {
                got.from = name.as_ref().map(|name| Name::encode(Some(name))).unwrap_or_default();
            }
            got.copied += copied;
            self.base.note_received(request.flags, copied);
            if request.flags.contains(MsgFlags::PEEK) {
                at += 1;
            } else {
                self.consume(copied);
                at = 0;
            }
            let has_files = !files.files.is_empty();
            if has_files {
                got.control.push(ControlMessage::Rights(files.files.clone()));
            }
            // Files are delivered with the bytes they were sent with: the read ends behind them.
            if has_files || copied < data.len() {
                break;
            }
        }
        match sender {
            Some(sender) => {
                if self.base.has(Switches::PASS_CREDENTIALS) {
                    got.control.insert(0, ControlMessage::Credentials(sender));
                }
                if self.base.has(Switches::PASS_PROCESS) {
                    got.control.push(ControlMessage::Process(Tid(sender.pid)));
                }
                got.len = got.copied;
                Ok(got)
            }
            None => {
                self.nothing_to_read()?;
                if self.base.has(Switches::PASS_CREDENTIALS) {
                    // Nobody has sent the end (scm_recv of what unix_stream_read_generic left empty).
                    got.control.push(ControlMessage::Credentials(Ucred { pid: 0, uid: 0, gid: 0 }));
                }
                Ok(got)
            }
        }
    }

    /// Whether a message brings descriptors that nobody wants here (`SO_PASSRIGHTS`).
    pub(super) fn refuses(&self, message: &Message) -> bool {
        !message.files.files.is_empty() && self.base.has(Switches::REFUSES_RIGHTS)
    }

    /// The piece `at` of the inbox: its bytes, its files unless a part of it was read, its sender.
    fn front(&self, at: usize) -> Option<(Bytes, Arc<Parcel>, Ucred, Option<Name>)> {
        let state = self.state.lock();
        let message = state.inbox.get(at)?;
        Some((message.data.clone(), message.files.clone(), message.sender, message.from.clone()))
    }

    /// Takes `count` bytes off the first piece, and the piece off the inbox when it is empty.
    fn consume(&self, count: usize) {
        let finished = {
            let mut state = self.state.lock();
            let Some(front) = state.inbox.front_mut() else { return };
            front.data.advance(count.min(front.data.len()));
            // Who reads the rest does not get the files again.
            let files = std::mem::take(&mut front.files);
            let message = if front.data.is_empty() { state.inbox.pop_front() } else { None };
            (files, message)
        };
        // Outside the lock: dropping the message tells the sender about the room.
        drop(finished);
    }

    /// End of file, an error, or nothing yet.
    ///
    /// # Errors
    /// The pending error, `EAGAIN`.
    pub(super) fn nothing_to_read(&self) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        if state.is_read_shut { Ok(()) } else { Err(Errno::EAGAIN) }
    }
}
