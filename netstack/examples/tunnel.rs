//! A stack behind a link of one's own: IP packets travel encrypted in UDP datagrams of the host, as in WireGuard.
//!
//! ```text
//! key=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
//! cargo run --release -p netstack --example tunnel -- $key 127.0.0.1:5001 127.0.0.1:5002 10.8.0.1/24 serve &
//! cargo run --release -p netstack --example tunnel -- $key 127.0.0.1:5002 127.0.0.1:5001 10.8.0.2/24 ask 10.8.0.1 hello
//! ```
//!
//! Needs no privilege: no interface of the host is involved. It shows how to write a link ([`Tunnel`] implements
//! [`Link`]), how to feed a stack from a thread, and that sockets work over it like over any other. It is not WireGuard:
//! one key for both ends, given on the command line, and no handshake that would replace it.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use netstack::link::{Capabilities, Link, LinkError, Medium};
use netstack::net::{TcpListener, TcpStream};
use netstack::packet::Packet;
use netstack::{Driver, NicId, Stack};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [key, local, peer, own, task @ ..] = &arguments[..] else { return Err(USAGE.into()) };
    let key = parse_key(key).ok_or("the key is 64 hexadecimal digits")?;
    let socket = UdpSocket::bind(local.parse::<SocketAddr>()?)?;
    socket.connect(peer.parse::<SocketAddr>()?)?;

    let tunnel = Arc::new(Tunnel::new(socket, key)?);
    let stack = Stack::builder().build();
    let nic = stack.add_nic("tunnel", Arc::clone(&tunnel) as Arc<dyn Link>)?;
    stack.add_address(nic, own.parse()?)?;
    let _timers = Driver::start(&stack)?;
    let reader = stack.clone();
    thread::spawn(move || tunnel.read(&reader, nic));

    match task {
        [task] if task == "serve" => serve(&stack),
        [task, server, text] if task == "ask" => ask(&stack, server.parse()?, text),
        _ => Err(USAGE.into()),
    }
}

/// Sends back, in upper case, what each client says.
fn serve(stack: &Stack) -> Result<(), Box<dyn Error>> {
    for stream in TcpListener::bind(stack, ("0.0.0.0", PORT))?.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> std::io::Result<()> {
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            stream.write_all(text.to_uppercase().as_bytes())
        });
    }
    Ok(())
}

fn ask(stack: &Stack, server: IpAddr, text: &str) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(stack, (server, PORT))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

/// The link: whole IP packets, each sealed into one datagram `[number: 8 bytes][ciphertext and tag]`.
struct Tunnel {
    socket: UdpSocket,
    cipher: ChaCha20Poly1305,
    /// The number of the next datagram, which is its nonce: it must never repeat under one key.
    next_number: AtomicU64,
}

impl Tunnel {
    fn new(socket: UdpSocket, key: [u8; 32]) -> Result<Self, Box<dyn Error>> {
        // Both ends use one key, and a program may be started twice: the time separates the runs, the low bit the ends.
        let began = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        let side = u64::from(socket.local_addr()? < socket.peer_addr()?);
        let cipher = ChaCha20Poly1305::new(Key::from_slice(&key));
        Ok(Self { socket, cipher, next_number: AtomicU64::new(began & !1 | side) })
    }

    /// Delivers what arrives until the socket fails. What cannot be opened is somebody else's, and is ignored.
    fn read(&self, stack: &Stack, nic: NicId) {
        let mut window = ReplayWindow::default();
        let mut datagram = [0; 65_536];
        loop {
            let len = match self.socket.recv(&mut datagram) {
                Ok(len) => len,
                // An ICMP error: nobody listens at the other end yet.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return eprintln!("the tunnel ended: {error}"),
            };
            let Some((number, sealed)) = datagram[..len].split_first_chunk::<8>() else { continue };
            let Ok(packet) = self.cipher.decrypt(&nonce(*number), sealed) else { continue };
            // Looked up once the number is known to be genuine.
            if window.accept(u64::from_be_bytes(*number)) {
                stack.inject(nic, packet);
            }
        }
    }
}

impl Link for Tunnel {
    fn medium(&self) -> Medium {
        Medium::Ip
    }

    /// An Ethernet frame's 1500 bytes less IPv6 (40), UDP (8), number (8) and tag (16).
    fn mtu(&self) -> usize {
        1428
    }

    fn capabilities(&self) -> Capabilities {
        // Nobody damages a packet that could be opened, so its checksum need not be looked at again.
        Capabilities { rx_checksum_trusted: true, ..Capabilities::default() }
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        for packet in &*packets {
            // Relaxed: the numbers only have to differ. Each end counts on its own parity.
            let number = self.next_number.fetch_add(2, Ordering::Relaxed).to_be_bytes();
            let plain = packet.to_vec();
            let sealed = self.cipher.encrypt(&nonce(number), &plain[..]).map_err(|_| LinkError::TooLarge)?;
            // Lost if the host does not take it, as on any link.
            let _ = self.socket.send(&[&number[..], &sealed].concat());
        }
        Ok(packets.len())
    }
}

fn nonce(number: [u8; 8]) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[4..].copy_from_slice(&number);
    nonce
}

/// Which numbers have been seen, as in RFC 6479: those too far behind the newest count as seen.
#[derive(Default)]
struct ReplayWindow {
    newest: u64,
    /// Bit `n`: the number `2 * n` before the newest.
    seen: u128,
}

impl ReplayWindow {
    fn accept(&mut self, number: u64) -> bool {
        if number > self.newest {
            let steps = (number - self.newest) / 2;
            self.seen =
                u32::try_from(steps).ok().and_then(|steps| self.seen.checked_shl(steps)).unwrap_or(0) | 1;
            self.newest = number;
            return true;
        }
        let age = (self.newest - number) / 2;
        let bit = u32::try_from(age).ok().and_then(|age| 1_u128.checked_shl(age));
        let is_new = bit.is_some_and(|bit| self.seen & bit == 0);
        self.seen |= bit.unwrap_or(0);
        is_new
    }
}

fn parse_key(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let octets: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    octets?.try_into().ok()
}

const USAGE: &str = "usage: tunnel KEY LOCAL-UDP PEER-UDP OWN-ADDRESS/LEN serve|ask SERVER TEXT";
const PORT: u16 = 7;
