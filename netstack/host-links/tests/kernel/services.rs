//! Servers on a stack for programs to talk to.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netstack::Stack;
use netstack::net::{TcpListener, TcpStream, UdpSocket};

use crate::common::{LIMIT, Net};

/// What is open: echo over TCP and UDP, a greeting, and a web server. Stops when dropped.
pub(crate) struct Services {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) const ECHO: u16 = 7;
pub(crate) const GREETING: u16 = 22;
pub(crate) const WEB: u16 = 80;
/// Nobody is there.
pub(crate) const CLOSED: u16 = 81;
/// What the web server says.
pub(crate) const PAGE: &str = "<html><title>it works</title></html>\n";

impl Services {
    pub(crate) fn start(stack: &Stack) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (port, serve) in [(ECHO, echo as fn(TcpStream)), (GREETING, greet), (WEB, answer)] {
            let listener = TcpListener::bind(stack, any(port)).unwrap();
            listener.set_accept_timeout(Some(STEP)).unwrap();
            let is_over = Arc::clone(&is_over);
            threads.push(std::thread::spawn(move || accept_until(&is_over, &listener, serve)));
        }
        let socket = UdpSocket::bind(stack, any(ECHO)).unwrap();
        socket.set_read_timeout(Some(STEP)).unwrap();
        let over = Arc::clone(&is_over);
        threads.push(std::thread::spawn(move || echo_datagrams(&over, &socket)));
        Self { is_over, threads }
    }

    /// Stops, and waits until the stack holds nothing of what came.
    #[track_caller]
    pub(crate) fn finish(self, net: &Net) {
        drop(self);
        let end = Instant::now() + LIMIT;
        loop {
            let gauges = net.stack.gauges();
            // The timers of addresses and groups stay.
            let left: Vec<_> =
                gauges.entries().filter(|(name, value)| *value != 0 && *name != "timers").collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that failed has said so on its own.
            let _ = thread.join();
        }
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

fn accept_until(is_over: &AtomicBool, listener: &TcpListener, serve: fn(TcpStream)) {
    std::thread::scope(|scope| {
        while !is_over.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                    scope.spawn(move || serve(stream));
                }
                Err(error) if is_timeout(&error) => {}
                // The connection was reset before it was accepted.
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}"),
            }
        }
    });
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16_384];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn greet(mut stream: TcpStream) {
    // Scanners go away as they like.
    let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    let _ = stream.read(&mut [0; 1000]);
}

fn answer(mut stream: TcpStream) {
    let mut request: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => request.extend(&buffer[..count]),
            _ => return,
        }
    }
    let page = format!(
        "HTTP/1.0 200 OK\r\nServer: Apache\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{PAGE}",
        PAGE.len()
    );
    let _ = stream.write_all(page.as_bytes());
    // Whoever closes first has the TIME-WAIT.
    while let Ok(1..) = stream.read(&mut buffer) {}
}

fn echo_datagrams(is_over: &AtomicBool, socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    while !is_over.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            // Those who ask from port zero cannot be answered, those that are gone do not care.
            Ok((count, from)) => drop(socket.send_to(&buffer[..count], from)),
            Err(error) => assert!(
                is_timeout(&error)
                    || error.kind() == ErrorKind::ConnectionRefused
                    || error.kind() == ErrorKind::HostUnreachable,
                "{error}"
            ),
        }
    }
}

/// How long a server waits before it looks whether it should stop.
const STEP: Duration = Duration::from_millis(50);
