//! Every kind of link, read by a thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use crate::common::{KERNEL, LIMIT, Net, STACK, Way, accept, block, family, receive, send_all};
use crate::require_net;
use netstack::error::{RecvError, SocketError};
use netstack::options::{RecvFlags, SendMeta, Shutdown};
use netstack::wait::Readiness;

/// Bytes in which a shift, a swap or a repetition shows.
fn pattern(len: usize) -> Vec<u8> {
    // Four different bytes a step, from a generator with a period of 2^32.
    let mut state = 1u32;
    let mut step = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()
    };
    std::iter::repeat_with(&mut step).flatten().take(len).collect()
}

fn kernel_stream(net: &Net, to: SocketAddr) -> TcpStream {
    let stream = net.kernel.inside(|| TcpStream::connect_timeout(&to, LIMIT)).unwrap();
    limit(&stream);
    stream
}

fn limit(stream: &TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
}

/// Sends from each end to the other at once, half-closes, and compares.
fn exchange(net: &Net, family: usize, len: usize) {
    let (listener, local) = net.listen(STACK[family]);
    let data = pattern(len);
    let mut theirs = kernel_stream(net, local);
    let ours = accept(&listener);
    std::thread::scope(|scope| {
        let (mut writer, data) = (theirs.try_clone().unwrap(), &data);
        scope.spawn(|| send_all(&ours, data));
        scope.spawn(move || {
            writer.write_all(data).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let reader = scope.spawn(|| {
            let mut received = vec![0; data.len()];
            theirs.read_exact(&mut received).unwrap();
            received
        });
        let mut received = Vec::new();
        loop {
            let piece = receive(&ours);
            if piece.is_empty() {
                break;
            }
            received.extend(piece);
        }
        assert!(received == *data, "{} of {} bytes came, or other ones", received.len(), data.len());
        assert!(reader.join().unwrap() == *data, "the kernel received other bytes");
    });
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

/// Both families, both directions, with one MTU.
fn exchange_over(way: Way, mtu: u32) {
    let net = Net::new(way, mtu);
    exchange(&net, 0, 4 << 20);
    exchange(&net, 1, 4 << 20);
}

#[test]
fn streams_cross_a_veth_byte_identical() {
    require_net!();
    exchange_over(Way::Veth, 1500);
    exchange_over(Way::Veth, 9000);
}

#[test]
fn streams_cross_a_veth_without_offloads_byte_identical() {
    require_net!();
    exchange_over(Way::VethWithoutOffloads, 1500);
    exchange_over(Way::VethWithoutOffloads, 9000);
}

#[test]
fn streams_cross_a_socket_without_headers_byte_identical() {
    require_net!();
    exchange_over(Way::VethWithoutHeaders, 1500);
    exchange_over(Way::VethWithoutHeaders, 9000);
}

#[test]
fn streams_cross_a_tap_byte_identical() {
    require_net!();
    exchange_over(Way::Tap, 1500);
    exchange_over(Way::Tap, 9000);
}

#[test]
fn streams_cross_a_tap_without_headers_byte_identical() {
    require_net!();
    exchange_over(Way::TapWithoutHeaders, 1500);
    exchange_over(Way::TapWithoutHeaders, 9000);
}

#[test]
fn streams_cross_a_tun_byte_identical() {
    require_net!();
    exchange_over(Way::Tun, 1500);
}

#[test]
fn large_pings_are_answered_over_every_link() {
    require_net!();
    for way in Way::ALL {
        let net = Net::new(way, 1500);
        for (option, address) in ["-4", "-6"].iter().zip(STACK) {
            // More than the MTU: both sides fragment and reassemble.
            let args = [option, "-c3", "-i0.2", "-W5", "-s4000", address];
            let ping = net.kernel.command("ping").args(args).output().unwrap();
            assert!(ping.status.success(), "{way:?}: {}", String::from_utf8_lossy(&ping.stdout));
        }
    }
}

#[test]
fn datagrams_cross_every_link() {
    require_net!();
    for way in Way::ALL {
        let net = Net::new(way, 1500);
        for (own, kernel) in STACK.iter().zip(KERNEL) {
            let theirs = net
                .kernel
                .inside(|| UdpSocket::bind(format!("[{kernel}]:0").replace("[10.9.0.1]", "10.9.0.1")));
            let theirs = theirs.unwrap();
            theirs.set_read_timeout(Some(LIMIT)).unwrap();
            let own = own.parse().unwrap();
            let ours = netstack::UdpSocket::new(&net.stack, family(own));
            ours.bind(SocketAddr::new(own, 0)).unwrap();
            for len in [0, 1, 1452, 1472, 5000, 65_000] {
                let data = pattern(len);
                let meta = SendMeta { to: Some(theirs.local_addr().unwrap()), ..SendMeta::default() };
                assert_eq!(ours.try_send(&mut &data[..], &meta), Ok(len), "{way:?}");
                let mut buffer = vec![0; 65_536];
                let (count, from) = theirs.recv_from(&mut buffer).unwrap();
                assert!((from, &buffer[..count]) == (ours.local_addr(), &data[..]), "{way:?}: {len} bytes");
                theirs.send_to(&buffer[..count], from).unwrap();
                let mut back = Vec::new();
                block(ours.wait_queue(), Readiness::IN, || {
                    match ours.try_recv(&mut back, RecvFlags::default()) {
                        Ok(_) => Some(()),
                        Err(RecvError::WouldBlock) => None,
                        Err(error) => panic!("{error}"),
                    }
                });
                assert!(back == data, "{way:?}: {len} bytes back");
            }
        }
    }
}

#[test]
fn many_connections_are_served_at_once() {
    require_net!();
    for way in [Way::Veth, Way::Tap] {
        let net = Net::new(way, 1500);
        let (listener, local) = net.listen(STACK[0]);
        let streams: Vec<_> = net.kernel.inside(|| {
            (0..CONNECTIONS).map(|_| TcpStream::connect_timeout(&local, LIMIT).unwrap()).collect()
        });
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                let socket = accept(&listener);
                scope.spawn(move || {
                    loop {
                        let data = receive(&socket);
                        if data.is_empty() {
                            break;
                        }
                        send_all(&socket, &data);
                    }
                });
            }
            for (index, mut stream) in streams.iter().enumerate() {
                limit(stream);
                stream.write_all(&pattern(1000 + index)).unwrap();
            }
            for (index, mut stream) in streams.iter().enumerate() {
                let mut back = vec![0; 1000 + index];
                stream.read_exact(&mut back).unwrap();
                assert!(back == pattern(1000 + index), "connection {index}");
            }
            drop(streams);
        });
    }
}

