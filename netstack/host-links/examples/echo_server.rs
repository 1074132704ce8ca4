//! A TCP echo server on a stack of its own: no socket of the host is involved.
//!
//! Behind a tap, as the station 10.9.0.2 that the host reaches through `t0`:
//!
//! ```text
//! ip tuntap add t0 mode tap && ip addr add 10.9.0.1/24 dev t0 && ip link set t0 up
//! cargo run -p netstack-host-links --example echo_server -- tap:t0 10.9.0.2/24 7 &
//! printf 'hello\n' | nc -q1 10.9.0.2 7
//! ```
//!
//! On an interface that has no address of the host's own, such as one end of a veth pair:
//!
//! ```text
//! ip link add v0 type veth peer name v1 && ip addr add 10.9.0.1/24 dev v0 && ip link set v0 up && ip link set v1 up
//! cargo run -p netstack-host-links --example echo_server -- packet:v1 10.9.0.2/24 7 &
//! printf 'hello\n' | nc -q1 10.9.0.2 7
//! ```
//!
//! One thread does everything: each turn of the pump waits for frames and carries them to the sockets, and then the
//! sockets are looked at.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use netstack::error::{RecvError, SendError};
use netstack::options::{Family, RecvFlags};
use netstack::wire::ethernet::MacAddr;
use netstack::{IpCidr, Stack, TcpSocket};
use netstack_host_links::{HostLink, PacketLink, PacketOptions, Pump, TapLink, TapOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, address, port] = &arguments[..] else {
        return Err("usage: echo_server tap:NAME|packet:NAME ADDRESS/LEN PORT".into());
    };
    let address: IpCidr = address.parse()?;
    let link: Arc<dyn HostLink> = match link.split_once(':') {
        Some(("tap", name)) => TapLink::open(name, TapOptions::tap(OWN_MAC))?,
        Some(("packet", name)) => PacketLink::open(name, PacketOptions::default())?,
        _ => return Err("the link is tap:NAME or packet:NAME".into()),
    };

    let stack = Stack::builder().build();
    let nic = stack.add_nic("eth0", Arc::<dyn HostLink>::clone(&link))?;
    stack.add_address(nic, address)?;
    let mut pump = Pump::new(stack.clone())?;
    pump.add(nic, link);

    let family = if address.address().is_ipv4() { Family::V4 } else { Family::V6 };
    let listener = TcpSocket::new(&stack, family);
    listener.bind(SocketAddr::new(address.address(), port.parse()?))?;
    listener.listen(128)?;
    let mut echoes: Vec<Echo> = Vec::new();
    loop {
        pump.turn(None)?;
        while let Ok((socket, peer)) = listener.try_accept() {
            println!("{peer} connected");
            echoes.push(Echo { socket, peer, pending: Vec::new() });
        }
        echoes.retain_mut(Echo::carry);
    }
}

/// One connection.
struct Echo {
    socket: TcpSocket,
    peer: SocketAddr,
    /// Received and not yet sent back.
    pending: Vec<u8>,
}

impl Echo {
    /// Sends back what has arrived, until the socket has no more or takes no more. False when the connection is over.
    fn carry(&mut self) -> bool {
        loop {
            if self.pending.is_empty() {
                match self.socket.try_recv(&mut self.pending, RecvFlags::default()) {
                    Ok(1..) => {}
                    Err(RecvError::WouldBlock) => return true,
                    Ok(0) => {
                        println!("{} closed", self.peer);
                        return false;
                    }
                    Err(error) => {
                        println!("{}: {error}", self.peer);
                        return false;
                    }
                }
            }
            match self.socket.try_send(&mut &self.pending[..]) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(SendError::WouldBlock) => return true,
                Err(error) => {
                    println!("{}: {error}", self.peer);
                    return false;
                }
            }
        }
    }
}

/// Our station behind a tap; any locally administered address does.
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
