//! Requests about the host's interfaces (netdevice(7)): looking only.

use sentry_abi::ifreq::{
    IfConf, IfReq, SIOCETHTOOL, SIOCGIFCONF, SIOCSIFADDR, SIOCSIFFLAGS, SIOCSIFMTU, SIOCSIFNETMASK,
};
use sentry_abi::socket::{AF_INET, SOCK_DGRAM};
use sentry_hostio::socket::{HostSocket, IFREQ_LEN, INTERFACE_REQUESTS};
use zerocopy::IntoBytes;

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::socket::host::errno;
use crate::task::CurrentTask;

/// Handles a request about interfaces; `None` for any other.
pub(in crate::socket) fn ioctl(task: &CurrentTask, request: u32, addr: UserAddr) -> Option<SysResult> {
    match request {
        SIOCGIFCONF => Some(list(task, addr)),
        SIOCSIFFLAGS | SIOCSIFADDR | SIOCSIFNETMASK | SIOCSIFMTU => Some(Err(Errno::EPERM.into())),
        SIOCETHTOOL => Some(Err(Errno::EOPNOTSUPP.into())),
        request if INTERFACE_REQUESTS.contains(&request) => Some(get(task, request, addr)),
        _ => None,
    }
}

/// Any socket of the namespace answers.
fn probe() -> Result<HostSocket, Errno> {
    let kind = i32::try_from(SOCK_DGRAM).unwrap_or(0);
    HostSocket::new(AF_INET.into(), kind, 0).map_err(|error| errno(&error))
}

fn get(task: &CurrentTask, request: u32, addr: UserAddr) -> SysResult {
    let ifreq: IfReq = task.mm().read_obj(addr)?;
    let mut bytes = [0; IFREQ_LEN];
    bytes.copy_from_slice(ifreq.as_bytes());
    probe()?.interface_request(request, &mut bytes).map_err(|error| errno(&error))?;
    task.mm().write_bytes(addr, &bytes)?;
    Ok(0)
}

fn list(task: &CurrentTask, addr: UserAddr) -> SysResult {
    let mut conf: IfConf = task.mm().read_obj(addr)?;
    let found = probe()?.interfaces().map_err(|error| errno(&error))?;
    let mut len = found.len();
    if conf.buf != 0 {
        let room = usize::try_from(conf.len).map_err(|_| Errno::EINVAL)?;
        len = len.min(room / IFREQ_LEN * IFREQ_LEN);
        task.mm().write_bytes(UserAddr(conf.buf), &found[..len])?;
    }
    conf.len = i32::try_from(len).map_err(|_| Errno::EINVAL)?;
    task.mm().write_obj(addr, &conf)?;
    Ok(0)
}
