//! The `usernet` program between two network namespaces of the test's own: the "host", where the gateway and its peers
//! are, and the "guest", whose kernel has a tap device as its only way out.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::{Need, Netns, Running, require, wait_until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};

/// Two namespaces with a gateway between them.
struct World {
    _gateway: Running,
    guest: Netns,
    host: Netns,
}

impl World {
    #[track_caller]
    fn new(options: &[&str]) -> Self {
        let (host, guest) = (Netns::new(), Netns::new());
        // An address of the host's beside its loopback, without a route to anywhere else.
        host.ip(&["link", "add", "away", "type", "veth", "peer", "name", "far"]);
        host.ip(&["addr", "add", "192.0.2.1/24", "dev", "away"]);
        host.ip(&["addr", "add", "2001:db8:1::1/64", "dev", "away", "nodad"]);
        host.ip(&["link", "set", "away", "up"]);
        host.ip(&["link", "set", "far", "up"]);
        let mut command = host.command(env!("CARGO_BIN_EXE_usernet"));
        command.args(["--netns", &guest.path(), "--tap", "tap0", "--configure"]).args(options);
        let gateway = Running::start(&mut command);
        let world = Self { _gateway: gateway, guest, host };
        wait_until("the guest's route", Duration::from_secs(20), || {
            world.guest_ip(&["route"]).contains("default")
        });
        world
    }

    fn guest_ip(&self, args: &[&str]) -> String {
        let out = Command::new("ip").args(["-n", self.guest.name()]).args(args).output().expect("run ip");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// A listener on the host.
    fn listen(&self, address: &str) -> TcpListener {
        self.host.inside(|| TcpListener::bind(address)).expect("listen")
    }

    fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        let address: SocketAddr = address.parse().expect("an address");
        let stream = self.guest.inside(|| TcpStream::connect_timeout(&address, LIMIT))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(stream)
    }

    fn udp(&self, ns: &Netns, address: &str) -> UdpSocket {
        let socket = ns.inside(|| UdpSocket::bind(address)).expect("bind");
        socket.set_read_timeout(Some(LIMIT)).expect("a timeout");
        socket
    }
}

const LIMIT: Duration = Duration::from_secs(20);

/// Bytes without a period that could hide a mistake.
fn pattern(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).take(len.div_ceil(8)).flatten().take(len).collect()
}

#[test]
fn streams_arrive_whole_and_half_close() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&["--host-loopback"]);
    for (listen, connect) in [("127.0.0.1:7000", "10.0.2.2:7000"), ("[::1]:7000", "[fd00::2]:7000")] {
        let listener = world.listen(listen);
        let sent = pattern(24 << 20);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut data = Vec::new();
            // Only the client's half-close ends this.
            stream.read_to_end(&mut data).expect("read");
            stream.write_all(&data).expect("write");
        });
        let mut stream = world.connect(connect).expect("connect");
        stream.write_all(&sent).expect("write");
        stream.shutdown(Shutdown::Write).expect("shut down");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("read");
        assert!(back == sent, "{} bytes instead of {}", back.len(), sent.len());
        server.join().expect("the server");
    }
}

#[test]
fn what_the_host_cannot_reach_is_refused_as_what_it_is() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&["--host-loopback"]);
    for (address, kind) in [
        ("10.0.2.2:9", ErrorKind::ConnectionRefused),
        ("[fd00::2]:9", ErrorKind::ConnectionRefused),
        ("192.0.2.1:9", ErrorKind::ConnectionRefused),
        ("198.51.100.1:9", ErrorKind::NetworkUnreachable),
        ("[2001:db8::1]:9", ErrorKind::NetworkUnreachable),
    ] {
        let error = world.connect(address).expect_err(address);
        assert_eq!(error.kind(), kind, "{address}: {error}");
    }
    let socket = world.udp(&world.guest, "0.0.0.0:0");
    socket.connect("192.0.2.1:9").expect("connect");
    socket.send(b"anybody?").expect("send");
    assert_eq!(socket.recv(&mut [0; 8]).expect_err("nobody").kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn loopback_of_the_host_is_closed_unless_opened() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&[]);
    let _listener = world.listen("0.0.0.0:7000");
    let error = world.connect("10.0.2.2:7000").expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // The host's other addresses are part of the network.
    world.connect("192.0.2.1:7000").expect("connect");
}

#[test]
fn resets_are_carried_in_both_directions() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&["--host-loopback"]);
    let listener = world.listen("127.0.0.1:7000");
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let reset = |stream: TcpStream| setsockopt(&stream.as_fd(), sockopt::Linger, &linger).expect("linger");
    for resetter in ["host", "guest"] {
        let guest_end = world.connect("10.0.2.2:7000").expect("connect");
        let (host_end, _) = listener.accept().expect("accept");
        host_end.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let mut left = match resetter {
            "host" => {
                reset(host_end);
                guest_end
            }
            _ => {
                reset(guest_end);
                host_end
            }
        };
        let error = left.read(&mut [0; 8]).expect_err(resetter);
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{resetter} resets");
    }
}

