//! An `AF_PACKET` socket on the stack's packet sockets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use netstack::buffer::{Fault, Sink};
use netstack::link::Medium;
use netstack::nic::NicInfo;
use netstack::options::RecvFlags;
use netstack::packet::{AddressedTo, Checksum};
use netstack::socket::{LinkAddress, Offload, PacketMode, ReceivedFrame};
use netstack::wire::ethernet::{EtherType, MacAddr};
use netstack::{NicId, PacketSocket as StackSocket};
use parking_lot::Mutex;
use sentry_abi::packet::{
    ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, PACKET_AUXDATA, PACKET_BROADCAST, PACKET_HOST,
    PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING, PacketMreq, SockAddrLl, TP_STATUS_CSUM_VALID,
    TP_STATUS_CSUMNOTREADY, TP_STATUS_USER, TpacketAuxdata, TpacketReq3,
};
use sentry_abi::socket::{AF_PACKET, MsgFlags, SOL_PACKET, TIOCOUTQ, Ucred};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::kernel::{Clocks, Kernel};
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::socket::base::{SocketBase, SocketType};
use crate::socket::control::ControlMessage;
use crate::socket::inet::tag;
use crate::socket::inet::{GuestSink, GuestSource, Membership, ToErrno};
use crate::socket::ops::{
    Destination, Family, RawAddr, Received, RecvRequest, SendRequest, ShutdownHow, Socket,
};
use crate::socket::packet::membership::Memberships;
use crate::socket::packet::ring::{
    BlockRing, FrameRing, Ring, RingMapping, RingMemory, RingRequest, Shape, TransmitMode, TransmitRing,
    Version,
};
use crate::socket::packet::vnet_header::{self, FrameState, VnetHeader};
use crate::task::CurrentTask;
use crate::vfs::{File, Mappable};
use crate::wait::{Readiness, WaitQueue};

/// An `AF_PACKET` socket.
pub struct PacketSocket {
    base: SocketBase,
    namespace: Arc<NetNamespace>,
    socket: StackSocket,
    mode: PacketMode,
    wants_auxdata: AtomicBool,
    settings: Mutex<Settings>,
    /// For what must not keep it alive.
    own: Weak<Self>,
}

/// What the options set.
#[derive(Default)]
struct Settings {
    version: Version,
    reserve: u32,
    vnet_header: VnetHeader,
    memberships: Memberships,
    ring: Option<Ring>,
    transmit_ring: Option<Arc<TransmitRing>>,
    transmit_mode: TransmitMode,
    numbers: Numbers,
}

/// Values that are kept to be read again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers {
    /// `PACKET_TIMESTAMP`: which clock stamps frames; there is only one.
    pub timestamp: i32,
    /// `PACKET_COPY_THRESH`.
    pub copy_threshold: i32,
    /// `PACKET_ORIGDEV`.
    pub original_device: bool,
    /// `PACKET_QDISC_BYPASS`.
    pub bypass: bool,
}

impl Settings {
    fn has_ring(&self) -> bool {
        self.ring.is_some() || self.transmit_ring.is_some()
    }

    fn memories(&self) -> Vec<Arc<RingMemory>> {
        let receive = self.ring.as_ref().map(Ring::memory);
        let transmit = self.transmit_ring.as_ref().map(|ring| ring.memory());
        receive.into_iter().chain(transmit).cloned().collect()
    }
}

impl PacketSocket {
    /// A socket for `protocol`, an EtherType in network order as `socket(2)` takes it.
    #[must_use]
    pub fn new(namespace: Arc<NetNamespace>, kind: SocketType, protocol: i32, owner: Ucred) -> Arc<Self> {
        let mode = if kind == SocketType::Raw { PacketMode::Raw } else { PacketMode::Cooked };
        let [high, low, ..] = protocol.to_le_bytes();
        let ether_type = EtherType(u16::from_be_bytes([high, low]));
        let socket = StackSocket::new(namespace.stack(), mode, ether_type);
        Arc::new_cyclic(|own| Self {
            base: SocketBase::new(AF_PACKET, kind, protocol, owner),
            namespace,
            socket,
            mode,
            wants_auxdata: AtomicBool::new(false),
            settings: Mutex::default(),
            own: own.clone(),
        })
    }

