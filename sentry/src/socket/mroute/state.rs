//! Who routes packets for groups in a namespace, and what is only told of it.

use netstack::multicast_route::{MAX_VIFS, MulticastRouter, Reporting};
use netstack::options::Family;
use parking_lot::Mutex;

use crate::errno::Errno;
use crate::socket::inet::InetSocket;
use crate::socket::mroute::message::GuestSink;

/// The routing programs of a namespace: at most one for each family.
#[derive(Default)]
pub(crate) struct MulticastRouting {
    v4: Mutex<Option<Active>>,
    v6: Mutex<Option<Active>>,
}

/// A routing program's socket and what it set.
pub(super) struct Active {
    /// Where the socket is, to tell it from others; it ends this when it is closed.
    owner: usize,
    pub(super) router: MulticastRouter,
    /// As they were made, for `/proc/net`.
    pub(super) vifs: [Option<Given>; MAX_VIFS],
    pub(super) reporting: Reporting,
}

/// A virtual interface as the program gave it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) flags: u8,
    pub(super) local: [u8; 4],
    pub(super) remote: [u8; 4],
}

impl MulticastRouting {
    fn of(&self, family: Family) -> &Mutex<Option<Active>> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Makes a raw socket the routing program's (`MRT_INIT`).
    pub(super) fn begin(&self, socket: &InetSocket) -> Result<(), Errno> {
        let raw = socket.raw().ok_or(Errno::EOPNOTSUPP)?;
        let mut active = self.of(socket.ip_family()).lock();
        if active.is_some() {
            return Err(Errno::EADDRINUSE);
        }
        let sink = GuestSink::new(raw.inlet());
        let router =
            MulticastRouter::new(socket.namespace().stack(), socket.ip_family(), std::sync::Arc::new(sink));
        let router = router.map_err(|_| Errno::EADDRINUSE)?;
        raw.set_router_alert(true);
        let reporting = Reporting::default();
        *active = Some(Active { owner: place(socket), router, vifs: [None; MAX_VIFS], reporting });
        Ok(())
    }

    /// Ends what the socket began (`MRT_DONE`); whether it began anything.
    pub(in crate::socket) fn end(&self, socket: &InetSocket) -> bool {
        let ended = self.of(socket.ip_family()).lock().take_if(|active| active.owner == place(socket));
        if let (Some(_), Some(raw)) = (&ended, socket.raw()) {
            raw.set_router_alert(false);
        }
        ended.is_some()
    }

    /// Whether the socket is the routing program's.
    pub(super) fn is_owner(&self, socket: &InetSocket) -> bool {
        self.of(socket.ip_family()).lock().as_ref().is_some_and(|active| active.owner == place(socket))
    }

    /// Works on what the routing program of the family has made; `None` if there is none.
    pub(super) fn with<T>(&self, family: Family, work: impl FnOnce(&mut Active) -> T) -> Option<T> {
        self.of(family).lock().as_mut().map(work)
    }
}

fn place(socket: &InetSocket) -> usize {
    std::ptr::from_ref(socket).addr()
}
