//! AF_PACKET: frames of an interface of the host through a packet socket (packet(7)).

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
use crate::transmit::{self, Failure, Headers};
use crate::vnet_header;

/// A packet socket that is bound to an interface.
///
/// The interface should have no addresses of the host's own, or the host's stack answers the same peers.
#[derive(Debug)]
pub struct PacketLink {
    fd: OwnedFd,
    params: PacketLinkParams,
    receiver: Mutex<Receiver>,
}

/// What a link has to know about a packet socket that somebody else opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketLinkParams {
    /// The station address that the stack uses.
    pub mac: MacAddr,
    /// The largest IP packet that the interface carries.
    pub mtu: usize,
    /// Whether `PACKET_VNET_HDR` is set on the socket. If not, set `PACKET_AUXDATA`: without either, super-segments
    /// from a peer on the same host arrive with wrong checksums and are dropped.
    pub vnet_headers: VnetHeaders,
    /// Whether the host cuts up UDP super-segments (Linux 6.2 and newer, with virtio-net headers).
    pub udp_segmentation: bool,
}

/// How to open a packet socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketOptions {
    /// Which frames to receive.
    pub filter: Filter,
    /// Whether to ask for virtio-net headers; very old hosts have none all the same.
    pub vnet_headers: VnetHeaders,
    /// How frames get to the device.
    pub transmit: Transmit,
}

/// How sent frames get to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit {
    /// Through the interface's queue discipline, if it has one.
    Queued,
    /// Past it (`PACKET_QDISC_BYPASS`): what the device has no room for is lost at once.
    Direct,
}

/// The station's own frames, with virtio-net headers.
impl Default for PacketOptions {
    fn default() -> Self {
        let (filter, vnet_headers) = (Filter::Own, VnetHeaders::Present);
        Self { filter, vnet_headers, transmit: Transmit::Queued }
    }
}

/// Which frames the interface shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Those to the interface's own address, to groups and to everybody.
    Own,
    /// All (`PACKET_MR_PROMISC`): needed if the stack uses another station address.
    Promiscuous,
}

