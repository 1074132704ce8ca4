//! Interfaces, addresses, routes and neighbours.

use std::ffi::{CStr, c_char};
use std::net::IpAddr;
use std::sync::Arc;

use libc::{c_int, c_uint, size_t};
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::route::Route;
use netstack::{Driver, IpCidr, MacAddr, NicId};
use netstack_host_links::{
    HostLink, OpenError, PacketLink, PacketOptions, Pump, Reader, TapLink, TapOptions,
};

use crate::errno::{Errno, answer};
use crate::frame::{Outgoing, nic_of};
use crate::stack::ns_stack;

/// Who runs a stack's timers, and reads its links.
pub(crate) enum Runner {
    /// The program.
    Manual,
    /// A thread for the timers alone, which ends when this is dropped.
    Timers { _driver: Driver },
    /// A thread for the host links, and for the timers on the side.
    Links {
        links: Vec<(NicId, Arc<dyn HostLink>)>,
        /// None while it is replaced.
        reader: Option<Reader>,
    },
}

impl Runner {
    /// Has the thread read another link as well.
    fn add(&mut self, handle: &ns_stack, nic: NicId, link: Arc<dyn HostLink>) -> std::io::Result<()> {
        let mut links = match self {
            // A reader ends when it is dropped, so that no frame is read by two.
            Self::Links { links, reader } => {
                *reader = None;
                std::mem::take(links)
            }
            Self::Manual | Self::Timers { .. } => Vec::new(),
        };
        links.push((nic, link));
        let mut pump = Pump::new(handle.stack.clone())?;
        for (nic, link) in &links {
            pump.add(*nic, Arc::clone(link));
        }
        *self = Self::Links { links, reader: Some(Reader::spawn(pump)?) };
        Ok(())
    }
}

/// Adds an interface whose frames the program carries by hand (`ns_inject`, `ns_take`).
///
/// `mac` points to six bytes for an Ethernet interface; null makes one that carries IP packets. `queue_len` frames wait
/// to be taken, more are dropped. Returns the interface's number (1 or more), `-EEXIST` if the name is taken, `-EINVAL` if
/// the name or the MTU makes no sense.
///
/// # Safety
/// `stack` is a valid stack, `name` a string that ends with a zero, `mac` null or six readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_nic_add_channel(
    stack: *const ns_stack,
    name: *const c_char,
    mac: *const u8,
    mtu: size_t,
    queue_len: size_t,
) -> c_int {
    // SAFETY: as required of the caller.
    let (handle, name, mac) = unsafe { (ns_stack::from_raw(stack), string(name), mac_of(mac)) };
    let add = || {
        let handle = handle?;
        let medium = mac.map_or(Medium::Ip, Medium::Ethernet);
        let link = ChannelLink::new(medium, mtu, Capabilities::default(), queue_len);
        let nic = handle.stack.add_nic(name?, Arc::<ChannelLink>::clone(&link))?;
        handle.channels.lock().insert(nic, Arc::new(Outgoing::new(link)));
        number_of(nic)
    };
    answer(add())
}

/// Adds an interface on one of the host's: `link` is `tap:NAME` (the user-space end of a tap device, made if it does not
/// exist), `tun:NAME`, or `packet:NAME` (a packet socket on an existing interface). A thread of the stack reads it.
///
/// `mac` is for taps: the stack's own address, which must differ from the host's end. Returns the interface's number,
/// `-EPERM` or the host's own error if the interface cannot be opened, `-EINVAL` for a stack with a manual clock.
///
/// # Safety
/// `stack` is a valid stack, `name` and `link` strings that end with a zero, `mac` null or six readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_nic_open(
    stack: *const ns_stack,
    name: *const c_char,
    link: *const c_char,
    mac: *const u8,
) -> c_int {
    // SAFETY: as required of the caller.
    let (handle, name, link, mac) =
        unsafe { (ns_stack::from_raw(stack), string(name), string(link), mac_of(mac)) };
    let open = || {
        let (handle, name) = (handle?, name?);
        if handle.is_manual {
            return Err(Errno(libc::EINVAL));
        }
        let link = open_link(link?, mac)?;
        let nic = handle.stack.add_nic(name, Arc::<dyn HostLink>::clone(&link))?;
        handle.runner.lock().add(handle, nic, link).map_err(|error| host_error(&error))?;
        number_of(nic)
    };
    answer(open())
}

