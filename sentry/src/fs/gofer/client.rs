//! The sentry's side: asks a gofer, or does itself what a gofer would.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use sentry_hostio::seqpacket::{MAX_PACKET, SeqPacket};

use crate::errno::Errno;
use crate::fs::gofer::protocol::{Op, Reply, Request};
use crate::fs::gofer::server::{ServedTree, execute};

/// Where requests go.
pub struct Connection(Kind);

enum Kind {
    /// To another process, over a socket for each request under way.
    Remote(Channels),
    /// Nowhere: executed here (directfs).
    Direct(Vec<ServedTree>),
}

struct Channels {
    idle: Mutex<Vec<Channel>>,
    returned: Condvar,
}

struct Channel {
    socket: SeqPacket,
    buf: Vec<u8>,
}

impl Connection {
    /// Talks to a gofer over `sockets`, each of which carries one request at a time.
    #[must_use]
    pub fn remote(sockets: Vec<SeqPacket>) -> Arc<Self> {
        let idle = sockets.into_iter().map(|socket| Channel { socket, buf: Vec::new() }).collect();
        Arc::new(Self(Kind::Remote(Channels { idle: Mutex::new(idle), returned: Condvar::new() })))
    }

    /// Works on `trees` itself.
    #[must_use]
    pub fn direct(trees: Vec<ServedTree>) -> Arc<Self> {
        Arc::new(Self(Kind::Direct(trees)))
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The error of the operation; `EIO` when the gofer is gone or talks nonsense.
    pub(super) fn call(&self, tree: u32, op: Op) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let request = Request { tree, op };
        let (reply, fd) = match &self.0 {
            Kind::Direct(trees) => execute(trees, &request),
            Kind::Remote(channels) => channels.call(&request)?,
        };
        match reply {
            Reply::Failed(code) => Err(Errno::from_code(code.into()).unwrap_or(Errno::EIO)),
            other => Ok((other, fd)),
        }
    }
}

impl Channels {
    fn call(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let mut channel = self.take();
        let answer = channel.call(request);
        self.idle.lock().push(channel);
        self.returned.notify_one();
        answer
    }

    fn take(&self) -> Channel {
        let mut idle = self.idle.lock();
        loop {
            if let Some(channel) = idle.pop() {
                return channel;
            }
            self.returned.wait(&mut idle);
        }
    }
}

impl Channel {
    fn call(&mut self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let body = postcard::to_allocvec(request).map_err(|_| Errno::EIO)?;
        if body.len() > MAX_PACKET {
            return Err(Errno::ENAMETOOLONG);
        }
        self.socket.send(&body, None).map_err(|_| Errno::EIO)?;
        self.buf.resize(MAX_PACKET, 0);
        let (n, fd) = self.socket.receive(&mut self.buf).map_err(|_| Errno::EIO)?;
        let reply = postcard::from_bytes(&self.buf[..n]).map_err(|_| Errno::EIO)?;
        Ok((reply, fd))
    }
}
