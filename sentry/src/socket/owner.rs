//! Whose socket a packet is for, as `ss -p` tells it: by looking through the open files of all processes.

use std::net::SocketAddr;
use std::sync::Arc;

use netstack::tcp::Flow;
use netstack::wire::ip::Protocol;

use crate::kernel::Kernel;
use crate::socket::SocketFile;
use crate::socket::inet::InetSocket;
use crate::socket::ops::Family;
use crate::vfs::FdTable;

/// `PID NAME` of the process that has a socket for the conversation open: connected to the peer, or else bound to the port.
/// Of several the first by pid.
pub(crate) fn of(kernel: &Arc<Kernel>, protocol: Protocol, flow: &Flow) -> Option<String> {
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
    bound
}

fn name_of(pid: i32, name: &[u8]) -> String {
    // A name may hold anything, a line of a comment not.
    let name: String = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect();
    format!("{pid} {name}")
}

/// How a socket belongs to a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Bound,
    Connected,
}

fn best_fit(files: &FdTable, protocol: Protocol, flow: &Flow) -> Option<Fit> {
    let open = files.open_fds().into_iter().filter_map(|fd| files.get(fd).ok());
    let fits = open.filter_map(|file| {
        let socket = SocketFile::of(&file).ok()?;
        match socket.family() {
            Family::Inet(inet) => fit(inet, protocol, flow),
            Family::Unix(_) | Family::Netlink(_) | Family::Packet(_) | Family::Host(_) => None,
        }
    });
    fits.max()
}

fn fit(inet: &InetSocket, protocol: Protocol, flow: &Flow) -> Option<Fit> {
    let is_kind = match protocol {
        Protocol::TCP => inet.tcp().is_some(),
        Protocol::UDP => inet.udp().is_some(),
        _ => false,
    };
    let local = inet.local();
    if !is_kind || local.port() != flow.local_port {
        return None;
    }
    let is_here = local.ip().is_unspecified() || local.ip().to_canonical() == flow.local_addr.to_canonical();
    let remote = SocketAddr::new(flow.remote_addr.to_canonical(), flow.remote_port);
    match inet.peer() {
        Some(peer) if SocketAddr::new(peer.ip().to_canonical(), peer.port()) == remote => {
            Some(Fit::Connected)
        }
        None if is_here => Some(Fit::Bound),
        Some(_) | None => None,
    }
}
