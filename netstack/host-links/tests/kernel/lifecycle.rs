//! Many short connections, and the rare ways to open and to close, between the kernel and the stack.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::common::{KERNEL, LIMIT, Net, STACK, Way, accept, block, receive, send_all};
use crate::require_net;
use netstack::TcpSocket;
use netstack::options::{Family, Shutdown};
use netstack::tcp::State;
use netstack::wait::Readiness;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

#[test]
fn thousands_of_short_connections_cross_both_ways() {
    require_net!();
    for way in [Way::Veth, Way::Tap] {
        let net = Net::new(way, 1500);
        let (listener, local) = net.listen(STACK[0]);
        std::thread::scope(|scope| {
            let net = &net;
            scope.spawn(move || {
                net.kernel.inside(|| (0..SHORT).for_each(|number| ask(number, &mut dial(local))));
            });
            for _ in 0..SHORT {
                let socket = accept(&listener);
                let request = receive(&socket);
                send_all(&socket, &request);
            }
        });
        let theirs = net.kernel.inside(|| TcpListener::bind((KERNEL[0], 0))).unwrap();
        let remote = theirs.local_addr().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..SHORT {
                    let (mut stream, _) = theirs.accept().unwrap();
                    limit(&stream);
                    let mut request = [0; 4];
                    stream.read_exact(&mut request).unwrap();
                    stream.write_all(&request).unwrap();
                }
            });
            for number in 0..SHORT {
                let socket = net.connect(remote);
                send_all(&socket, &number.to_be_bytes());
                assert_eq!(receive(&socket), number.to_be_bytes());
            }
        });
    }
}

fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    limit(&stream);
    stream
}

fn limit(stream: &TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
}

fn ask(number: u32, stream: &mut TcpStream) {
    stream.write_all(&number.to_be_bytes()).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, number.to_be_bytes());
}

const SHORT: u32 = 500;

/// A connection from the kernel to the stack.
fn connected(net: &Net) -> (TcpStream, TcpSocket) {
    let (listener, local) = net.listen(STACK[0]);
    let theirs = net.kernel.inside(|| dial(local));
    (theirs, accept(&listener))
}

#[test]
fn either_side_may_finish_first_and_go_on_reading() {
    require_net!();
    let net = Net::new(Way::Tap, 1500);
    let data = vec![0x5a; 300_000];
    // The kernel finishes, and the stack sends for long after.
    let (mut theirs, ours) = connected(&net);
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(receive(&ours), b"");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            send_all(&ours, &data);
            ours.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).unwrap();
        assert!(received == data);
    });
    wait_for(&ours, &[State::Closed]);
    // The other way round.
    let (mut theirs, ours) = connected(&net);
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(theirs.read(&mut [0; 10]).unwrap(), 0);
    std::thread::scope(|scope| {
        let data = &data;
        scope.spawn(move || theirs.write_all(data).unwrap());
        let mut received = Vec::new();
        loop {
            let piece = receive(&ours);
            if piece.is_empty() {
                break;
            }
            received.extend(piece);
        }
        assert!(received == *data);
    });
    wait_for(&ours, &[State::TimeWait]);
    // A reader that stops reading: what the kernel sends then is thrown away, and nothing is reset.
    let (mut theirs, ours) = connected(&net);
    ours.shutdown(Shutdown::Read).unwrap();
    theirs.write_all(b"nobody reads this").unwrap();
    send_all(&ours, b"answer");
    let mut answer = [0; 6];
    theirs.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

#[test]
fn both_sides_may_close_at_once() {
    require_net!();
    let net = Net::new(Way::Tap, 1500);
    for _ in 0..50 {
        let (mut theirs, ours) = connected(&net);
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                ours.shutdown(Shutdown::Write).unwrap();
            });
            barrier.wait();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
        });
        assert_eq!(theirs.read(&mut [0; 10]).unwrap(), 0);
        assert_eq!(receive(&ours), b"");
        wait_for(&ours, &[State::TimeWait, State::Closed]);
    }
}

#[track_caller]
fn wait_for(socket: &TcpSocket, states: &[State]) {
    let end = Instant::now() + LIMIT;
    while !states.contains(&socket.state()) {
        assert!(Instant::now() < end, "{:?} instead of {states:?}", socket.state());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Both connect while nobody carries frames, so that their SYNs cross (RFC 9293 section 3.5, figure 7).
#[test]
fn both_sides_may_connect_at_once() {
    require_net!();
    let mut net = Net::new(Way::Tap, 1500);
    net.pause();
    let theirs = net.kernel.inside(|| {
        let theirs = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(theirs.as_raw_fd(), &SockaddrIn::new(10, 9, 0, 1, 7001)).unwrap();
        theirs
    });
    std::thread::scope(|scope| {
        let fd = theirs.as_raw_fd();
        let connecting = scope.spawn(move || connect(fd, &SockaddrIn::new(10, 9, 0, 2, 7002)));
        // 02 is SYN-SENT, 1B59 is port 7001.
        let end = Instant::now() + LIMIT;
        loop {
            let table = net.kernel.command("cat").arg("/proc/net/tcp").output().unwrap();
            let table = String::from_utf8_lossy(&table.stdout).into_owned();
            if table.lines().any(|line| line.contains(":1B59 ") && line.contains(" 02 ")) {
                break;
            }
            assert!(Instant::now() < end, "{table}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let ours = TcpSocket::new(&net.stack, Family::V4);
        ours.bind(format!("{}:7002", STACK[0]).parse().unwrap()).unwrap();
        ours.connect(format!("{}:7001", KERNEL[0]).parse().unwrap()).unwrap();
        net.resume();
        connecting.join().unwrap().unwrap();
        block(ours.wait_queue(), Readiness::OUT, || (ours.state() == State::Established).then_some(()));
        let mut theirs = TcpStream::from(theirs);
        limit(&theirs);
        send_all(&ours, b"ping");
        let mut request = [0; 4];
        theirs.read_exact(&mut request).unwrap();
        theirs.write_all(b"pong").unwrap();
        assert_eq!((&request, &receive(&ours)[..]), (b"ping", &b"pong"[..]));
    });
}