    /// Whether `PACKET_AUXDATA` comes with each frame.
    #[must_use]
    pub fn wants_auxdata(&self) -> bool {
        self.wants_auxdata.load(Ordering::Relaxed)
    }

    /// Sets [`wants_auxdata`](Self::wants_auxdata).
    pub fn set_wants_auxdata(&self, on: bool) {
        self.wants_auxdata.store(on, Ordering::Relaxed);
    }

    /// `PACKET_VERSION`.
    #[must_use]
    pub fn version(&self) -> Version {
        self.settings.lock().version
    }

    /// Sets the layout of rings to come.
    ///
    /// # Errors
    /// `EBUSY` while there is a ring.
    pub fn set_version(&self, version: Version) -> Result<(), Errno> {
        self.change_layout(|settings| settings.version = version)
    }

    /// `PACKET_RESERVE`.
    #[must_use]
    pub fn reserve(&self) -> u32 {
        self.settings.lock().reserve
    }

    /// Sets how much room rings to come leave in front of frames.
    ///
    /// # Errors
    /// `EBUSY` while there is a ring.
    pub fn set_reserve(&self, bytes: u32) -> Result<(), Errno> {
        self.change_layout(|settings| settings.reserve = bytes)
    }

    /// `PACKET_VNET_HDR`.
    #[must_use]
    pub fn vnet_header(&self) -> VnetHeader {
        self.settings.lock().vnet_header
    }

    /// Sets whether frames come and go behind a header.
    ///
    /// # Errors
    /// `EINVAL` for a cooked socket, `EBUSY` while there is a ring.
    pub fn set_vnet_header(&self, header: VnetHeader) -> Result<(), Errno> {
        if self.mode != PacketMode::Raw {
            return Err(Errno::EINVAL);
        }
        self.change_layout(|settings| settings.vnet_header = header)
    }

