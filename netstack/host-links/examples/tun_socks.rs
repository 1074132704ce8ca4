//! Sends everything that enters a tun device through a SOCKS5 proxy (RFC 1928), whatever program it comes from.
//!
//! ```text
//! ip tuntap add t0 mode tun && ip addr add 198.18.0.1/15 dev t0 && ip link set t0 up
//! ssh -N -D 1080 somewhere &
//! cargo run --release -p netstack-host-links --example tun_socks -- t0 127.0.0.1:1080 &
//! ip route add 203.0.113.0/24 dev t0
//! ```
//!
//! A connection is accepted once the proxy has reached its destination, and refused if the proxy could not: programs see
//! the outcome that they would see without a proxy. Echo requests are answered here; datagrams are rejected, because few
//! proxies carry them.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netstack::Stack;
use netstack::forward::{ForwardOptions, Forwarder, Request, TcpRequest, Unreachable};
use netstack::net::TcpStream;
use netstack::wait::{Readiness, block_until};
use netstack_host_links::{HostLink, Pump, Reader, TapLink, TapOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tun, proxy] = &arguments[..] else {
        return Err("usage: tun_socks TUN PROXY-ADDRESS:PORT".into());
    };
    let proxy: SocketAddr = proxy.parse()?;

    let link = TapLink::open(tun, TapOptions::tun())?;
    let stack = Stack::builder().build();
    let nic = stack.add_nic("tun0", Arc::<TapLink>::clone(&link))?;
    // Any addresses do: they are the far end of a point-to-point link, and everything is routed back through it.
    stack.add_address(nic, "198.18.255.254/0".parse()?)?;
    stack.add_address(nic, "fd5a:50c5::1/0".parse()?)?;
    let forwarder = Forwarder::new(&stack, nic, ForwardOptions::default())?;
    let mut pump = Pump::new(stack)?;
    pump.add(nic, link as Arc<dyn HostLink>);
    let _reader = Reader::spawn(pump)?;

    loop {
        let request = block_until(forwarder.wait_queue(), Readiness::IN, None, || forwarder.next());
        match request.ok_or("the forwarder ended")? {
            Request::Tcp(request) => {
                thread::Builder::new().name("flow".into()).spawn(move || {
                    let flow = format!("{} -> {}", request.from(), request.to());
                    match carry(request, proxy) {
                        Ok((up, down)) => println!("{flow}: {up} bytes up, {down} down"),
                        Err(error) => eprintln!("{flow}: {error}"),
                    }
                })?;
            }
            Request::Udp(request) => request.reject(Unreachable::Port),
            Request::Echo(request) => request.reply(),
        }
    }
}

/// Carries one connection until both directions have ended; how many bytes went each way.
fn carry(request: TcpRequest, proxy: SocketAddr) -> io::Result<(u64, u64)> {
    let far = match connect_through(proxy, request.to()) {
        Ok(far) => far,
        Err(error) => {
            request.refuse();
            return Err(error);
        }
    };
    let near = TcpStream::from_socket(request.accept().map_err(io::Error::other)?);
    thread::scope(|scope| {
        let up = scope.spawn(|| {
            let count = io::copy(&mut &near, &mut &far);
            far.shutdown(Shutdown::Write).ok();
            count
        });
        let down = io::copy(&mut &far, &mut &near);
        near.shutdown(Shutdown::Write).ok();
        let up = up.join().map_err(|_| io::Error::other("the other direction panicked"))?;
        Ok((up?, down?))
    })
}

/// Asks the proxy for a connection (RFC 1928 sections 3 to 6), without authentication.
fn connect_through(proxy: SocketAddr, destination: SocketAddr) -> io::Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect_timeout(&proxy, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[VERSION, 1, NO_AUTHENTICATION])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    if chosen != [VERSION, NO_AUTHENTICATION] {
        return Err(io::Error::other("the proxy wants authentication"));
    }
    let mut request = vec![VERSION, CONNECT, 0];
    match destination.ip() {
        IpAddr::V4(address) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        IpAddr::V6(address) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
    }
    request.extend(destination.port().to_be_bytes());
    stream.write_all(&request)?;

    let mut reply = [0; 4];
    stream.read_exact(&mut reply)?;
    let [_, status, _, kind] = reply;
    if status != 0 {
        return Err(io::Error::other(format!("the proxy answered with status {status}")));
    }
    // The address it uses, and the port.
    let rest = match kind {
        IPV4 => 4 + 2,
        IPV6 => 16 + 2,
        _ => return Err(io::Error::other("the proxy's answer has an unknown kind of address")),
    };
    stream.read_exact(&mut [0; 18][..rest])?;
    stream.set_read_timeout(None)?;
    Ok(stream)
}

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const IPV6: u8 = 4;
/// How long the proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
