//! Who has which local address and port: binding rules, and the search for the socket that a packet is for.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::sync::{BriefMutex, RwLock};
use smallvec::SmallVec;

use crate::bpf::Program;
use crate::nic::NicId;
use crate::options::Family;
use crate::plain_hash::PlainMap;
use crate::port_users::{PortUse, PortUsers};
use crate::secret::Secrets;

/// A local address as a socket claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    /// The address; any if not set. Mapped addresses are stored as the IPv4 addresses they stand for.
    pub(crate) address: Option<IpAddr>,
    pub(crate) family: Family,
    pub(crate) only_v6: bool,
    pub(crate) nic: Option<NicId>,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
}

/// How a packet describes the socket it looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) local: IpAddr,
    pub(crate) local_port: u16,
    pub(crate) remote: IpAddr,
    pub(crate) remote_port: u16,
    pub(crate) nic: NicId,
}

/// Which rules for sharing hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// `SO_REUSEADDR` shares with everything that does not listen.
    Stream,
    /// `SO_REUSEADDR` shares with all others that set it; the newest gets the packets.
    Datagram,
}

/// The ports of one protocol.
pub(crate) struct PortTable<E> {
    sharing: Sharing,
    ports: RwLock<PlainMap<u16, Port<E>>>,
    /// Locked after `ports`. A table of its own: each connection comes here twice, and thousands of ports may have nothing else.
    users: BriefMutex<PortUsers>,
}

/// The claims on a port, of which there is at least one.
struct Port<E> {
    claims: SmallVec<[Claim<E>; 1]>,
}

struct Claim<E> {
    binding: Binding,
    /// Only packets from there are for the socket.
    peer: Option<(IpAddr, u16)>,
    /// The socket takes packets (a stream socket does once it listens).
    is_receiving: bool,
    /// Picks a member of the group of sockets that share the port (`SO_ATTACH_REUSEPORT_CBPF`); the same in all of them.
    steering: Option<Program>,
    endpoint: Arc<E>,
}

/// What a packet's search for a socket found.
pub(crate) enum Found<E> {
    /// The socket.
    One(Arc<E>),
    /// A group, whose program is to pick one.
    Group(Group<E>),
}

/// Sockets that share a port, with a program.
pub(crate) struct Group<E> {
    /// The members in the order in which they came.
    pub(crate) members: SmallVec<[Arc<E>; 4]>,
    pub(crate) program: Program,
    by_hash: usize,
}

/// The port or the address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken;

impl<E> PortTable<E> {
    pub(crate) fn new(sharing: Sharing) -> Self {
        Self { sharing, ports: RwLock::default(), users: BriefMutex::default() }
    }

    /// Claims a port for a socket. A connection that uses the port excludes it.
    pub(crate) fn bind(&self, port: u16, binding: Binding, endpoint: &Arc<E>) -> Result<(), Taken> {
        self.bind_beside(port, binding, endpoint, || true)
    }

    /// The same beside connections on other addresses: `has_rival` tells whether one of those that use the port is on an address
    /// that the socket wants. It is asked only if some do that may not share the port, and must not come back to this table.
    pub(crate) fn bind_beside(
        &self,
        port: u16,
        binding: Binding,
        endpoint: &Arc<E>,
        has_rival: impl FnOnce() -> bool,
    ) -> Result<(), Taken> {
        let mut ports = self.ports.write();
        if self.is_taken(port, ports.get(&port), &binding, has_rival) {
            return Err(Taken);
        }
        let entry = ports.entry(port).or_default();
        let is_receiving = self.sharing == Sharing::Datagram;
        let endpoint = Arc::clone(endpoint);
        let steering = entry.group_of(&binding).find_map(|member| member.steering.clone());
        entry.claims.push(Claim { binding, peer: None, is_receiving, steering, endpoint });
        Ok(())
    }

