//! A whole stack with sockets of every kind under arbitrary frames.

use std::time::Duration;

use netstack::options::{Family, RecvFlags};
use netstack::{PingSocket, RawSocket, TcpSocket};

use crate::input::Input;
use crate::packets::{PEER_V4, Subject};

/// Feeds a stack with frames.
pub fn stack(data: &[u8]) {
    let mut input = Input::new(data);
    let subject = Subject::new();
    let stack = &subject.stack;
    let listener = subject.tcp(80);
    let udp = subject.udp(53);
    let raw = RawSocket::new(stack, Family::V4, 1);
    let ping = PingSocket::new(stack, Family::V4);
    let client = TcpSocket::new(stack, Family::V4);
    client.connect((PEER_V4, 80).into()).expect("there is a route");
    let mut accepted: Vec<TcpSocket> = Vec::new();
    while !input.is_empty() {
        match input.u8() % 8 {
            0..=4 => subject.inject_next(&mut input),
            5 => stack.advance_to(stack.now() + Duration::from_millis(u64::from(input.u16()) * 2)),
            6 => accepted.extend(listener.try_accept().map(|(socket, _)| socket)),
            _ => {
                let mut sink = Vec::new();
                let _ = udp.try_recv(&mut sink, RecvFlags::default());
                let _ = raw.try_recv(&mut sink, RecvFlags::default());
                for socket in accepted.iter().chain([&client]) {
                    let _ = socket.try_send(&mut &b"answer"[..]);
                    let _ = socket.try_recv(&mut sink, RecvFlags::default());
                }
                if input.bool() {
                    accepted.pop();
                }
            }
        }
        subject.link.take();
        let gauges = stack.gauges();
        assert!(gauges.tcp_accept_queue <= 5 && gauges.tcp_half_open <= 5, "{gauges:?}");
        assert!(gauges.reassembly_bytes <= 2 * (4 << 20) + (128 << 10), "{gauges:?}");
    }
    drop((listener, udp, raw, ping, client, accepted));
    // Longer than every timer of an orphan.
    stack.advance_to(stack.now() + Duration::from_secs(2 * 3600));
    subject.link.take();
    let gauges = stack.gauges();
    let left: Vec<_> = gauges.entries().filter(|(name, value)| *value != 0 && *name != "timers").collect();
    assert!(left.is_empty(), "{left:?}");
}
