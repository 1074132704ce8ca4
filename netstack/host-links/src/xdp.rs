//! AF_XDP: frames of queues of an interface through rings in shared memory (`Documentation/networking/af_xdp.rst`).
//!
//! In copy mode, which every driver has: the kernel copies between its buffers and [`Umem`], which it shares with us.
//! There are no virtio-net headers, so no super-segments either. It sends small frames at less cost than any other link
//! and receives them at more; docs/performance.md has the figures.

mod program;
mod ring;
mod umem;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use netstack::link::{Capabilities, Link, LinkError, Medium};
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;
use parking_lot::Mutex;

use crate::device::Device;
use crate::error::{OpenError, ReceiveError};
use crate::host_link::{HostLink, Leader, Receive};
use crate::sys;
use crate::transmit::{self, Failure};
use program::Redirect;
use ring::Ring;
use umem::{FRAME_LEN, Umem};

/// An AF_XDP socket on one queue of an interface, and the program that brings the queue's frames to it.
///
/// All frames of the queue come here; the host's own stack sees none of them until the link is dropped.
#[derive(Debug)]
pub struct XdpLink {
    fd: OwnedFd,
    mac: MacAddr,
    mtu: usize,
    peer: XdpPeer,
    umem: Arc<Umem>,
    receiver: Mutex<XdpReceiver>,
    transmitter: Mutex<XdpTransmitter>,
    /// Ends the redirection when the last link of the interface is dropped.
    _redirect: Arc<Redirect>,
}

/// A socket that is bound to a queue no frames come to yet.
struct Bound {
    queue: u32,
    fd: OwnedFd,
    umem: Arc<Umem>,
    receiver: XdpReceiver,
    transmitter: XdpTransmitter,
}

/// How to open an AF_XDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpOptions {
    /// The queue of the interface.
    pub queue: u32,
    /// Who sends the frames that arrive.
    pub peer: XdpPeer,
}

impl Default for XdpOptions {
    /// The first queue, of a wire.
    fn default() -> Self {
        Self { queue: 0, peer: XdpPeer::Wire }
    }
}

/// Who sends the frames that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpPeer {
    /// Stations on a wire: checksums are looked at.
    Wire,
    /// This host, as behind a veth pair: it leaves checksums unfinished unless told not to (`ethtool -K PEER tx off`), and
    /// nothing in the frame says so. They are taken as good. Frames must then not be forwarded elsewhere.
    SameHost,
}

/// The receiving half: descriptors of received frames, and of those that may be filled.
#[derive(Debug)]
struct XdpReceiver {
    umem: Arc<Umem>,
    filled: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
}

/// The sending half: descriptors of frames to send, and of those that were sent.
#[derive(Debug)]
struct XdpTransmitter {
    queue: Ring<libc::xdp_desc>,
    done: Ring<u64>,
    free: Vec<u64>,
}

impl XdpLink {
    /// Opens a queue of an interface of the calling thread's network namespace. Needs `CAP_NET_ADMIN`, `CAP_NET_RAW` and
    /// `CAP_BPF` there.
    pub fn open(interface: &str, options: XdpOptions) -> Result<Arc<Self>, OpenError> {
        let (device, mac) = Self::query(interface)?;
        let bound = Bound::open(interface, &device, options.queue)?;
        let redirect = redirect(interface, &device, std::slice::from_ref(&bound))?;
        Ok(bound.link(&device, mac, options.peer, redirect))
    }

    /// Opens `count` queues of an interface from that of `options` on, each for a pump of its own behind
    /// [`Queues`](crate::Queues). The interface spreads the flows that arrive over its queues; those of others go on to
    /// the host's own stack, so all that the interface has should be opened.
    pub fn open_queues(
        interface: &str,
        options: XdpOptions,
        count: usize,
    ) -> Result<Vec<Arc<Self>>, OpenError> {
        let (device, mac) = Self::query(interface)?;
        // Binding fails beyond the interface's last queue.
        let queues = (options.queue..=u32::MAX).take(count);
        let bound = queues.map(|queue| Bound::open(interface, &device, queue));
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let redirect = redirect(interface, &device, &bound)?;
        let links = bound.into_iter().map(|one| one.link(&device, mac, options.peer, Arc::clone(&redirect)));
        Ok(links.collect())
    }

    fn query(interface: &str) -> Result<(Device, MacAddr), OpenError> {
        let device = Device::query(interface)?;
        let mac = device.mac.ok_or_else(|| OpenError::NotEthernet(interface.to_owned()))?;
        Ok((device, mac))
    }

    /// Puts as many packets into the queue as there are frames for.
    fn queue(&self, packets: &[Packet]) -> Result<usize, LinkError> {
        let mut transmitter = self.transmitter.lock();
        transmitter.reclaim();
        let mut queued = 0;
        for packet in packets {
            let len = packet.len();
            if len > FRAME_LEN {
                return if queued > 0 { Ok(queued) } else { Err(LinkError::TooLarge) };
            }
            let Some(frame) = transmitter.free.pop() else { break };
            self.umem.fill(frame, packet.slices());
            // Shorter than a frame.
            let descriptor = libc::xdp_desc { addr: frame, len: len as u32, options: 0 };
            if !transmitter.queue.push(descriptor) {
                transmitter.free.push(frame);
                break;
            }
            queued += 1;
        }
        transmitter.queue.publish();
        Ok(queued)
    }

