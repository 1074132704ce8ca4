//! Who listens to netlink's multicast groups, and which ports are taken.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::socket::netlink::NetlinkSocket;

/// The netlink sockets of a namespace that have a port.
#[derive(Default)]
pub(crate) struct Subscribers {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ports: HashSet<(i32, u32)>,
    sockets: Vec<Weak<NetlinkSocket>>,
}

impl Subscribers {
    /// Takes a port; false when it is in use.
    pub(super) fn take_port(&self, protocol: i32, port: u32) -> bool {
        self.inner.lock().ports.insert((protocol, port))
    }

    /// Gives a port back.
    pub(super) fn free_port(&self, protocol: i32, port: u32) {
        self.inner.lock().ports.remove(&(protocol, port));
    }

    /// Adds a socket that joined a group.
    pub(super) fn add(&self, socket: &Arc<NetlinkSocket>) {
        let mut inner = self.inner.lock();
        inner.sockets.retain(|known| known.strong_count() > 0);
        if !inner.sockets.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(socket))) {
            inner.sockets.push(Arc::downgrade(socket));
        }
    }

    /// Gives `datagram` to the members of `group` of `protocol`.
    pub(super) fn broadcast(&self, protocol: i32, group: u32, datagram: &[u8]) {
        let sockets = self.inner.lock().sockets.clone();
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            socket.on_broadcast(protocol, group, datagram);
        }
    }
}