    /// Claims some port of a range, starting at a random one (RFC 6056 section 3.3.1).
    pub(crate) fn bind_any(
        &self,
        range: &RangeInclusive<u16>,
        secrets: &Secrets,
        binding: Binding,
        endpoint: &Arc<E>,
    ) -> Result<u16, Taken> {
        // A picked port is not to be shared: its users expect it to be theirs.
        let alone = Binding { reuse_address: false, reuse_port: false, ..binding };
        let count = u32::from(*range.end() - *range.start()) + 1;
        let first = secrets.random_below(count);
        for step in 0..count {
            // Within the range, so it fits.
            let port = range.start() + ((first + step) % count) as u16;
            let is_free = !self.is_taken(port, self.ports.read().get(&port), &alone, || true);
            if is_free && self.bind(port, binding, endpoint).is_ok() {
                return Ok(port);
            }
        }
        Err(Taken)
    }

    /// Gives a claim back.
    pub(crate) fn unbind(&self, port: u16, endpoint: &Arc<E>) {
        let released = {
            let mut ports = self.ports.write();
            let Some(entry) = ports.get_mut(&port) else { return };
            let index = entry.claims.iter().position(|claim| Arc::ptr_eq(&claim.endpoint, endpoint));
            let released = index.map(|index| entry.claims.remove(index));
            if entry.claims.is_empty() {
                ports.remove(&port);
            }
            released
        };
        // The endpoint may go with it, outside of the lock.
        drop(released);
    }

    /// Changes what a claim wants to receive: the address it became more precise about, and its peer.
    pub(crate) fn narrow(
        &self,
        port: u16,
        endpoint: &Arc<E>,
        address: Option<IpAddr>,
        peer: Option<(IpAddr, u16)>,
    ) {
        let mut ports = self.ports.write();
        let claims = ports.get_mut(&port).map(|entry| &mut entry.claims);
        let claim =
            claims.and_then(|claims| claims.iter_mut().find(|claim| Arc::ptr_eq(&claim.endpoint, endpoint)));
        if let Some(claim) = claim {
            claim.binding.address = address;
            claim.peer = peer;
        }
    }

    /// Sets the program of the group that a socket is in; false if it shares its port with nobody who could come.
    pub(crate) fn steer(&self, port: u16, endpoint: &Arc<E>, program: Option<&Program>) -> bool {
        let mut ports = self.ports.write();
        let Some(entry) = ports.get_mut(&port) else { return false };
        let own = entry.claims.iter().find(|claim| Arc::ptr_eq(&claim.endpoint, endpoint));
        let Some(own) = own.map(|claim| claim.binding).filter(|binding| binding.reuse_port) else {
            return false;
        };
        for claim in entry.claims.iter_mut().filter(|claim| claim.binding == own) {
            claim.steering = program.cloned();
        }
        true
    }

    /// Sets the program of the group that a socket is in if it is the only member: others have brought theirs.
    pub(crate) fn found(&self, port: u16, endpoint: &Arc<E>, program: &Program) {
        let is_first = self.ports.read().get(&port).is_some_and(|entry| {
            let own = entry.claims.iter().find(|claim| Arc::ptr_eq(&claim.endpoint, endpoint));
            own.is_some_and(|own| entry.group_of(&own.binding).count() == 1)
        });
        if is_first {
            self.steer(port, endpoint, Some(program));
        }
    }

    /// The program of the group that a socket is in.
    pub(crate) fn steering(&self, port: u16, endpoint: &Arc<E>) -> Option<Program> {
        let ports = self.ports.read();
        let mut claims = ports.get(&port)?.claims.iter();
        claims.find(|claim| Arc::ptr_eq(&claim.endpoint, endpoint))?.steering.clone()
    }

    /// Lets a stream socket receive (listen), unless another one does on an overlapping address.
    pub(crate) fn start_receiving(&self, port: u16, endpoint: &Arc<E>) -> Result<(), Taken> {
        let mut ports = self.ports.write();
        let entry = ports.get_mut(&port).ok_or(Taken)?;
        let own =
            entry.claims.iter().position(|claim| Arc::ptr_eq(&claim.endpoint, endpoint)).ok_or(Taken)?;
        let binding = entry.claims[own].binding;
        let is_rivalled = entry.claims.iter().any(|claim| {
            claim.is_receiving
                && !Arc::ptr_eq(&claim.endpoint, endpoint)
                && overlaps(&claim.binding, &binding)
                && !(claim.binding.reuse_port && binding.reuse_port)
        });
        if is_rivalled {
            return Err(Taken);
        }
        // Groups count their members in the order in which they began.
        let mut claim = entry.claims.remove(own);
        claim.is_receiving = true;
        entry.claims.push(claim);
        Ok(())
    }