const CONNECTIONS: usize = 200;

#[test]
fn stack_connects_to_the_kernel_and_learns_of_closed_ports() {
    require_net!();
    for way in [Way::VethWithoutHeaders, Way::Tap, Way::Tun] {
        let net = Net::new(way, 1500);
        for kernel in ["10.9.0.1:0", "[fd09::1]:0"] {
            let listener = net.kernel.inside(|| TcpListener::bind(kernel)).unwrap();
            let remote = listener.local_addr().unwrap();
            let socket = net.connect(remote);
            let (mut theirs, from) = listener.accept().unwrap();
            limit(&theirs);
            assert_eq!(from, socket.local_addr());
            send_all(&socket, b"ping");
            let mut request = [0; 4];
            theirs.read_exact(&mut request).unwrap();
            theirs.write_all(b"pong").unwrap();
            assert_eq!((&request, &receive(&socket)[..]), (b"ping", &b"pong"[..]));
            drop((listener, theirs));
            assert_eq!(receive(&socket), b"");
            let refused = netstack::TcpSocket::new(&net.stack, family(remote.ip()));
            refused.connect(remote).unwrap();
            let error = block(refused.wait_queue(), Readiness::OUT, || refused.take_error());
            assert_eq!(error, SocketError::ConnectionRefused, "{way:?}");
        }
    }
}

#[test]
fn reader_stops_when_asked() {
    require_net!();
    let net = Net::new(Way::Tap, 1500);
    let stack = net.stack.clone();
    drop(net);
    // The reader is gone; nobody takes frames or runs timers any more, but the stack is whole.
    let kept = Arc::new(stack);
    assert_eq!(kept.nics().len(), 2);
}
