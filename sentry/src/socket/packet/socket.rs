//! An `AF_PACKET` socket on the stack's packet sockets.

use std::sync::Arc;

use netstack::nic::NicInfo;
use netstack::options::RecvFlags;
use netstack::packet::AddressedTo;
use netstack::socket::{LinkAddress, PacketMode};
use netstack::wire::ethernet::{EtherType, MacAddr};
use netstack::{NicId, PacketSocket as StackSocket};
use sentry_abi::packet::{
    ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST,
    PACKET_OTHERHOST, PACKET_OUTGOING, SockAddrLl,
};
use sentry_abi::socket::{AF_PACKET, MsgFlags, TIOCOUTQ, Ucred};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::mm::UserAddr;
use crate::socket::NetNamespace;
use crate::socket::base::{SocketBase, SocketType};
use crate::socket::inet::{GuestSink, GuestSource, ToErrno};
use crate::socket::ops::{
    Destination, Family, RawAddr, Received, RecvRequest, SendRequest, ShutdownHow, Socket,
};
use crate::task::CurrentTask;
use crate::vfs::File;
use crate::wait::{Readiness, WaitQueue};

/// An `AF_PACKET` socket.
pub struct PacketSocket {
    base: SocketBase,
    namespace: Arc<NetNamespace>,
    socket: StackSocket,
}

impl PacketSocket {
    /// A socket for `protocol`, an EtherType in network order as `socket(2)` takes it.
    #[must_use]
    pub fn new(namespace: Arc<NetNamespace>, kind: SocketType, protocol: i32, owner: Ucred) -> Arc<Self> {
        let mode = if kind == SocketType::Raw { PacketMode::Raw } else { PacketMode::Cooked };
        let [high, low, ..] = protocol.to_le_bytes();
        let ether_type = EtherType(u16::from_be_bytes([high, low]));
        let socket = StackSocket::new(namespace.stack(), mode, ether_type);
        Arc::new(Self { base: SocketBase::new(AF_PACKET, kind, protocol, owner), namespace, socket })
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
        let mut addr = [0; 8];
        addr[..6].copy_from_slice(&address.mac.0);
        let ll = SockAddrLl {
            family: AF_PACKET,
            protocol: address.protocol.0.to_be_bytes(),
            ifindex: address.nic.map_or(0, |nic| nic.index().cast_signed()),
            hatype: nic.as_ref().map_or(0, hardware_type),
            pkttype: packet_type(address.addressed_to),
            halen: 6,
            addr,
        };
        RawAddr::from_slice(ll.as_bytes())
    }
}

/// The hardware type of a NIC (`ARPHRD_*`).
#[must_use]
pub(crate) fn hardware_type(nic: &NicInfo) -> u16 {
    match nic.medium {
        netstack::link::Medium::Ethernet(_) => ARPHRD_ETHER,
        netstack::link::Medium::Loopback => ARPHRD_LOOPBACK,
        netstack::link::Medium::Ip => ARPHRD_NONE,
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
        self.socket.try_send(&mut GuestSource(src), to).map_err(|e| e.to_errno())
    }

    fn try_recv(&self, dst: &mut dyn IoDst, request: RecvRequest) -> Result<Received, Errno> {
        if request.flags.contains(MsgFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        let flags = RecvFlags { peek: request.flags.contains(MsgFlags::PEEK) };
        let frame = self.socket.try_recv(&mut GuestSink(dst), flags).map_err(|e| e.to_errno())?;
        let mut received = Received { copied: frame.copied, len: frame.len, ..Received::default() };
        received.flags.set(MsgFlags::TRUNC, frame.copied < frame.len);
        if request.wants_address {
            received.from = self.encode(&frame.from);
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

/// `offsetof(struct sockaddr_ll, sll_addr)` plus a station address.
const MIN_LEN: usize = 12;
