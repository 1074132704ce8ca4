//! Whose socket a packet is for, as `ss -p` tells it: by looking through the open files of all processes, and through the
//! sockets that were closed a moment ago.

use std::net::SocketAddr;
use std::sync::Arc;

use netstack::tcp::Flow;
use netstack::wire::ip::Protocol;

use crate::kernel::Kernel;
use crate::socket::SocketFile;
use crate::socket::departed::Departed;
use crate::socket::ops::Family;
use crate::vfs::FdTable;

/// `PID NAME` of the process that has a socket for the conversation open: connected to the peer, or else bound to the port.
/// Of several the first by pid; if there is none, the last one that had.
pub(crate) fn of(
    kernel: &Arc<Kernel>,
    departed: &Departed,
    protocol: Protocol,
    flow: &Flow,
) -> Option<String> {
    let processes: Vec<(i32, Vec<u8>, Arc<FdTable>)> = {
        let tree = kernel.tree();
        let living = tree.processes().filter(|process| process.exit.is_none());
        living.map(|process| (process.group.pid().0, process.leader.comm(), process.leader.files())).collect()
    };
    let mut bound = None;
    for (pid, name, files) in processes {
        match best_fit(&files, protocol, flow) {
            Some(Fit::Connected) => return Some(name_of(pid, &name)),
            Some(Fit::Bound) if bound.is_none() => bound = Some(name_of(pid, &name)),
            Some(Fit::Bound) | None => {}
        }
    }
    match departed.find(protocol, flow) {
        Some((Fit::Connected, owner)) => Some(owner),
        Some((Fit::Bound, owner)) => bound.or(Some(owner)),
        None => bound,
    }
}

/// How a process is called in a recording.
pub(crate) fn name_of(pid: i32, name: &[u8]) -> String {
    // A name may hold anything, a line of a comment not.
    let name: String = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect();
    format!("{pid} {name}")
}

/// How a socket belongs to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    Bound,
    Connected,
}

fn best_fit(files: &FdTable, protocol: Protocol, flow: &Flow) -> Option<Fit> {
    let open = files.open_fds().into_iter().filter_map(|fd| files.get(fd).ok());
    let fits = open.filter_map(|file| {
        let socket = SocketFile::of(&file).ok()?;
        Ends::of(socket.family())?.fit(protocol, flow)
    });
    fits.max()
}

/// The ends of an internet socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) protocol: Protocol,
    pub(super) local: SocketAddr,
    pub(super) peer: Option<SocketAddr>,
}

impl Ends {
    /// Those of a stream or datagram socket.
    pub(super) fn of(family: Family<'_>) -> Option<Self> {
        let Family::Inet(inet) = family else { return None };
        let protocol = match (inet.tcp(), inet.udp()) {
            (Some(_), _) => Protocol::TCP,
            (None, Some(_)) => Protocol::UDP,
            (None, None) => return None,
        };
        Some(Self { protocol, local: inet.local(), peer: inet.peer() })
    }

    /// How a socket with these ends belongs to a conversation, if it does.
    pub(super) fn fit(&self, protocol: Protocol, flow: &Flow) -> Option<Fit> {
        let local = self.local;
        if self.protocol != protocol || local.port() != flow.local_port {
            return None;
        }
        let is_here =
            local.ip().is_unspecified() || local.ip().to_canonical() == flow.local_addr.to_canonical();
        let remote = SocketAddr::new(flow.remote_addr.to_canonical(), flow.remote_port);
        match self.peer {
            Some(peer) if SocketAddr::new(peer.ip().to_canonical(), peer.port()) == remote => {
                Some(Fit::Connected)
            }
            None if is_here => Some(Fit::Bound),
            Some(_) | None => None,
        }
    }
}