    fn change_layout(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Errno> {
        let mut settings = self.settings.lock();
        if settings.has_ring() {
            return Err(Errno::EBUSY);
        }
        change(&mut settings);
        Ok(())
    }

    /// `PACKET_ADD_MEMBERSHIP` and `PACKET_DROP_MEMBERSHIP`.
    ///
    /// # Errors
    /// `ENODEV`, `EINVAL`, `ENOBUFS`.
    pub fn change_membership(&self, wanted: PacketMreq, change: Membership) -> Result<(), Errno> {
        let nic = u32::try_from(wanted.ifindex).ok().and_then(NicId::from_index);
        let nic = nic.and_then(|nic| self.namespace.stack().nic(nic)).ok_or(Errno::ENODEV)?;
        let mut settings = self.settings.lock();
        match change {
            Membership::Join => settings.memberships.add(wanted, station_len(nic.medium)),
            Membership::Leave => {
                settings.memberships.remove(wanted);
                Ok(())
            }
        }
    }

    /// Makes a ring for received frames, or with sizes of zero takes it away (`PACKET_RX_RING`).
    ///
    /// # Errors
    /// `EBUSY` while there is one, or it is mapped; `EINVAL`; `ENOMEM`.
    pub fn set_ring(&self, kernel: &Arc<Kernel>, sizes: TpacketReq3) -> Result<(), Errno> {
        let mut settings = self.settings.lock();
        if settings.memories().iter().any(|memory| memory.is_mapped()) {
            return Err(Errno::EBUSY);
        }
        if sizes.block_nr == 0 {
            if sizes.frame_nr != 0 {
                return Err(Errno::EINVAL);
            }
            settings.ring = None;
            self.socket.set_sink(None);
            return Ok(());
        }
        if settings.ring.is_some() {
            return Err(Errno::EBUSY);
        }
        let request = RingRequest { sizes, version: settings.version, reserve: settings.reserve };
        let shape = Shape {
            version: settings.version,
            reserve: settings.reserve,
            vnet_header: settings.vnet_header,
            mode: self.mode,
            namespace: self.namespace.clone(),
            clocks: Clocks::default(),
        };
        let ring = match settings.version {
            Version::V1 | Version::V2 => Ring::Frames(FrameRing::new(kernel.frames(), &request, shape)?),
            Version::V3 => {
                let ring = BlockRing::new(kernel, kernel.frames(), &request, shape)?;
                ring.start(&self.own);
                Ring::Blocks(ring)
            }
        };
        self.socket.set_sink(Some(ring.sink()));
        settings.ring = Some(ring);
        Ok(())
    }

    /// Makes a ring for frames to send, or with sizes of zero takes it away (`PACKET_TX_RING`).
    ///
    /// # Errors
    /// As [`set_ring`](Self::set_ring).
    pub fn set_transmit_ring(&self, kernel: &Arc<Kernel>, sizes: TpacketReq3) -> Result<(), Errno> {
        let mut settings = self.settings.lock();
        if settings.memories().iter().any(|memory| memory.is_mapped()) {
            return Err(Errno::EBUSY);
        }
        if sizes.block_nr == 0 {
            settings.transmit_ring = None;
            return if sizes.frame_nr == 0 { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if settings.transmit_ring.is_some() {
            return Err(Errno::EBUSY);
        }
        // PACKET_RESERVE is about received frames, and still bounds the slots (packet_set_ring).
        let request = RingRequest { sizes, version: settings.version, reserve: settings.reserve };
        let mode = TransmitMode { vnet_header: settings.vnet_header, ..settings.transmit_mode };
        let ring = TransmitRing::new(kernel.frames(), &request, self.mode, mode)?;
        settings.transmit_ring = Some(ring);
        Ok(())
    }

    /// `PACKET_LOSS`: whether slots that make no sense are passed over.
    #[must_use]
    pub fn skips_nonsense(&self) -> bool {
        self.settings.lock().transmit_mode.skips_nonsense
    }

    /// Sets [`skips_nonsense`](Self::skips_nonsense).
    ///
    /// # Errors
    /// `EBUSY` while there is a ring.
    pub fn set_skips_nonsense(&self, on: bool) -> Result<(), Errno> {
        self.change_layout(|settings| settings.transmit_mode.skips_nonsense = on)
    }

    /// `PACKET_TX_HAS_OFF`: whether slots say where their frames are.
    #[must_use]
    pub fn has_offsets(&self) -> bool {
        self.settings.lock().transmit_mode.has_offsets
    }

    /// Sets [`has_offsets`](Self::has_offsets); while there is a ring, nothing happens.
    pub fn set_has_offsets(&self, on: bool) {
        // Linux says nothing either.
        let _ = self.change_layout(|settings| settings.transmit_mode.has_offsets = on);
    }

    /// What was set to be read again.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.settings.lock().numbers
    }

    /// Changes [`numbers`](Self::numbers).
    pub fn change_numbers(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.settings.lock().numbers);
    }

    fn send_ring(&self, ring: &TransmitRing, to: Option<LinkAddress>) -> Result<usize, Errno> {
        let nic = to.and_then(|to| to.nic).or(self.socket.local().nic).ok_or(Errno::ENXIO)?;
        let nic = self.namespace.stack().nic(nic).ok_or(Errno::ENXIO)?;
        if !nic.is_up {
            return Err(Errno::ENETDOWN);
        }
        let link = if self.mode == PacketMode::Raw { LINK_HEADER } else { 0 };
        let most = nic.mtu.saturating_add(link + VLAN_TAG);
        ring.send(most, |frame, offload| {
            self.socket.try_send_with(&mut &frame[..], to, offload).map_err(|e| e.to_errno())
        })
    }

    /// The ring for `mmap(2)`.
    ///
    /// # Errors
    /// `EINVAL` without one.
    pub fn mappable(&self) -> Result<Arc<dyn Mappable>, Errno> {
        let settings = self.settings.lock();
        let rings = settings.memories();
        if rings.is_empty() { Err(Errno::EINVAL) } else { Ok(RingMapping::new(rings)) }
    }

    /// How often the ring was full since it was last asked; `None` unless it has blocks.
    pub fn take_freezes(&self) -> Option<u32> {
        match &self.settings.lock().ring {
            Some(Ring::Blocks(ring)) => Some(ring.take_freezes()),
            Some(Ring::Frames(_)) | None => None,
        }
    }

    /// The stack's socket, for options.
    #[must_use]
    pub fn stack_socket(&self) -> &StackSocket {
        &self.socket
    }

    fn decode(&self, address: &[u8]) -> Result<LinkAddress, Errno> {
        // The address may be shorter than the struct as long as the station is complete (packet_sendmsg).
        if address.len() < MIN_LEN {
            return Err(Errno::EINVAL);
        }
        let mut full = [0; size_of::<SockAddrLl>()];
        let len = address.len().min(full.len());
        full[..len].copy_from_slice(&address[..len]);
        let ll = SockAddrLl::read_from_bytes(&full).map_err(|_| Errno::EINVAL)?;
        if ll.family != AF_PACKET {
            return Err(Errno::EINVAL);
        }
        let nic = NicId::from_index(u32::try_from(ll.ifindex).map_err(|_| Errno::ENODEV)?);
        if nic.is_some_and(|nic| self.namespace.stack().nic(nic).is_none()) {
            return Err(Errno::ENODEV);
        }
        let mut mac = [0; 6];
        mac.copy_from_slice(&ll.addr[..6]);
        Ok(LinkAddress {
            nic,
            protocol: EtherType(u16::from_be_bytes(ll.protocol)),
            mac: MacAddr(mac),
            addressed_to: AddressedTo::default(),
        })
    }

    fn encode(&self, address: &LinkAddress) -> RawAddr {
        let nic = address.nic.and_then(|nic| self.namespace.stack().nic(nic));
        RawAddr::from_slice(address_of(address, nic.as_ref().map_or(0, hardware_type)).as_bytes())
    }
}

/// An address as guests see it.
pub(super) fn address_of(address: &LinkAddress, hatype: u16) -> SockAddrLl {
    let mut addr = [0; 8];
    addr[..6].copy_from_slice(&address.mac.0);
    SockAddrLl {
        family: AF_PACKET,
        protocol: address.protocol.0.to_be_bytes(),
        ifindex: address.nic.map_or(0, |nic| nic.index().cast_signed()),
        hatype,
        pkttype: packet_type(address.addressed_to),
        halen: if hatype == ARPHRD_NONE { 0 } else { 6 },
        addr,
    }
}

/// `PACKET_AUXDATA` of a frame.
fn auxdata(frame: &ReceivedFrame, mode: PacketMode) -> TpacketAuxdata {
    let status = match frame.checksum {
        Checksum::Partial { .. } => TP_STATUS_CSUMNOTREADY,
        Checksum::Verified if frame.from.addressed_to != AddressedTo::Outgoing => TP_STATUS_CSUM_VALID,
        Checksum::Verified | Checksum::Plain => 0,
    };
    let net = if mode == PacketMode::Raw { frame.link_len } else { 0 };
    TpacketAuxdata {
        status: TP_STATUS_USER | status,
        len: u32::try_from(frame.original_len).unwrap_or(u32::MAX),
        snaplen: u32::try_from(frame.len).unwrap_or(u32::MAX),
        mac: 0,
        net: u16::try_from(net).unwrap_or(0),
        vlan_tci: 0,
        vlan_tpid: 0,
    }
}

/// What the header in front of a frame says.
fn take_header(src: &mut dyn IoSrc, header: VnetHeader) -> Result<Offload, Errno> {
    if header.is_empty() {
        return Ok(Offload::default());
    }
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..header.len()];
    let frame_len = src.remaining().checked_sub(header.len()).ok_or(Errno::EINVAL)?;
    src.take(bytes)?;
    vnet_header::decode(bytes, frame_len)
}

