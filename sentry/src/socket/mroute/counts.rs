//! `SIOCGETVIFCNT`, `SIOCGETSGCNT` and their counterparts of IPv6: what a routing program asks of the traffic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::multicast_route::VifId;
use netstack::options::Family;
use sentry_abi::mroute::{SIOCGETVIFCNT, SiocSgCounts, SiocSgReq, SiocSgReq6, SiocVifReq};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::socket::inet::InetSocket;
use crate::task::CurrentTask;

/// Answers a request on a raw socket.
///
/// # Errors
/// `EINVAL` beyond the last virtual interface, `EADDRNOTAVAIL` where there is none, or no such route.
pub(in crate::socket) fn ioctl(
    socket: &InetSocket,
    task: &CurrentTask,
    request: u32,
    at: UserAddr,
) -> SysResult {
    match (request, socket.ip_family()) {
        (SIOCGETVIFCNT, _) => of_vif(socket, task, at)?,
        (_, Family::V4) => {
            let mut asked: SiocSgReq = task.mm().read_obj(at)?;
            let (source, group) = (Ipv4Addr::from(asked.source), Ipv4Addr::from(asked.group));
            asked.counts = of_route(socket, source.into(), group.into())?;
            task.mm().write_obj(at, &asked)?;
        }
        (_, Family::V6) => {
            let mut asked: SiocSgReq6 = task.mm().read_obj(at)?;
            let address = |bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes));
            asked.counts = of_route(socket, address(asked.source.address), address(asked.group.address))?;
            task.mm().write_obj(at, &asked)?;
        }
    }
    Ok(0)
}

fn of_vif(socket: &InetSocket, task: &CurrentTask, at: UserAddr) -> Result<(), Errno> {
    let mut asked: SiocVifReq = task.mm().read_obj(at)?;
    let routing = socket.namespace().multicast_routing();
    let vifs = routing.with_table_of(socket, |_, active| active.router.vifs()).unwrap_or_default();
    let is_beyond = vifs.last().is_none_or(|last| asked.vifi > last.id.number().into());
    let id = VifId::new(asked.vifi.into()).filter(|_| !is_beyond).ok_or(Errno::EINVAL)?;
    let counts = vifs.iter().find(|vif| vif.id == id).ok_or(Errno::EADDRNOTAVAIL)?.counts;
    (asked.packets_in, asked.packets_out) = (counts.packets_in, counts.packets_out);
    (asked.bytes_in, asked.bytes_out) = (counts.bytes_in, counts.bytes_out);
    task.mm().write_obj(at, &asked)?;
    Ok(())
}

fn of_route(socket: &InetSocket, source: IpAddr, group: IpAddr) -> Result<SiocSgCounts, Errno> {
    let routing = socket.namespace().multicast_routing();
    let found = routing.with_table_of(socket, |_, active| active.router.route(source, group)).flatten();
    let counts = found.ok_or(Errno::EADDRNOTAVAIL)?.counts;
    Ok(SiocSgCounts { packets: counts.packets, bytes: counts.bytes, wrong: counts.wrong_vif })
}