fn open_link(link: &str, mac: Option<MacAddr>) -> Result<Arc<dyn HostLink>, Errno> {
    let (kind, device) = link.split_once(':').ok_or(Errno(libc::EINVAL))?;
    let opened: Result<Arc<dyn HostLink>, _> = match kind {
        "tap" => {
            let mac = mac.ok_or(Errno(libc::EINVAL))?;
            TapLink::open(device, TapOptions::tap(mac)).map(|link| link as _)
        }
        "tun" => TapLink::open(device, TapOptions::tun()).map(|link| link as _),
        "packet" => PacketLink::open(device, PacketOptions::default()).map(|link| link as _),
        _ => return Err(Errno(libc::EINVAL)),
    };
    opened.map_err(|error| match error {
        OpenError::Name(_) => Errno(libc::EINVAL),
        OpenError::NotEthernet(_) => Errno(libc::EPROTONOSUPPORT),
        OpenError::Host { source, .. } => host_error(&source),
    })
}

fn host_error(error: &std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Gives an interface an address, as `10.0.0.1/24` or `fd00::1/64`, and the route to its network.
///
/// # Safety
/// `stack` is a valid stack and `address` a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_address_add(
    stack: *const ns_stack,
    nic: c_uint,
    address: *const c_char,
) -> c_int {
    // SAFETY: as required of the caller.
    let (handle, address) = unsafe { (ns_stack::from_raw(stack), string(address)) };
    let add = || {
        let handle = handle?;
        handle.stack.add_address(nic_of(handle, nic)?, parse::<IpCidr>(address?)?)?;
        Ok(0)
    };
    answer(add())
}

/// Adds a route to a network (`0.0.0.0/0` is everything) through a router, or, if `gateway` is null, over the link itself.
///
/// # Safety
/// `stack` is a valid stack, `network` a string that ends with a zero, `gateway` null or another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_route_add(
    stack: *const ns_stack,
    nic: c_uint,
    network: *const c_char,
    gateway: *const c_char,
) -> c_int {
    // SAFETY: as required of the caller.
    let (handle, network) = unsafe { (ns_stack::from_raw(stack), string(network)) };
    // SAFETY: as required of the caller.
    let gateway = if gateway.is_null() { None } else { Some(unsafe { string(gateway) }) };
    let add = || {
        let handle = handle?;
        let (nic, network) = (nic_of(handle, nic)?, parse::<IpCidr>(network?)?);
        let route = match gateway {
            Some(gateway) => Route::via(network, parse::<IpAddr>(gateway?)?, nic),
            None => Route::connected(network, nic),
        };
        handle.stack.add_route(route)?;
        Ok(0)
    };
    answer(add())
}

/// Tells the link-layer address of a neighbour, so that it is not asked for.
///
/// # Safety
/// `stack` is a valid stack, `address` a string that ends with a zero, `mac` six readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ns_neighbour_add(
    stack: *const ns_stack,
    nic: c_uint,
    address: *const c_char,
    mac: *const u8,
) -> c_int {
    // SAFETY: as required of the caller.
    let (handle, address, mac) = unsafe { (ns_stack::from_raw(stack), string(address), mac_of(mac)) };
    let add = || {
        let handle = handle?;
        let mac = mac.ok_or(Errno(libc::EFAULT))?;
        handle.stack.add_neighbour(nic_of(handle, nic)?, parse::<IpAddr>(address?)?, mac)?;
        Ok(0)
    };
    answer(add())
}

fn number_of(nic: NicId) -> Result<c_int, Errno> {
    c_int::try_from(nic.index()).map_err(|_| Errno(libc::EOVERFLOW))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Errno> {
    text.parse().map_err(|_| Errno(libc::EINVAL))
}

/// # Safety
/// `text` is null or a string that ends with a zero and lives for `'a`.
unsafe fn string<'a>(text: *const c_char) -> Result<&'a str, Errno> {
    if text.is_null() {
        return Err(Errno(libc::EFAULT));
    }
    // SAFETY: as required of the caller.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| Errno(libc::EINVAL))
}

/// # Safety
/// `mac` is null or points to six readable bytes.
unsafe fn mac_of(mac: *const u8) -> Option<MacAddr> {
    // SAFETY: as required of the caller; an array of bytes has no alignment.
    unsafe { mac.cast::<[u8; 6]>().as_ref() }.map(|octets| MacAddr(*octets))
}