fn put_header(frame: &ReceivedFrame, header: VnetHeader, out: &mut dyn Sink) -> Result<(), Fault> {
    let ReceivedFrame { checksum, gso, headers_len, has_cwr, from, .. } = *frame;
    let addressed_to = from.addressed_to;
    let described = vnet_header::encode(&FrameState { checksum, gso, headers_len, has_cwr, addressed_to });
    out.write_from(described.as_bytes())?;
    // The number of buffers.
    out.write_from(&[0; 2][..header.len() - vnet_header::PLAIN_LEN])
}

/// How long the addresses of stations are.
fn station_len(medium: Medium) -> u16 {
    if medium == Medium::Ip { 0 } else { 6 }
}

/// The hardware type of a NIC (`ARPHRD_*`).
#[must_use]
pub(crate) fn hardware_type(nic: &NicInfo) -> u16 {
    hardware_of(nic.medium)
}

/// The hardware type of what links carry.
pub(super) fn hardware_of(medium: Medium) -> u16 {
    match medium {
        Medium::Ethernet(_) => ARPHRD_ETHER,
        Medium::Loopback => ARPHRD_LOOPBACK,
        Medium::Ip => ARPHRD_NONE,
    }
}

fn packet_type(to: AddressedTo) -> u8 {
    match to {
        AddressedTo::Host => PACKET_HOST,
        AddressedTo::Broadcast => PACKET_BROADCAST,
        AddressedTo::Multicast => PACKET_MULTICAST,
        AddressedTo::OtherHost => PACKET_OTHERHOST,
        AddressedTo::Outgoing => PACKET_OUTGOING,
    }
}