#[test]
fn slow_reader_stops_the_sender() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&["--host-loopback"]);
    let listener = world.listen("127.0.0.1:7000");
    let mut sender = world.connect("10.0.2.2:7000").expect("connect");
    let (mut reader, _) = listener.accept().expect("accept");
    sender.set_nonblocking(true).expect("not blocking");
    let block = pattern(64 << 10);
    let (mut sent, mut quiet_since) = (0_usize, Instant::now());
    while quiet_since.elapsed() < Duration::from_millis(700) {
        match sender.write(&block[sent % block.len()..]) {
            Ok(count) => {
                sent += count;
                quiet_since = Instant::now();
                // The socket buffers of two kernels and the gateway's windows; anything unbounded passes this soon.
                assert!(sent < 48 << 20, "{sent} bytes in flight");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    drop(sender);
    let mut received = Vec::new();
    reader.read_to_end(&mut received).expect("read");
    assert_eq!(received.len(), sent);
    assert!(received.chunks(block.len()).all(|chunk| chunk == &block[..chunk.len()]), "data differs");
}

#[test]
fn thousands_of_flows_at_a_time() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("limit");
    let world = World::new(&["--host-loopback"]);
    let listener = world.listen("127.0.0.1:7000");
    let server = std::thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..FLOWS).map(|_| listener.accept().expect("accept").0).collect();
        for mut stream in streams {
            let mut word = [0; 4];
            stream.read_exact(&mut word).expect("read");
            stream.write_all(&word).expect("write");
        }
    });
    let mut streams: Vec<TcpStream> = world.guest.inside(|| {
        let address: SocketAddr = "10.0.2.2:7000".parse().expect("an address");
        (0..FLOWS).map(|_| TcpStream::connect_timeout(&address, LIMIT).expect("connect")).collect()
    });
    for (number, stream) in (0_u32..).zip(&mut streams) {
        stream.write_all(&number.to_le_bytes()).expect("write");
    }
    for (number, stream) in (0_u32..).zip(&mut streams) {
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let mut word = [0; 4];
        stream.read_exact(&mut word).expect("read");
        assert_eq!(u32::from_le_bytes(word), number);
    }
    server.join().expect("the server");
}

const FLOWS: usize = 5000;

#[test]
fn datagrams_and_name_server_queries_are_answered() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&["--host-loopback", "--dns", "127.0.0.1"]);
    for (serve, ask) in [
        ("127.0.0.1:7000", "10.0.2.2:7000"),
        ("127.0.0.1:53", "10.0.2.3:53"),
        ("[::1]:7000", "[fd00::2]:7000"),
        // The name server of either family leads to the host's, whatever that one's is.
        ("127.0.0.1:53", "[fd00::3]:53"),
    ] {
        let server = world.udp(&world.host, serve);
        let echo = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            for _ in 0..4 {
                let (len, from) = server.recv_from(&mut buffer).expect("a question");
                buffer[..len].reverse();
                server.send_to(&buffer[..len], from).expect("an answer");
            }
        });
        let any = if ask.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let client = world.udp(&world.guest, any);
        client.connect(ask).expect("connect");
        for len in [0, 1, 1400, 60_000] {
            let mut question = pattern(len);
            client.send(&question).expect("send");
            let mut answer = vec![0; 65_536];
            let got = client.recv(&mut answer).expect("an answer");
            question.reverse();
            assert!(answer[..got] == question, "{ask}, {len} bytes: {got} bytes");
        }
        echo.join().expect("the server");
    }
}

