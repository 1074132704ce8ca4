//! Asking the host about one of its interfaces.

use std::os::fd::AsFd;

use netstack::wire::ethernet::MacAddr;

use crate::error::OpenError;
use crate::sys;

/// An interface of the network namespace that the calling thread is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// Its station address; `None` if it is not Ethernet.
    pub mac: Option<MacAddr>,
    /// The largest IP packet that it carries.
    pub mtu: usize,
}

impl Device {
    /// Asks for an interface by name (netdevice(7)).
    pub fn query(interface: &str) -> Result<Self, OpenError> {
        let request = sys::ifreq(interface).ok_or_else(|| OpenError::Name(interface.to_owned()))?;
        let socket =
            sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(OpenError::host(interface, "socket"))?;
        let ask = |code, call| {
            let mut answer = request;
            sys::ioctl_ifreq(socket.as_fd(), code, &mut answer).map_err(OpenError::host(interface, call))?;
            Ok(answer.ifr_ifru)
        };
        let index = ask(libc::SIOCGIFINDEX, "SIOCGIFINDEX")?;
        let mtu = ask(libc::SIOCGIFMTU, "SIOCGIFMTU")?;
        let address = ask(libc::SIOCGIFHWADDR, "SIOCGIFHWADDR")?;
        // SAFETY: the host answered with the number; any bytes are valid in it.
        let index = unsafe { index.ifru_ifindex };
        // SAFETY: the host answered with the MTU; any bytes are valid in it.
        let mtu = unsafe { mtu.ifru_mtu };
        // SAFETY: the host answered with the address; any bytes are valid in it.
        let address = unsafe { address.ifru_hwaddr };
        let mac = (address.sa_family == libc::ARPHRD_ETHER).then(|| {
            let [a, b, c, d, e, f, ..] = address.sa_data.map(libc::c_char::cast_unsigned);
            MacAddr([a, b, c, d, e, f])
        });
        Ok(Self {
            index: u32::try_from(index).unwrap_or(0),
            mac,
            // The kernel has no negative ones.
            mtu: usize::try_from(mtu).unwrap_or(0),
        })
    }
}
