//! Tap and tun devices: the stack at the user-space end of an interface of the host.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use netstack::link::{Capabilities, Link, LinkError, Medium};
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::device::Device;
use crate::error::OpenError;
use crate::host_link::{HostLink, Leader};
use crate::receive::{Mechanism, Receiver, VnetHeaders};
use crate::sys;
use crate::transmit::{self, Failure};
use crate::vnet_header;

/// A queue of a tap or tun device. The host's kernel is at the other end, as a peer with addresses of its own.
///
/// The device drops frames for up to a second after it was opened, until the kernel noticed its carrier.
#[derive(Debug)]
pub struct TapLink {
    fd: OwnedFd,
    params: TapLinkParams,
    receiver: Mutex<Receiver>,
}

/// What a link has to know about a tap or tun descriptor that somebody else opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapLinkParams {
    /// What the device carries.
    pub mode: TapMode,
    /// The largest IP packet that it carries.
    pub mtu: usize,
    /// Whether it was attached with `IFF_VNET_HDR`.
    pub vnet_headers: VnetHeaders,
    /// Whether the host cuts up UDP super-segments.
    pub udp_segmentation: bool,
}

/// What a device carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapMode {
    /// Ethernet frames; the stack is the station with this address, which must differ from the interface's.
    Tap(MacAddr),
    /// Bare IP packets.
    Tun,
}

/// How to open a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapOptions {
    /// What it carries.
    pub mode: TapMode,
    /// Whether frames have virtio-net headers, so that both sides send super-segments and skip checksums.
    pub vnet_headers: VnetHeaders,
    /// Attaches one queue of several (`IFF_MULTI_QUEUE`): open the device once per queue.
    pub multi_queue: bool,
    /// Frames go to the kernel through its polling loop (`IFF_NAPI`), which merges and batches small ones.
    pub napi: bool,
}

impl TapOptions {
    /// A tap with virtio-net headers and a single queue.
    #[must_use]
    pub fn tap(mac: MacAddr) -> Self {
        Self { mode: TapMode::Tap(mac), vnet_headers: VnetHeaders::Present, multi_queue: false, napi: false }
    }

    /// A tun with virtio-net headers and a single queue.
    #[must_use]
    pub fn tun() -> Self {
        Self { mode: TapMode::Tun, ..Self::tap(MacAddr::ZERO) }
    }
}

impl TapLink {
    /// Attaches to a device of the calling thread's network namespace, and makes it if there is none and the caller
    /// may. The interface is turned on and given addresses by others.
    pub fn open(interface: &str, options: TapOptions) -> Result<Arc<Self>, OpenError> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        let fd = OwnedFd::from(file.map_err(OpenError::host(interface, "open /dev/net/tun"))?);
        attach(fd.as_fd(), interface, &options)?;
        sys::set_nonblocking(fd.as_fd()).map_err(OpenError::host(interface, "fcntl"))?;
        let udp_segmentation = set_offloads(fd.as_fd(), options.vnet_headers)
            .map_err(OpenError::host(interface, "TUNSETOFFLOAD"))?;
        let device = Device::query(interface)?;
        lengthen_queue(interface);
        Ok(Self::from_fd(
            fd,
            TapLinkParams {
                mode: options.mode,
                mtu: device.mtu,
                vnet_headers: options.vnet_headers,
                udp_segmentation,
            },
        ))
    }

    /// Opens a device with `count` queues (`IFF_MULTI_QUEUE`). The kernel brings a flow's frames to the queue that sent
    /// the flow's last frame.
    pub fn open_queues(
        interface: &str,
        options: TapOptions,
        count: usize,
    ) -> Result<Vec<Arc<Self>>, OpenError> {
        let options = TapOptions { multi_queue: true, ..options };
        (0..count).map(|_| Self::open(interface, options)).collect()
    }

    /// Makes a link of an attached descriptor, which must be non-blocking. Makes no system call.
    pub fn from_fd(fd: OwnedFd, params: TapLinkParams) -> Arc<Self> {
        let receiver = Receiver::new(Mechanism::of_tap(params.vnet_headers, params.mtu), params.vnet_headers);
        Arc::new(Self { fd, params, receiver: Mutex::new(receiver) })
    }

    fn send_one(&self, packet: &mut Packet) -> Result<(), LinkError> {
        transmit::limit_pieces(packet);
        let header = match self.params.vnet_headers {
            VnetHeaders::Present => Some(vnet_header::encode(packet)),
            VnetHeaders::Absent => None,
        };
        let mut pieces: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        transmit::gather(packet, header.as_ref(), &mut pieces);
        for _ in 0..transmit::MAX_RETRIES {
            let Err(error) = sys::writev(self.fd.as_fd(), &pieces) else { return Ok(()) };
            match transmit::classify(&error) {
                Failure::Busy if transmit::wait_for_room(self.fd.as_fd()) => {}
                Failure::Busy => break,
                Failure::Final(error) => return Err(error),
            }
        }
        Err(LinkError::Full)
    }
}

