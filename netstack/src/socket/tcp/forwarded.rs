//! The socket of a connection that a forwarder answers.

use std::sync::Arc;

use crate::cidr::family_of;
use crate::ip::Egress;
use crate::options::SocketOptions;
use crate::outbox::Outbox;
use crate::port_users::PortUse;
use crate::socket::tcp::{Role, TcpSocket};
use crate::stack::Core;
use crate::tcp::{Connection, Flow};
use crate::tcp_endpoint::TcpEndpoint;
use crate::wait::WaitQueue;

impl TcpSocket {
    /// The socket of a connection that a forwarder answered; `None` if the flow has one.
    pub(crate) fn of_machine(
        core: &Arc<Core>,
        flow: Flow,
        machine: Connection,
        egress: Egress,
    ) -> Option<Self> {
        let (waiters, options) = (Arc::<WaitQueue>::default(), SocketOptions::shared_default());
        let shared = (Arc::clone(&options), Arc::clone(&waiters));
        let endpoint =
            TcpEndpoint::new(flow, machine, Some(egress), shared.0, shared.1, None, PortUse::Shared);
        if !endpoint.register(core) {
            return None;
        }
        let mut outbox = Outbox::default();
        endpoint.touch(&mut outbox);
        outbox.flush(core);
        let role = Role::Connected(endpoint);
        Some(Self::with_role(Arc::clone(core), family_of(flow.local_addr), options, waiters, role))
    }
}
