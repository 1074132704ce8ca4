//! Programs that see what arrives for a TCP socket before the machine does.

use std::sync::atomic::Ordering;

use super::{Role, TcpSocket};
use crate::bpf::Program;

impl TcpSocket {
    /// Shows each segment that arrives to a program first, which drops it or cuts its payload (`SO_ATTACH_FILTER`). The
    /// connections that a listening socket accepts from now on have it too.
    pub fn set_filter(&self, program: Option<Program>) {
        if program.is_some() {
            self.core.filters_streams.store(true, Ordering::Relaxed);
        }
        let role = self.role.read();
        match &*role {
            Role::Bound(claim) | Role::Listening(claim) => claim.endpoint.filter.set(program.clone()),
            Role::Connected(endpoint) => endpoint.set_filter(program.clone()),
            Role::Idle | Role::Closed => {}
        }
        self.settings.lock().early_mut(program.is_some(), |early| early.filter = program);
    }

    /// The program that is shown what arrives.
    pub fn filter(&self) -> Option<Program> {
        self.settings.lock().early.as_ref().and_then(|early| early.filter.clone())
    }

    /// Lets a program pick the member of the group of sockets that share the port (`SO_REUSEPORT`) for each new
    /// connection, by its number in the order in which they began to listen (`SO_ATTACH_REUSEPORT_CBPF`). It is the
    /// group's: all members have it, and later ones get it. False unless the socket shares its port.
    pub fn set_group_filter(&self, program: Option<Program>) -> bool {
        match &*self.role.read() {
            Role::Bound(claim) | Role::Listening(claim) => {
                self.core.tcp_ports.steer(claim.port, &claim.endpoint, program.as_ref())
            }
            Role::Idle => {
                let mut settings = self.settings.lock();
                let is_shared = settings.socket.reuse_port;
                let program = program.filter(|_| is_shared);
                settings.early_mut(program.is_some(), |early| early.group_filter = program);
                is_shared
            }
            Role::Connected(..) | Role::Closed => false,
        }
    }

    /// The program of the socket's group.
    pub fn group_filter(&self) -> Option<Program> {
        match &*self.role.read() {
            Role::Bound(claim) | Role::Listening(claim) => {
                self.core.tcp_ports.steering(claim.port, &claim.endpoint)
            }
            Role::Idle => self.settings.lock().early.as_ref().and_then(|early| early.group_filter.clone()),
            Role::Connected(..) | Role::Closed => None,
        }
    }
}
