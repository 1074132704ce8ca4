//! Fetches a page over a tap, with a stack of its own, and writes it to standard output.
//!
//! ```text
//! ip tuntap add t0 mode tap && ip addr add 10.9.0.1/24 dev t0 && ip link set t0 up
//! python3 -m http.server --bind 10.9.0.1 8000 &
//! cargo run -p netstack-host-links --example http_get -- t0 10.9.0.2/24 http://10.9.0.1:8000/
//! ```
//!
//! A gateway as fourth argument leads to other networks, if the host forwards and translates for `t0`.

use std::error::Error;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::error::{RecvError, SendError};
use netstack::options::{Family, RecvFlags};
use netstack::route::Route;
use netstack::wait::Readiness;
use netstack::wire::ethernet::MacAddr;
use netstack::{IpCidr, Stack, TcpSocket};
use netstack_host_links::{HostLink, Pump, TapLink, TapOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (tap, own, url, gateway) = match &arguments[..] {
        [tap, own, url] => (tap, own, url, None),
        [tap, own, url, gateway] => (tap, own, url, Some(gateway.parse::<IpAddr>()?)),
        _ => return Err("usage: http_get TAP ADDRESS/LEN http://ADDRESS[:PORT]/PATH [GATEWAY]".into()),
    };
    let (host, path) = split_url(url).ok_or("the URL is http://ADDRESS[:PORT]/PATH")?;
    let server = host.parse().or_else(|_| host.parse().map(|address| SocketAddr::new(address, 80)))?;

    let link = TapLink::open(tap, TapOptions::tap(OWN_MAC))?;
    let stack = Stack::builder().build();
    let nic = stack.add_nic("eth0", Arc::<TapLink>::clone(&link))?;
    stack.add_address(nic, own.parse()?)?;
    if let Some(gateway) = gateway {
        let all = if gateway.is_ipv4() { IpCidr::DEFAULT_V4 } else { IpCidr::DEFAULT_V6 };
        stack.add_route(Route::via(all, gateway, nic))?;
    }
    let mut pump = Pump::new(stack.clone())?;
    pump.add(nic, link as Arc<dyn HostLink>);

    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    let page = fetch(&stack, &mut pump, server, request.as_bytes())?;
    let body =
        page.windows(4).position(|end| end == b"\r\n\r\n").ok_or("the answer has no end of headers")?;
    let status = page.split(|&byte| byte == b'\r').next().unwrap_or_default();
    eprintln!("{}", String::from_utf8_lossy(status));
    std::io::stdout().write_all(&page[body + 4..])?;
    Ok(())
}

/// Sends the request and returns all that comes back. Whenever a socket has nothing to do, the pump is turned.
fn fetch(
    stack: &Stack,
    pump: &mut Pump,
    server: SocketAddr,
    request: &[u8],
) -> Result<Vec<u8>, Box<dyn Error>> {
    let family = if server.is_ipv4() { Family::V4 } else { Family::V6 };
    let socket = TcpSocket::new(stack, family);
    socket.connect(server)?;
    let deadline = Instant::now() + PATIENCE;
    while !socket.readiness().intersects(Readiness::OUT | Readiness::ERR) {
        let left = deadline.checked_duration_since(Instant::now()).ok_or("no answer")?;
        pump.turn(Some(left))?;
    }
    let mut rest = request;
    while !rest.is_empty() {
        match socket.try_send(&mut rest) {
            Ok(_) => {}
            Err(SendError::WouldBlock) => drop(pump.turn(None)?),
            Err(error) => return Err(error.into()),
        }
    }
    let mut page = Vec::new();
    loop {
        match socket.try_recv(&mut page, RecvFlags::default()) {
            Ok(0) => return Ok(page),
            Ok(_) => {}
            Err(RecvError::WouldBlock) => drop(pump.turn(None)?),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Splits a URL into the server and the path.
fn split_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let path = if slash == rest.len() { "/" } else { &rest[slash..] };
    Some((&rest[..slash], path))
}

/// How long a handshake may take; the first second of a tap may be lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Our station behind the tap; any locally administered address does.
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
