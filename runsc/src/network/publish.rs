//! Ports of the host that lead into a sandbox behind a veth pair.
//!
//! A relay in this process rather than address translation: it works for the host's loopback, needs no filter tables
//! and is gone with the process. Connections and datagrams come to the sandbox from the host's end of the pair.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use netstack_usernet::{PortForward, Transport};

use crate::log;

/// The host's ends of the ports, bound and not served yet.
#[derive(Debug)]
pub(crate) struct Publisher(Vec<Port>);

#[derive(Debug)]
struct Port {
    transport: Transport,
    socket: OwnedFd,
    guest: SocketAddr,
}

impl Publisher {
    /// For `forwards` with their bound `sockets`, to the sandbox with address `guest`.
    pub(crate) fn new(forwards: &[PortForward], sockets: Vec<OwnedFd>, guest: IpAddr) -> Self {
        let ports = forwards.iter().zip(sockets).map(|(forward, socket)| Port {
            transport: forward.transport,
            socket,
            guest: SocketAddr::new(guest, forward.guest_port),
        });
        Self(ports.collect())
    }

    /// Serves the ports on threads that end with the process.
    pub(crate) fn start(self) {
        for Port { transport, socket, guest } in self.0 {
            spawn(move || match transport {
                Transport::Tcp => serve_connections(&TcpListener::from(socket), guest),
                Transport::Udp => serve_datagrams(&Arc::new(UdpSocket::from(socket)), guest),
            });
        }
    }
}

/// A thread that cannot be had costs one connection.
fn spawn(work: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().name("publish".to_owned()).stack_size(STACK_BYTES);
    if let Err(error) = builder.spawn(work) {
        log::warning(&format!("publish: no thread: {error}"));
    }
}

fn serve_connections(listener: &TcpListener, guest: SocketAddr) {
    let open = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                // Descriptors may be free again soon.
                log::warning(&format!("publish: accept: {error}"));
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        // A count of its own; nothing else is read along with it.
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let open = open.clone();
        spawn(move || {
            // A client of a closed port sees its connection end.
            let _ = carry(client, guest);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Carries one connection to its end, each direction to its own.
fn carry(client: TcpStream, guest: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&guest, CONNECT_LIMIT)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let upwards = thread::Builder::new().name("publish".to_owned()).stack_size(STACK_BYTES);
    let upwards = upwards.spawn(move || copy(&from, &to))?;
    copy(&server, &client);
    // A panic has said what it had to say on stderr.
    let _ = upwards.join();
    Ok(())
}

/// Copies until the end of the stream, and passes that on, too.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    if io::copy(&mut from, &mut to).is_err() {
        // Reset by one side: the other direction has nowhere to go either.
        let _ = from.shutdown(Shutdown::Both);
    }
    // It may be closed already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Each client has a socket of its own towards the guest, for as long as the guest answers.
fn serve_datagrams(socket: &Arc<UdpSocket>, guest: SocketAddr) {
    let clients: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut bytes = vec![0; DATAGRAM_MAX];
    loop {
        let (len, client) = match socket.recv_from(&mut bytes) {
            Ok(received) => received,
            Err(error) => {
                log::warning(&format!("publish: receive: {error}"));
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let Ok(mut known) = clients.lock() else { return };
        let upstream = match known.get(&client) {
            Some(upstream) => upstream.clone(),
            None if known.len() >= CLIENTS_MAX => continue,
            None => {
                let Ok(upstream) = towards(guest).map(Arc::new) else { continue };
                known.insert(client, upstream.clone());
                let (socket, clients, answers) = (socket.clone(), clients.clone(), upstream.clone());
                spawn(move || {
                    pass_answers(&answers, &socket, client);
                    if let Ok(mut known) = clients.lock() {
                        known.remove(&client);
                    }
                });
                upstream
            }
        };
        drop(known);
        // Lost, as datagrams may be.
        let _ = upstream.send(&bytes[..len]);
    }
}

fn towards(guest: SocketAddr) -> io::Result<UdpSocket> {
    let any = if guest.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(guest)?;
    socket.set_read_timeout(Some(IDLE))?;
    Ok(socket)
}

/// Until none has come for a while, or the guest's port is closed.
fn pass_answers(upstream: &UdpSocket, socket: &UdpSocket, client: SocketAddr) {
    let mut bytes = vec![0; DATAGRAM_MAX];
    while let Ok(len) = upstream.recv(&mut bytes) {
        // Lost, as datagrams may be.
        let _ = socket.send_to(&bytes[..len], client);
    }
}

/// The threads only copy.
const STACK_BYTES: usize = 256 << 10;
/// Connections of one port; more are closed at once.
const CONNECTIONS_MAX: usize = 1024;
/// Clients of one datagram port; others are not heard until one is forgotten.
const CLIENTS_MAX: usize = 256;
/// How long a datagram client is remembered without an answer (RFC 4787, REQ-5: two minutes at least).
const IDLE: Duration = Duration::from_secs(120);
/// The sandbox is one hop away.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The largest datagram of UDP.
const DATAGRAM_MAX: usize = 65_535;
