//! Descriptors run out: new flows are refused and counted, those that are there go on, and room that becomes free is used.
//!
//! A program of its own, because the limit is the process's. The gateway runs on a thread of it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use integration_tests::{Need, Netns, require};
use netstack_host_links::{TapLink, TapOptions};
use netstack_usernet::{Config, Gateway, HostLoopback, PortForward, Refused, Statistics, Transport};
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};

/// A gateway on a thread, and what it said last.
struct Running {
    thread: std::thread::JoinHandle<()>,
    statistics: mpsc::Receiver<Statistics>,
}

/// Starts the gateway, which works until nobody wants to hear of it.
fn start(host: &Netns, guest: &Netns, config: &Config) -> Running {
    let options = TapOptions::tap(config.mac);
    let link = guest.inside(|| TapLink::open("tap0", options).expect("a tap"));
    let (host, config) = (host.path(), config.clone());
    let (sender, statistics) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        setns(File::open(host).expect("the namespace"), CloneFlags::CLONE_NEWNET).expect("enter it");
        let mut gateway = Gateway::new(link as _, &config).expect("a gateway");
        while gateway.run_for(Duration::from_millis(10)).expect("a turn") {
            if sender.send(gateway.statistics()).is_err() {
                return;
            }
        }
    });
    Running { thread, statistics }
}

impl Running {
    /// Waits until its figures are as `is_right` wants them.
    #[track_caller]
    fn wait(&self, is_right: impl Fn(&Statistics) -> bool) -> Statistics {
        let end = Instant::now() + LIMIT;
        loop {
            let statistics = self.statistics.recv_timeout(LIMIT).expect("the gateway works");
            if is_right(&statistics) {
                return statistics;
            }
            assert!(Instant::now() < end, "{statistics:?}");
        }
    }
}

/// Sockets that will connect: descriptors that the test has before they run out.
fn clients(netns: &Netns, count: usize) -> Vec<OwnedFd> {
    netns.inside(|| {
        let open = || socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        (0..count).map(|_| open().expect("a socket")).collect()
    })
}

/// Connects; the end will be a reset, which leaves nothing half open.
fn try_connect(socket: OwnedFd, to: SocketAddr) -> Result<TcpStream, (OwnedFd, nix::Error)> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&socket, sockopt::Linger, &linger).expect("linger");
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => Ok(TcpStream::from(socket)),
        Err(error) => Err((socket, error)),
    }
}

#[test]
fn flows_beyond_the_descriptors_are_refused_and_the_next_find_room() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let (host, guest) = (Netns::new(), Netns::new());
    let forward = PortForward {
        host: SocketAddr::from(([127, 0, 0, 1], 8080)),
        guest_port: 80,
        transport: Transport::Tcp,
    };
    let config = Config {
        host_loopback: HostLoopback::Gateway,
        forwards: vec![forward],
        v6: None,
        ..Config::default()
    };
    let listener = host.inside(|| TcpListener::bind("127.0.0.1:7000")).expect("listen");
    let gateway = start(&host, &guest, &config);
    guest.ip(&["addr", "add", "10.0.2.15/24", "dev", "tap0"]);
    guest.ip(&["link", "set", "tap0", "up"]);
    gateway.wait(|_| true);
    let server: SocketAddr = "10.0.2.2:7000".parse().expect("an address");
    let mut first = guest.inside(|| TcpStream::connect_timeout(&server, LIMIT)).expect("connect");
    let (mut answer, _) = listener.accept().expect("accept");

    let (many, outside) = (clients(&guest, CLIENTS), clients(&host, 1));
    let used = File::open("/dev/null").expect("the next descriptor").as_raw_fd();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(used).expect("a number") + ROOM, hard).expect("limit");

    let (mut connected, mut refused) = (Vec::new(), Vec::new());
    for socket in many {
        match try_connect(socket, server) {
            Ok(stream) => connected.push(stream),
            Err((socket, error)) => {
                assert_eq!(error, nix::Error::ECONNREFUSED);
                refused.push(socket);
            }
        }
    }
    assert!((1..=usize::try_from(ROOM).expect("a number")).contains(&connected.len()), "{}", connected.len());
    let statistics = gateway.wait(|statistics| statistics.refused.tcp >= refused.len() as u64);
    assert_eq!(statistics.tcp_flows, connected.len() + 1, "{statistics:?}");
    // Those that are there go on.
    first.write_all(b"still there?").expect("write");
    let mut text = [0; 12];
    answer.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"still there?");
    // A client of a forwarded port is not left waiting, and the gateway not busy with it.
    let to = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut client =
        outside.into_iter().map(|socket| try_connect(socket, to).expect("connect")).next().expect("one");
    client.set_read_timeout(Some(LIMIT)).expect("a timeout");
    assert_eq!(client.read(&mut [0]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
    gateway.wait(|statistics| statistics.refused.clients == 1);

    // What ends makes room.
    let freed = connected.len();
    drop(connected);
    gateway.wait(|statistics| statistics.tcp_flows == 1);
    let again: Vec<TcpStream> =
        refused.into_iter().take(freed).map(|socket| try_connect(socket, server).expect("room")).collect();
    let statistics = gateway.wait(|statistics| statistics.tcp_flows == again.len() + 1);
    assert_eq!(statistics.refused, Refused { clients: 1, udp: 0, echo: 0, tcp: statistics.refused.tcp });
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("limit");
    let Running { thread, statistics } = gateway;
    drop(statistics);
    thread.join().expect("the gateway");
}

/// Sockets of the guest, and descriptors that are left for the gateway's: fewer.
const CLIENTS: usize = 60;
const ROOM: u64 = 24;
const LIMIT: Duration = Duration::from_secs(20);