    /// Ends [`start_receiving`](Self::start_receiving).
    pub(crate) fn stop_receiving(&self, port: u16, endpoint: &Arc<E>) {
        let mut ports = self.ports.write();
        let claims = ports.get_mut(&port).map(|entry| &mut entry.claims);
        for claim in claims.into_iter().flatten() {
            if Arc::ptr_eq(&claim.endpoint, endpoint) {
                claim.is_receiving = false;
            }
        }
    }

    /// Notes a connection on a port.
    pub(crate) fn add_user(&self, port: u16, port_use: PortUse) {
        self.users.lock().add(port, port_use);
    }

    /// Forgets a connection on a port.
    pub(crate) fn remove_user(&self, port: u16, port_use: PortUse) {
        self.users.lock().remove(port, port_use);
    }

    /// Tells whether any socket has claimed the port.
    pub(crate) fn is_claimed(&self, port: u16) -> bool {
        self.ports.read().contains_key(&port)
    }

    /// The socket that a packet to one host is for. `hash` spreads over the members of a group that share the port; it
    /// is asked for only if there is one.
    pub(crate) fn lookup(&self, target: &Target, hash: impl FnOnce() -> u64) -> Option<Found<E>> {
        let ports = self.ports.read();
        let claims = &ports.get(&target.local_port)?.claims;
        if let [only] = &claims[..] {
            return only.score(target).map(|_| only.find());
        }
        let best = claims.iter().filter_map(|claim| claim.score(target)).max()?;
        let mut equals = claims.iter().filter(|claim| claim.score(target) == Some(best));
        let group = equals.clone().filter(|claim| claim.binding.reuse_port).count();
        if group > 1 {
            // Below the number of members of the group.
            let index = ((u128::from(hash()) * group as u128) >> 64) as usize;
            let mut members = equals.filter(|claim| claim.binding.reuse_port);
            return match members.clone().find_map(|claim| claim.steering.clone()) {
                None => members.nth(index).map(|claim| Found::One(claim.share())),
                Some(program) => {
                    let members = members.map(Claim::share).collect();
                    Some(Found::Group(Group { members, program, by_hash: index }))
                }
            };
        }
        // Linux: among sharers the newest.
        equals.next_back().map(Claim::find)
    }

    /// All sockets that a packet to a group or broadcast address is for.
    pub(crate) fn lookup_all(&self, target: &Target) -> SmallVec<[Arc<E>; 4]> {
        let ports = self.ports.read();
        let claims = ports.get(&target.local_port).map(|entry| &entry.claims);
        let matching = claims.into_iter().flatten().filter(|claim| claim.score(target).is_some());
        matching.map(Claim::share).collect()
    }

    /// How many ports are in use.
    pub(crate) fn len(&self) -> usize {
        let ports = self.ports.read();
        let users = self.users.lock();
        let shared = ports.keys().filter(|port| !users.of(**port).is_nobody()).count();
        ports.len() + users.len() - shared
    }

    /// The sum of `count` over the sockets.
    pub(crate) fn sum(&self, count: impl Fn(&E) -> usize) -> usize {
        let ports = self.ports.read();
        let claims = ports.values().flat_map(|port| &port.claims);
        claims.map(|claim| count(&claim.endpoint)).sum()
    }

