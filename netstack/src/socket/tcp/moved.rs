//! Connections that move between stacks, and what repairs them in place (Linux's `TCP_REPAIR`).

use std::net::SocketAddr;
use std::sync::Arc;

use super::TcpSocket;
use crate::cidr::family_of;
use crate::error::{ConnectError, RestoreError};
use crate::ip::{unmapped, zone_of};
use crate::nic::NicId;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::stack::Stack;
use crate::tcp::{Connection, Flow, Snapshot};
use crate::tcp_endpoint::{facts_of, path_of, resolve};

/// A connection with its addresses, as a value: it can be sent somewhere else as [bytes](Self::to_bytes) and go on there
/// ([`TcpSocket::restore`]). Options of the socket are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSnapshot {
    /// The address and port of this end.
    pub local: SocketAddr,
    /// Those of the other end.
    pub remote: SocketAddr,
    /// The state between them.
    pub connection: Snapshot,
}

impl TcpSocket {
    /// The connection as a value; it goes on. `None` without one, and in states in which nothing is left to be moved.
    pub fn snapshot(&self) -> Option<StreamSnapshot> {
        let endpoint = self.connection()?;
        let mut outbox = Outbox::default();
        let now = outbox.now(&self.core);
        let connection = endpoint.with(&self.core, &mut outbox, |inner| inner.machine.snapshot(now));
        outbox.flush(&self.core);
        Some(StreamSnapshot {
            local: self.local_addr(),
            remote: self.peer_of(&endpoint.flow),
            connection: connection?,
        })
    }

    /// Takes the connection out of the stack without a word to the other end: the value is what is left of it, and the socket
    /// is closed. `None` as [`snapshot`](Self::snapshot); then nothing has happened.
    ///
    /// Until it is [restored](Self::restore), segments for it must not reach a stack that has its address: that would answer
    /// them with a reset.
    pub fn detach(&self) -> Option<StreamSnapshot> {
        let endpoint = self.connection()?;
        let (local, remote) = (self.local_addr(), self.peer_of(&endpoint.flow));
        let mut outbox = Outbox::default();
        let now = outbox.now(&self.core);
        // Under one lock: what comes later would be lost.
        let connection = endpoint.with(&self.core, &mut outbox, |inner| {
            let snapshot = inner.machine.snapshot(now)?;
            let outcome = inner.machine.forget();
            inner.note(outcome);
            Some(snapshot)
        });
        outbox.flush(&self.core);
        let connection = connection?;
        self.close();
        Some(StreamSnapshot { local, remote, connection })
    }

    /// Closes without a word to the other end.
    pub fn forget(&self) {
        self.end(|machine, _| machine.forget());
    }

    /// A connection that goes on where another stack's was. The stack has its local address, and a route to the other end. It
    /// asks the other end at once what that has got.
    pub fn restore(stack: &Stack, snapshot: &StreamSnapshot) -> Result<Self, RestoreError> {
        let core = &stack.core;
        let (local_addr, remote_addr) = (unmapped(snapshot.local.ip()), unmapped(snapshot.remote.ip()));
        if family_of(local_addr) != family_of(remote_addr) {
            return Err(RestoreError::FamilyMismatch);
        }
        let topology = core.topology.load();
        let local = topology.local_address(local_addr).ok_or(RestoreError::AddressNotAvailable)?;
        let scope = match snapshot.local {
            SocketAddr::V6(local) => NicId::from_index(local.scope_id()),
            SocketAddr::V4(_) => None,
        };
        let flow = Flow {
            local_addr,
            remote_addr,
            local_port: snapshot.local.port(),
            remote_port: snapshot.remote.port(),
            zone: zone_of(remote_addr, scope.unwrap_or(local.nic)),
        };
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let egress = resolve(core, &flow, now, || facts_of(&flow, &SocketOptions::default()))
            .map_err(|_| RestoreError::NetworkUnreachable)?;
        let config = Arc::clone(&core.tcp_config.lock());
        let options = crate::tcp::Options::shared_default();
        let mut machine =
            Connection::restore(now, &config, options, &flow, path_of(&egress), &snapshot.connection);
        machine.probe(now);
        Self::of_machine(core, flow, machine, egress).ok_or(RestoreError::AddressInUse)
    }

    /// Begins a connection that goes on where another one was, without a handshake and without a probe: from where the socket
    /// is bound, with its options, and silent until it has something to send.
    pub fn connect_restored(&self, remote: SocketAddr, snapshot: Snapshot) -> Result<(), ConnectError> {
        self.settings.lock().early_mut(true, |early| early.restored = Some(Box::new(snapshot)));
        let begun = self.connect_plainly(remote);
        self.settings.lock().early_mut(false, |early| early.restored = None);
        begun
    }

    /// Changes the connection in place. What `change` makes of it is what goes on; what was learnt about the path is lost. `None`
    /// as [`snapshot`](Self::snapshot).
    pub fn repair<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> Option<T> {
        let endpoint = self.connection()?;
        let core = &self.core;
        let mut outbox = Outbox::default();
        let now = outbox.now(core);
        let config = Arc::clone(&core.tcp_config.lock());
        let result = endpoint
            .with(core, &mut outbox, |inner| inner.repair(&endpoint.flow, now, core, &config, change));
        outbox.flush(core);
        result
    }

    /// Sends a segment that makes the other end say what it has got.
    pub fn probe(&self) {
        if let Some(endpoint) = self.connection() {
            let mut outbox = Outbox::default();
            let now = outbox.now(&self.core);
            endpoint.with(&self.core, &mut outbox, |inner| inner.machine.probe(now));
            outbox.flush(&self.core);
        }
    }
}