impl PacketLink {
    /// Opens a packet socket on an interface of the calling thread's network namespace. Needs `CAP_NET_RAW` in it.
    pub fn open(interface: &str, options: PacketOptions) -> Result<Arc<Self>, OpenError> {
        let device = Device::query(interface)?;
        let mac = device.mac.ok_or_else(|| OpenError::NotEthernet(interface.to_owned()))?;
        // Protocol 0: nothing is received until the bind, so that no frame of another interface slips in.
        let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0)
            .map_err(OpenError::host(interface, "socket"))?;
        let vnet_headers = set_options(fd.as_fd(), options.vnet_headers);
        if options.transmit == Transmit::Direct {
            sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)
                .map_err(OpenError::host(interface, "PACKET_QDISC_BYPASS"))?;
        }
        if options.filter == Filter::Promiscuous {
            make_promiscuous(fd.as_fd(), device.index)
                .map_err(OpenError::host(interface, "PACKET_ADD_MEMBERSHIP"))?;
        }
        sys::bind_packet(fd.as_fd(), device.index).map_err(OpenError::host(interface, "bind"))?;
        let udp_segmentation = vnet_headers == VnetHeaders::Present && sys::kernel_is_at_least(6, 2);
        Ok(Self::from_fd(fd, PacketLinkParams { mac, mtu: device.mtu, vnet_headers, udp_segmentation }))
    }

    /// Opens `count` sockets between which the kernel divides the flows that arrive, by their hash (`PACKET_FANOUT`), so
    /// that a thread each can read them.
    pub fn open_queues(
        interface: &str,
        options: PacketOptions,
        count: usize,
    ) -> Result<Vec<Arc<Self>>, OpenError> {
        let mut queues: Vec<Arc<Self>> = Vec::with_capacity(count);
        for _ in 0..count {
            let link = Self::open(interface, options)?;
            // The first one starts a group with a number of the kernel's choice, which the others join.
            let join = match queues.first() {
                None => join_fanout(link.fd.as_fd(), libc::PACKET_FANOUT_FLAG_UNIQUEID, 0),
                Some(first) => sys::get_words(first.fd.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT)
                    .and_then(|[group]| join_fanout(link.fd.as_fd(), 0, group)),
            };
            join.map_err(OpenError::host(interface, "PACKET_FANOUT"))?;
            queues.push(link);
        }
        Ok(queues)
    }

    /// Makes a link of a bound packet socket (`SOCK_RAW`). Makes no system call.
    pub fn from_fd(fd: OwnedFd, params: PacketLinkParams) -> Arc<Self> {
        let receiver = Receiver::new(Mechanism::PacketSocket, params.vnet_headers);
        Arc::new(Self { fd, params, receiver: Mutex::new(receiver) })
    }

    /// Sends at most [`sys::MAX_BATCH`] packets with one call.
    fn send_some(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        packets.iter_mut().for_each(transmit::limit_pieces);
        let mut headers = Headers::new();
        if self.params.vnet_headers == VnetHeaders::Present {
            headers.extend(packets.iter().map(vnet_header::encode));
        }
        let mut pieces: SmallVec<[IoSlice<'_>; 4 * sys::MAX_BATCH]> = SmallVec::new();
        let mut ends: SmallVec<[usize; sys::MAX_BATCH]> = SmallVec::new();
        for (index, packet) in packets.iter().enumerate() {
            transmit::gather(packet, headers.get(index), &mut pieces);
            ends.push(pieces.len());
        }
        for _ in 0..transmit::MAX_RETRIES {
            let error = match sys::sendmmsg(self.fd.as_fd(), &pieces, &ends) {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            match transmit::classify(&error) {
                Failure::Busy if transmit::wait_for_room(self.fd.as_fd()) => {}
                Failure::Busy => break,
                Failure::Final(error) => return Err(error),
            }
        }
        Err(LinkError::Full)
    }
}

impl Link for PacketLink {
    fn medium(&self) -> Medium {
        Medium::Ethernet(self.params.mac)
    }

    fn mtu(&self) -> usize {
        self.params.mtu
    }

    fn capabilities(&self) -> Capabilities {
        transmit::capabilities(self.params.vnet_headers, self.params.udp_segmentation)
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let mut sent = 0;
        while sent < packets.len() {
            let end = packets.len().min(sent + sys::MAX_BATCH);
            match self.send_some(&mut packets[sent..end]) {
                Ok(count) => sent += count,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }
}

impl HostLink for PacketLink {
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

/// Has the frames for the interface divided between the sockets of a group; see packet(7).
fn join_fanout(fd: BorrowedFd<'_>, flags: libc::c_uint, group: u32) -> std::io::Result<()> {
    // The group in the lower half, the way to divide and its flags in the upper one.
    let value = (libc::PACKET_FANOUT_HASH | flags) << 16 | (group & 0xffff);
    sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &value)
}

/// Sets what helps and is not needed; says whether frames will have virtio-net headers.
fn set_options(fd: BorrowedFd<'_>, wanted: VnetHeaders) -> VnetHeaders {
    let set = |level, name, value: libc::c_int| sys::set_option(fd, level, name, &value).is_ok();
    // Since Linux 4.20; before, the receiver sorts our own frames out.
    set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1);
    for (forced, capped) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        if !set(libc::SOL_SOCKET, forced, BUFFER_BYTES) {
            set(libc::SOL_SOCKET, capped, BUFFER_BYTES);
        }
    }
    if wanted == VnetHeaders::Present && set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1) {
        return VnetHeaders::Present;
    }
    set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1);
    VnetHeaders::Absent
}

pub(crate) fn make_promiscuous(fd: BorrowedFd<'_>, ifindex: u32) -> std::io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: libc::c_int::try_from(ifindex).map_err(|_| std::io::ErrorKind::NotFound)?,
        // PACKET_MR_PROMISC is 1 and fits.
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    sys::set_option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Room for what arrives while the reader is busy: a full window of a fast stream, at the kernel's true size.
const BUFFER_BYTES: libc::c_int = 8 << 20;