impl Link for TapLink {
    fn medium(&self) -> Medium {
        match self.params.mode {
            TapMode::Tap(mac) => Medium::Ethernet(mac),
            TapMode::Tun => Medium::Ip,
        }
    }

    fn mtu(&self) -> usize {
        self.params.mtu
    }

    fn capabilities(&self) -> Capabilities {
        transmit::capabilities(self.params.vnet_headers, self.params.udp_segmentation)
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        for (sent, packet) in packets.iter_mut().enumerate() {
            match self.send_one(packet) {
                Ok(()) => {}
                Err(error) if sent == 0 => return Err(error),
                Err(_) => return Ok(sent),
            }
        }
        Ok(packets.len())
    }
}

impl HostLink for TapLink {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn lead(&self) -> Leader<'_> {
        Leader::wait(self.fd.as_fd(), &self.receiver)
    }

    fn try_lead(&self) -> Option<Leader<'_>> {
        Leader::try_now(self.fd.as_fd(), &self.receiver)
    }
}

fn attach(fd: BorrowedFd<'_>, interface: &str, options: &TapOptions) -> Result<(), OpenError> {
    let mut request = sys::ifreq(interface).ok_or_else(|| OpenError::Name(interface.to_owned()))?;
    let flags = [
        (true, libc::IFF_NO_PI),
        (matches!(options.mode, TapMode::Tap(_)), libc::IFF_TAP),
        (options.mode == TapMode::Tun, libc::IFF_TUN),
        (options.vnet_headers == VnetHeaders::Present, libc::IFF_VNET_HDR),
        (options.multi_queue, libc::IFF_MULTI_QUEUE),
        (options.napi, libc::IFF_NAPI),
    ];
    let flags = flags.iter().filter(|(is_set, _)| *is_set).fold(0, |flags, (_, flag)| flags | flag);
    // All of them are within 16 bits.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    sys::ioctl_ifreq(fd, libc::TUNSETIFF, &mut request).map_err(OpenError::host(interface, "TUNSETIFF"))
}

/// Tells the kernel what we take off it. True if UDP super-segments are among it (Linux 6.2).
fn set_offloads(fd: BorrowedFd<'_>, vnet_headers: VnetHeaders) -> std::io::Result<bool> {
    if vnet_headers == VnetHeaders::Absent {
        // The device may remember what its last user took.
        sys::ioctl_number(fd, libc::TUNSETOFFLOAD, 0)?;
        return Ok(false);
    }
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    if sys::ioctl_number(fd, libc::TUNSETOFFLOAD, tcp | udp).is_ok() {
        return Ok(true);
    }
    sys::ioctl_number(fd, libc::TUNSETOFFLOAD, tcp)?;
    Ok(false)
}

/// The default queue of 1000 frames drops bursts of small frames. Only an administrator may change it; without, it
/// stays as it is.
fn lengthen_queue(interface: &str) {
    let (Some(mut request), Ok(socket)) =
        (sys::ifreq(interface), sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0))
    else {
        return;
    };
    request.ifr_ifru.ifru_metric = QUEUE_FRAMES;
    let _ = sys::ioctl_ifreq(socket.as_fd(), libc::SIOCSIFTXQLEN, &mut request);
}

/// A window of 4 MiB in frames of 1 KiB.
const QUEUE_FRAMES: libc::c_int = 4096;
