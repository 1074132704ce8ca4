//! Who routes packets for groups in a namespace, and what is only told of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use netstack::NicId;
use netstack::multicast_route::{MAX_VIFS, MulticastRouter, Reporting, Vif};
use netstack::options::Family;
use parking_lot::Mutex;
use sentry_abi::mroute::{MRT_TABLE_DEFAULT, MRT_TABLE_END, MRT6_TABLE_DEFAULT};

use crate::errno::Errno;
use crate::socket::inet::InetSocket;
use crate::socket::mroute::device::RegisterDevice;
use crate::socket::mroute::message::GuestSink;

/// The routing programs of a namespace: at most one for each family and table.
#[derive(Default)]
pub(crate) struct MulticastRouting {
    v4: Mutex<Tables>,
    v6: Mutex<Tables>,
}

/// The tables of a family. Packets come to the default one: rules that would choose others cannot be made.
#[derive(Default)]
struct Tables {
    active: BTreeMap<u32, Active>,
    /// What sockets chose (`MRT_TABLE`), by where they are.
    chosen: HashMap<usize, u32>,
}

/// A routing program's socket and what it set.
pub(super) struct Active {
    /// Where the socket is, to tell it from others; it ends this when it is closed.
    owner: usize,
    /// Its number.
    pub(super) table: u32,
    pub(super) router: MulticastRouter,
    /// As they were made, for `/proc/net`.
    pub(super) vifs: [Option<Given>; MAX_VIFS],
    pub(super) reporting: Reporting,
    /// While there is a virtual interface of PIM registers.
    pub(super) register: Option<RegisterDevice>,
}

/// A virtual interface as the program gave it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) flags: u8,
    pub(super) local: [u8; 4],
    pub(super) remote: [u8; 4],
}

impl Tables {
    fn number_of(&self, socket: &InetSocket) -> u32 {
        let chosen = self.chosen.get(&place(socket)).copied();
        chosen.unwrap_or(default_table(socket.ip_family()))
    }

    fn owned_by(&self, socket: &InetSocket) -> Option<u32> {
        let number = self.number_of(socket);
        self.active.get(&number).filter(|active| active.owner == place(socket)).map(|_| number)
    }
}

impl MulticastRouting {
    fn of(&self, family: Family) -> &Mutex<Tables> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Makes a raw socket the routing program's (`MRT_INIT`).
    pub(super) fn begin(&self, socket: &InetSocket) -> Result<(), Errno> {
        let raw = socket.raw().ok_or(Errno::EOPNOTSUPP)?;
        let family = socket.ip_family();
        let mut tables = self.of(family).lock();
        let number = tables.number_of(socket);
        if tables.active.contains_key(&number) {
            return Err(Errno::EADDRINUSE);
        }
        let namespace = socket.namespace();
        let sink = Arc::new(GuestSink::new(raw.inlet(), namespace, number));
        let router = if number == default_table(family) {
            let router = MulticastRouter::new(namespace.stack(), family, sink);
            let router = router.map_err(|_| Errno::EADDRINUSE)?;
            raw.set_router_alert(true);
            router
        } else {
            MulticastRouter::aside(namespace.stack(), family, sink)
        };
        let reporting = Reporting::default();
        let active = Active {
            owner: place(socket),
            table: number,
            router,
            vifs: [None; MAX_VIFS],
            reporting,
            register: None,
        };
        tables.active.insert(number, active);
        Ok(())
    }

    /// Ends what the socket began (`MRT_DONE`), and gives back the table with its number.
    pub(super) fn take(&self, socket: &InetSocket) -> Option<(u32, Active)> {
        let mut tables = self.of(socket.ip_family()).lock();
        let number = tables.owned_by(socket)?;
        if let Some(raw) = socket.raw() {
            raw.set_router_alert(false);
        }
        tables.active.remove(&number).map(|active| (number, active))
    }

    /// Forgets a socket that is closed.
    pub(super) fn forget(&self, socket: &InetSocket) {
        self.of(socket.ip_family()).lock().chosen.remove(&place(socket));
    }

    /// Chooses the socket's table; 0 is the default one (`MRT_TABLE`).
    pub(super) fn choose(&self, socket: &InetSocket, number: u32) -> Result<(), Errno> {
        let mut tables = self.of(socket.ip_family()).lock();
        if tables.owned_by(socket).is_some() {
            return Err(Errno::EBUSY);
        }
        // ipmr_new_table
        if number >= MRT_TABLE_END {
            return Err(Errno::EINVAL);
        }
        match number {
            0 => drop(tables.chosen.remove(&place(socket))),
            _ => drop(tables.chosen.insert(place(socket), number)),
        }
        Ok(())
    }

    /// Whether the socket is the routing program's.
    pub(super) fn is_owner(&self, socket: &InetSocket) -> bool {
        self.of(socket.ip_family()).lock().owned_by(socket).is_some()
    }

    /// Whether a program routes packets of the family.
    pub(crate) fn is_active(&self, family: Family) -> bool {
        self.with(family, |_| ()).is_some()
    }

    /// How many virtual interfaces stand for a NIC.
    pub(crate) fn virtual_interfaces(&self, family: Family, nic: NicId) -> usize {
        let vifs = self.with(family, |active| active.router.vifs()).unwrap_or_default();
        vifs.iter().filter(|info| info.vif == Vif::Nic(nic)).count()
    }

    /// Works on the family's default table; `None` if nobody has begun it.
    pub(super) fn with<T>(&self, family: Family, work: impl FnOnce(&mut Active) -> T) -> Option<T> {
        self.of(family).lock().active.get_mut(&default_table(family)).map(work)
    }

    /// Works on the table of a socket, with its number.
    pub(super) fn with_table_of<T>(
        &self,
        socket: &InetSocket,
        work: impl FnOnce(u32, &mut Active) -> T,
    ) -> Option<T> {
        let mut tables = self.of(socket.ip_family()).lock();
        let number = tables.number_of(socket);
        tables.active.get_mut(&number).map(|active| work(number, active))
    }

    /// Shows all tables, or one.
    pub(super) fn each(&self, family: Family, only: Option<u32>, mut show: impl FnMut(u32, &Active)) {
        let tables = self.of(family).lock();
        for (&number, active) in &tables.active {
            if only.is_none_or(|only| only == number) {
                show(number, active);
            }
        }
    }
}

/// The table that packets come to.
fn default_table(family: Family) -> u32 {
    match family {
        Family::V4 => MRT_TABLE_DEFAULT,
        Family::V6 => MRT6_TABLE_DEFAULT,
    }
}

fn place(socket: &InetSocket) -> usize {
    std::ptr::from_ref(socket).addr()
}