/// RFC 7766 section 5: an answer that does not fit says so (TC), and the client asks again over TCP.
#[test]
fn truncated_answers_are_asked_for_again_over_tcp() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&["--dns", "127.0.0.1"]);
    let (udp, tcp) = (world.udp(&world.host, "127.0.0.1:53"), world.listen("127.0.0.1:53"));
    // example.com, A, IN.
    let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";
    let truncated = [&b"\x12\x34\x83\x80"[..], &query[4..]].concat();
    let whole = [&b"\x12\x34\x81\x80"[..], &query[4..], &pattern(4000)].concat();
    let (short, long) = (truncated.clone(), whole.clone());
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let mut asked = [0; 512];
            let (len, from) = udp.recv_from(&mut asked).expect("a query");
            assert_eq!(asked[..len], query[..]);
            udp.send_to(&short, from).expect("answer");
            let (mut stream, _) = tcp.accept().expect("accept");
            let mut asked = [0; 2 + 29];
            stream.read_exact(&mut asked).expect("a query");
            assert_eq!(asked[2..], query[..]);
            let len = u16::try_from(long.len()).expect("a message").to_be_bytes();
            stream.write_all(&[&len[..], &long].concat()).expect("answer");
        }
    });
    for (any, name_server) in [("0.0.0.0:0", "10.0.2.3:53"), ("[::]:0", "[fd00::3]:53")] {
        let client = world.udp(&world.guest, any);
        client.connect(name_server).expect("connect");
        client.send(query).expect("send");
        let mut answer = [0; 512];
        let len = client.recv(&mut answer).expect("an answer");
        assert_eq!(answer[..len], truncated);
        let mut stream = world.connect(name_server).expect("connect");
        stream.write_all(&[&[0, 29], &query[..]].concat()).expect("ask again");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        assert_eq!(answer[2..], whole);
    }
    server.join().expect("the server");
    // Nothing but names is behind the name server's address.
    let _listener = world.listen("127.0.0.1:80");
    assert_eq!(world.connect("10.0.2.3:80").expect_err("no name").kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn published_ports_lead_into_the_guest() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&["-p", "8080:80", "-p", "[::1]:8080:80", "-p", "192.0.2.1:8053:53/udp"]);
    let listener = world.guest.inside(|| TcpListener::bind("0.0.0.0:80")).expect("listen");
    let mut client = None;
    wait_until("the published port", LIMIT, || {
        client = world.host.inside(|| TcpStream::connect("127.0.0.1:8080")).ok();
        client.is_some()
    });
    let mut client = client.expect("connected");
    let (mut server, from) = listener.accept().expect("accept");
    assert_eq!(from.ip().to_string(), "10.0.2.2");
    server.write_all(b"hello from the guest").expect("write");
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello from the guest");
    drop(listener);
    let listener = world.guest.inside(|| TcpListener::bind("[::]:80")).expect("listen");
    let mut client = world.host.inside(|| TcpStream::connect("[::1]:8080")).expect("connect");
    let (mut server, from) = listener.accept().expect("accept");
    assert_eq!(from.ip().to_string(), "fd00::2");
    client.write_all(b"hello from the host").expect("write");
    drop(client);
    let mut text = String::new();
    server.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello from the host");
    drop(listener);
    // Nobody listens any more: the client is reset.
    let mut refused = world.host.inside(|| TcpStream::connect("127.0.0.1:8080")).expect("connect");
    refused.set_read_timeout(Some(LIMIT)).expect("a timeout");
    assert_eq!(refused.read(&mut [0; 8]).expect_err("refused").kind(), ErrorKind::ConnectionReset);

    let server = world.udp(&world.guest, "0.0.0.0:53");
    let clients = [world.udp(&world.host, "192.0.2.1:0"), world.udp(&world.host, "127.0.0.1:0")];
    for (number, client) in (0_u8..).zip(&clients) {
        client.send_to(&[number], "192.0.2.1:8053").expect("send");
        let mut byte = [0];
        let (_, from) = server.recv_from(&mut byte).expect("a question");
        server.send_to(&[byte[0] + 100], from).expect("answer");
        let (_, from) = client.recv_from(&mut byte).expect("an answer");
        assert_eq!((byte[0], from.to_string().as_str()), (number + 100, "192.0.2.1:8053"));
    }
}

#[test]
fn echo_requests_are_carried_and_answered() {
    require!(Need::Root, Need::Program("ip"), Need::Program("ping"), Need::File("/dev/net/tun"));
    let world = World::new(&[]);
    world
        .host
        .inside(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"))
        .expect("permit ping sockets");
    // The gateway's own, and addresses of the host's.
    for address in ["10.0.2.2", "fd00::2", "192.0.2.1", "2001:db8:1::1"] {
        let mut ping = world.guest.command("ping");
        let out = Running::start(ping.args(["-c", "2", "-i", "0.2", "-W", "5", address])).finish(LIMIT).ok();
        assert!(out.out().contains(" 0% packet loss"), "{address}: {}", out.out());
    }
    let mut ping = world.guest.command("ping");
    let out = Running::start(ping.args(["-c", "1", "-W", "5", "198.51.100.1"])).finish(LIMIT);
    assert!(out.out().contains("Unreachable"), "{}", out.out());
}

#[test]
fn guest_can_configure_itself() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let world = World::new(&[]);
    // Addresses by router advertisement (SLAAC): the guest's kernel asks when the device comes up.
    wait_until("an address by autoconfiguration", LIMIT, || {
        let addresses = world.guest_ip(&["-6", "addr", "show", "dev", "tap0"]);
        addresses.lines().any(|line| line.contains("fd00::") && line.contains("dynamic"))
    });
    // DHCP by hand: discover, then request.
    let client = world.udp(&world.guest, "0.0.0.0:68");
    client.set_broadcast(true).expect("broadcast");
    for (asked, answered) in [(1_u8, 2_u8), (3, 5)] {
        let mut query = vec![0_u8; 236];
        query[..3].copy_from_slice(&[1, 1, 6]);
        query[4..8].copy_from_slice(&[9, 8, 7, asked]);
        query.extend_from_slice(&[99, 130, 83, 99, 53, 1, asked, 50, 4, 10, 0, 2, 15, 255]);
        client.send_to(&query, "255.255.255.255:67").expect("send");
        let mut answer = [0; 1500];
        let len = client.recv(&mut answer).expect("an answer");
        let answer = &answer[..len];
        assert_eq!(
            (answer[0], &answer[4..8], &answer[16..20]),
            (2, &[9, 8, 7, asked][..], &[10, 0, 2, 15][..])
        );
        assert_eq!(&answer[240..243], &[53, 1, answered]);
        assert!(answer.windows(6).any(|option| option == [3, 4, 10, 0, 2, 2]), "no router");
    }
}