    fn kick(&self) -> Result<(), LinkError> {
        match sys::kick(self.fd.as_fd()) {
            Ok(()) => Ok(()),
            Err(error) => match transmit::classify(&error) {
                // The kernel sends what is in the ring at the next kick.
                Failure::Busy => Ok(()),
                Failure::Final(error) => Err(error),
            },
        }
    }
}

impl Bound {
    fn open(interface: &str, device: &Device, queue: u32) -> Result<Self, OpenError> {
        let at = |call| OpenError::host(interface, call);
        let fd = sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(at("socket"))?;
        let umem = Umem::register(fd.as_fd(), 2 * FRAMES).map_err(at("XDP_UMEM_REG"))?;
        let umem = Arc::new(umem);
        let (receiver, transmitter) = make_rings(fd.as_fd(), &umem).map_err(at("XDP rings"))?;
        sys::bind_xdp(fd.as_fd(), device.index, queue).map_err(at("bind"))?;
        Ok(Self { queue, fd, umem, receiver, transmitter })
    }

    fn link(self, device: &Device, mac: MacAddr, peer: XdpPeer, redirect: Arc<Redirect>) -> Arc<XdpLink> {
        let Self { queue: _, fd, umem, receiver, transmitter } = self;
        Arc::new(XdpLink {
            fd,
            mac,
            mtu: device.mtu.min(FRAME_LEN - HEADROOM),
            peer,
            umem,
            receiver: Mutex::new(receiver),
            transmitter: Mutex::new(transmitter),
            _redirect: redirect,
        })
    }
}

/// Has the frames of the queues come to their sockets: one program for all, since an interface takes no second one.
fn redirect(interface: &str, device: &Device, bound: &[Bound]) -> Result<Arc<Redirect>, OpenError> {
    let sockets: Vec<_> = bound.iter().map(|one| (one.queue, one.fd.as_fd())).collect();
    let redirect = Redirect::attach(device.index, &sockets);
    redirect.map(Arc::new).map_err(OpenError::host(interface, "bpf"))
}

impl XdpTransmitter {
    /// Takes back the frames that the kernel has sent.
    fn reclaim(&mut self) {
        while let Some(frame) = self.done.pop() {
            self.free.push(frame);
        }
        self.done.publish();
    }
}

impl Link for XdpLink {
    fn medium(&self) -> Medium {
        Medium::Ethernet(self.mac)
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { rx_checksum_trusted: self.peer == XdpPeer::SameHost, ..Capabilities::default() }
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let mut sent = 0;
        for _ in 0..transmit::MAX_RETRIES {
            sent += self.queue(&packets[sent..])?;
            self.kick()?;
            if sent == packets.len() {
                return Ok(sent);
            }
        }
        if sent == 0 { Err(LinkError::Full) } else { Ok(sent) }
    }
}

impl HostLink for XdpLink {
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

impl Receive for XdpReceiver {
    fn receive(&mut self, _: BorrowedFd<'_>, frames: &mut Vec<Packet>) -> Result<usize, ReceiveError> {
        let mut count = 0;
        while count < sys::MAX_BATCH {
            let Some(descriptor) = self.filled.pop() else { break };
            // The kernel keeps to what it was told; a descriptor outside of the memory is dropped for good.
            if let Some(bytes) = self.umem.copy_out(descriptor.addr, descriptor.len) {
                frames.push(Packet::from_frame(bytes));
                count += 1;
            }
            // Everything that is not in the ring of filled frames fits the other one.
            self.fill.push(descriptor.addr);
        }
        self.filled.publish();
        self.fill.publish();
        Ok(count)
    }
}

fn make_rings(fd: BorrowedFd<'_>, umem: &Arc<Umem>) -> io::Result<(XdpReceiver, XdpTransmitter)> {
    for name in
        [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING]
    {
        sys::set_option(fd, libc::SOL_XDP, name, &FRAMES)?;
    }
    let offsets = sys::xdp_offsets(fd)?;
    let mut fill = Ring::map(fd, &offsets.fr, FRAMES, libc::XDP_UMEM_PGOFF_FILL_RING)?;
    let done = Ring::map(fd, &offsets.cr, FRAMES, libc::XDP_UMEM_PGOFF_COMPLETION_RING)?;
    // Both constants are offsets below 2^33.
    let filled = Ring::map(fd, &offsets.rx, FRAMES, libc::XDP_PGOFF_RX_RING as u64)?;
    let queue = Ring::map(fd, &offsets.tx, FRAMES, libc::XDP_PGOFF_TX_RING as u64)?;
    let frame = |index: u32| u64::from(index) * FRAME_LEN as u64;
    for index in 0..FRAMES {
        fill.push(frame(index));
    }
    fill.publish();
    let free = (FRAMES..2 * FRAMES).map(frame).collect();
    let receiver = XdpReceiver { umem: Arc::clone(umem), filled, fill };
    Ok((receiver, XdpTransmitter { queue, done, free }))
}

/// Frames for each direction: two milliseconds of small ones at a million a second.
const FRAMES: u32 = 2048;

/// What the kernel keeps in front of a frame (`XDP_PACKET_HEADROOM`), and an Ethernet header with a tag.
const HEADROOM: usize = 256 + 18;