    /// Whether a socket cannot have a port with these claims.
    fn is_taken(
        &self,
        port: u16,
        entry: Option<&Port<E>>,
        new: &Binding,
        has_rival: impl FnOnce() -> bool,
    ) -> bool {
        let users = self.users.lock().of(port);
        let excludes = users.exclusive > 0 || users.shared > 0 && !new.may_join(PortUse::Shared);
        if excludes && has_rival() {
            return true;
        }
        entry.into_iter().flat_map(|entry| &entry.claims).any(|claim| {
            let old = &claim.binding;
            let shares_address = old.reuse_address
                && new.reuse_address
                && (self.sharing == Sharing::Datagram || !claim.is_receiving);
            overlaps(old, new) && !shares_address && !(old.reuse_port && new.reuse_port)
        })
    }
}

impl<E> Found<E> {
    /// The socket that the hash picks, where there is nothing to show to a program.
    pub(crate) fn by_hash(self) -> Arc<E> {
        match self {
            Self::One(endpoint) => endpoint,
            Self::Group(group) => group.pick(None),
        }
    }
}

impl<E> Group<E> {
    /// The member with a number; if there is none of that number, the one that the hash picks (`reuseport_select_sock`).
    pub(crate) fn pick(mut self, index: Option<usize>) -> Arc<E> {
        let index = index.filter(|&index| index < self.members.len()).unwrap_or(self.by_hash);
        self.members.swap_remove(index)
    }
}

impl<E> Port<E> {
    /// Those that share the port with a socket bound like this.
    fn group_of(&self, binding: &Binding) -> impl Iterator<Item = &Claim<E>> {
        let binding = *binding;
        self.claims.iter().filter(move |claim| binding.reuse_port && claim.binding == binding)
    }
}

impl<E> Default for Port<E> {
    fn default() -> Self {
        Self { claims: SmallVec::new() }
    }
}

impl<E> Claim<E> {
    fn share(&self) -> Arc<E> {
        Arc::clone(&self.endpoint)
    }

    fn find(&self) -> Found<E> {
        match &self.steering {
            None => Found::One(self.share()),
            Some(program) => {
                let members = SmallVec::from_iter([self.share()]);
                Found::Group(Group { members, program: program.clone(), by_hash: 0 })
            }
        }
    }

    /// How precisely the socket asked for such packets; `None` if it did not.
    fn score(&self, target: &Target) -> Option<u8> {
        let binding = &self.binding;
        if !self.is_receiving || !binding.takes_family_of(target.local) {
            return None;
        }
        let mut score = u8::from(binding.family == crate::cidr::family_of(target.local));
        if let Some(address) = binding.address {
            score += if address == target.local { 4 } else { return None };
        }
        if let Some(nic) = binding.nic {
            score += if nic == target.nic { 2 } else { return None };
        }
        if let Some(peer) = self.peer {
            score += if peer == (target.remote, target.remote_port) { 8 } else { return None };
        }
        Some(score)
    }
}

impl Binding {
    /// Whether the socket would take packets to an address, as far as that and its family are concerned.
    pub(crate) fn takes(&self, address: IpAddr) -> bool {
        self.address.map_or_else(|| self.takes_family_of(address), |own| own == address)
    }

    /// Whether the socket may have the port and the address of such a connection.
    pub(crate) fn may_join(&self, port_use: PortUse) -> bool {
        port_use == PortUse::Shared && (self.reuse_address || self.reuse_port)
    }

    /// Tells whether packets to an address of that family can be for the socket.
    fn takes_family_of(&self, address: IpAddr) -> bool {
        match (self.family, address) {
            (Family::V4, IpAddr::V4(_)) | (Family::V6, IpAddr::V6(_)) => true,
            (Family::V6, IpAddr::V4(_)) => !self.only_v6,
            (Family::V4, IpAddr::V6(_)) => false,
        }
    }
}

fn overlaps(a: &Binding, b: &Binding) -> bool {
    let nics_overlap = a.nic.is_none() || b.nic.is_none() || a.nic == b.nic;
    let addresses_overlap = match (a.address, b.address) {
        (Some(a), Some(b)) => a == b,
        (Some(address), None) => b.takes_family_of(address),
        (None, Some(address)) => a.takes_family_of(address),
        (None, None) => a.family == b.family || (!a.only_v6 && !b.only_v6),
    };
    nics_overlap && addresses_overlap
}

#[cfg(test)]
#[path = "port_table_tests.rs"]
mod tests;