impl Socket for PacketSocket {
    fn base(&self) -> &SocketBase {
        &self.base
    }

    fn family(&self) -> Family<'_> {
        Family::Packet(self)
    }

    fn bind(&self, _: &mut CurrentTask, address: &[u8]) -> Result<(), Errno> {
        if address.len() < size_of::<SockAddrLl>() {
            return Err(Errno::EINVAL);
        }
        let to = self.decode(address)?;
        // packet_bind: a protocol of zero keeps the present one.
        let protocol = if to.protocol.0 == 0 { self.socket.local().protocol } else { to.protocol };
        self.socket.bind(to.nic, protocol).map_err(|e| e.to_errno())
    }

    fn connect(&self, _: &mut CurrentTask, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn local_address(&self) -> Result<RawAddr, Errno> {
        Ok(self.encode(&self.socket.local()))
    }

    fn peer_address(&self) -> Result<RawAddr, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn try_send(&self, src: &mut dyn IoSrc, request: &SendRequest<'_>) -> Result<usize, Errno> {
        let to = match &request.to {
            Destination::Address(address) => Some(self.decode(address)?),
            Destination::Default | Destination::Socket(_) => None,
        };
        let (ring, header) = {
            let settings = self.settings.lock();
            (settings.transmit_ring.clone(), settings.vnet_header)
        };
        if let Some(ring) = ring {
            return self.send_ring(&ring, to);
        }
        let offload = take_header(src, header)?;
        let sent = self.socket.try_send_with(&mut GuestSource(src), to, offload);
        sent.map(|len| len + header.len()).map_err(|e| e.to_errno())
    }

    fn try_recv(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        if request.flags.contains(MsgFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        let flags = RecvFlags { peek: request.flags.contains(MsgFlags::PEEK), skip: None };
        let header = self.vnet_header();
        let mut has_room = true;
        let mut lead = |frame: &ReceivedFrame, out: &mut dyn Sink| {
            has_room = out.room() >= header.len();
            if has_room && !header.is_empty() { put_header(frame, header, out) } else { Ok(()) }
        };
        let frame = self.socket.try_recv_behind(&mut GuestSink(dst), flags, &mut lead);
        let frame = frame.map_err(|e| e.to_errno())?;
        if !has_room {
            return Err(Errno::EINVAL);
        }
        let (copied, len) = (frame.copied + header.len(), frame.len + header.len());
        let mut received = Received { copied, len, ..Received::default() };
        received.flags.set(MsgFlags::TRUNC, frame.copied < frame.len);
        if request.wants_address {
            received.from = self.encode(&frame.from);
        }
        if request.wants_control {
            tag::describe(&self.base, (frame.mark, frame.priority), &mut received.control);
        }
        if request.wants_control && self.wants_auxdata() {
            let auxdata = auxdata(&frame, self.mode);
            received.control.push(ControlMessage::value(SOL_PACKET, PACKET_AUXDATA, &auxdata));
        }
        Ok(received)
    }

    fn shutdown(&self, _: ShutdownHow) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        let value: i32 = match request {
            // Frames leave at once: nothing waits in the socket.
            TIOCOUTQ => 0,
            _ => return Err(Errno::ENOTTY.into()),
        };
        task.mm().write_obj(UserAddr(arg), &value)?;
        Ok(0)
    }

    fn take_error(&self) -> Option<Errno> {
        self.socket.take_error().map(|e| e.to_errno())
    }

    fn readiness(&self) -> Readiness {
        self.socket.readiness()
    }

    fn wait_queue(&self) -> &WaitQueue {
        self.socket.wait_queue()
    }

    fn close(&self) {}
}

/// Bytes of an Ethernet header, and of the tag that may be in it beyond the MTU.
const LINK_HEADER: u32 = 14;
const VLAN_TAG: u32 = 4;
/// `offsetof(struct sockaddr_ll, sll_addr)` plus a station address.
const MIN_LEN: usize = 12;
