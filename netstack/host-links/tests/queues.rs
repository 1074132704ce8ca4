//! Interfaces with several queues, and links between processes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use integration_tests::{Need, Netns, require};
use netstack::link::Medium;
use netstack::net;
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;
use netstack::{NicId, Stack};
use netstack_host_links::{
    HostLink, PacketLink, PacketOptions, Pump, Queues, Reader, ReceiveError, TapLink, TapMode, TapOptions,
    Transmit, XdpLink, XdpOptions, XdpPeer, pipe_link, pipe_pair,
};

const LIMIT: Duration = Duration::from_secs(60);
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

/// A stack on several queues, each with a reader of its own.
fn stack_on(queues: Vec<Arc<dyn HostLink>>, address: &str) -> (Stack, NicId, Vec<Reader>) {
    let link = Queues::new(queues).unwrap();
    let stack = Stack::builder().build();
    let nic = stack.add_nic("eth0", Arc::<Queues>::clone(&link)).unwrap();
    stack.add_address(nic, address.parse().unwrap()).unwrap();
    let readers = link.queues().iter().map(|queue| {
        let mut pump = Pump::new(stack.clone()).unwrap();
        pump.add(nic, Arc::clone(queue));
        Reader::spawn(pump).unwrap()
    });
    let readers = readers.collect();
    (stack, nic, readers)
}

/// Connects until the carrier is there and the other end answers.
fn connect(stack: &Stack, to: &str) -> net::TcpStream {
    let end = Instant::now() + LIMIT;
    loop {
        match net::TcpStream::connect(stack, to) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < end, "{to}: {error}"),
        }
    }
}

/// Streams to an echo service of the kernel, at once.
fn echo_over(stack: &Stack, kernel: &Netns, address: &str) {
    let listener = kernel.inside(|| TcpListener::bind((address, 0))).unwrap();
    let to = listener.local_addr().unwrap().to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..STREAMS {
                let (mut stream, _) = listener.accept().unwrap();
                scope.spawn(move || echo(&mut stream));
            }
        });
        for _ in 0..STREAMS {
            scope.spawn(|| {
                let mut stream = connect(stack, &to);
                let (data, mut back) = (vec![7; 200_000], vec![0; 200_000]);
                let mut reader = stream.clone();
                std::thread::scope(|scope| {
                    scope.spawn(|| reader.read_exact(&mut back).unwrap());
                    stream.write_all(&data).unwrap();
                });
                assert_eq!(back, data);
            });
        }
    });
}

fn echo(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut buffer = [0; 65_536];
    let mut left = 200_000;
    while left > 0 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        stream.write_all(&buffer[..count]).unwrap();
        left -= count;
    }
}

/// Enough that the kernel's hash hardly ever leaves a queue without a flow.
const STREAMS: usize = 8;

#[test]
fn streams_share_the_queues_of_a_tap() {
    require!(Need::Root, Need::Program("ip"), Need::File("/dev/net/tun"));
    let kernel = Netns::new();
    kernel.ip(&["tuntap", "add", "t0", "mode", "tap", "multi_queue"]);
    let queues = kernel.inside(|| TapLink::open_queues("t0", TapOptions::tap(OWN_MAC), 2)).unwrap();
    kernel.ip(&["addr", "add", "10.9.0.1/24", "dev", "t0"]);
    kernel.ip(&["link", "set", "t0", "up"]);
    let queues = queues.into_iter().map(|queue| queue as Arc<dyn HostLink>).collect();
    let (stack, _, _readers) = stack_on(queues, "10.9.0.2/24");
    echo_over(&stack, &kernel, "10.9.0.1");
}

#[test]
fn streams_share_the_sockets_of_a_fanout_group() {
    require!(Need::Root, Need::Program("ip"));
    let (kernel, own) = (Netns::new(), Netns::new());
    kernel.ip(&["link", "add", "k0", "type", "veth", "peer", "name", "s0", "netns", own.name()]);
    kernel.ip(&["addr", "add", "10.9.0.1/24", "dev", "k0"]);
    kernel.ip(&["link", "set", "k0", "up"]);
    own.ip(&["link", "set", "s0", "up"]);
    let options = PacketOptions { transmit: Transmit::Direct, ..PacketOptions::default() };
    let queues = own.inside(|| PacketLink::open_queues("s0", options, 2)).unwrap();
    let queues = queues.into_iter().map(|queue| queue as Arc<dyn HostLink>).collect();
    let (stack, nic, _readers) = stack_on(queues, "10.9.0.2/24");
    echo_over(&stack, &kernel, "10.9.0.1");
    assert!(stack.nic(nic).unwrap().stats.rx_packets > 0);
}

#[test]
fn each_frame_reaches_one_socket_of_a_fanout_group_and_flows_are_divided() {
    require!(Need::Root, Need::Program("ip"));
    let (kernel, own) = (Netns::new(), Netns::new());
    kernel.ip(&["link", "add", "k0", "type", "veth", "peer", "name", "s0", "netns", own.name()]);
    kernel.ip(&["addr", "add", "10.9.0.1/24", "dev", "k0"]);
    kernel.ip(&["link", "set", "k0", "up"]);
    own.ip(&["link", "set", "s0", "up"]);
    let queues = own.inside(|| PacketLink::open_queues("s0", PacketOptions::default(), 2)).unwrap();
    divide_flows(&kernel, &queues);
}

/// Has the kernel send datagrams of many flows, and finds each of them in one queue, and some in each.
fn divide_flows<L: HostLink>(kernel: &Netns, queues: &[Arc<L>]) {
    let end = Instant::now() + LIMIT;
    let is_up = || {
        let shown = kernel.command("ip").args(["-o", "link", "show", "k0"]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).contains("state UP")
    };
    while !is_up() {
        assert!(Instant::now() < end, "the pair has no carrier");
        sleep(Duration::from_millis(5));
    }
    // Nobody answers, so each flow is known to the kernel by a permanent neighbour.
    kernel.ip(&["neigh", "add", "10.9.0.2", "lladdr", "02:00:00:00:00:01", "dev", "k0"]);
    kernel.inside(|| {
        for _ in 0..64 {
            let socket = std::net::UdpSocket::bind("10.9.0.1:0").unwrap();
            socket.send_to(b"x", "10.9.0.2:9").unwrap();
        }
    });
    let end = Instant::now() + LIMIT;
    let mut counts = [0, 0];
    while counts.iter().sum::<usize>() < 64 {
        assert!(Instant::now() < end, "{counts:?}");
        for (queue, count) in queues.iter().zip(&mut counts) {
            let mut frames = Vec::new();
            queue.lead().receive(&mut frames).unwrap();
            *count += frames.iter().filter(|frame| is_udp_to(frame, 9)).count();
        }
        sleep(Duration::from_millis(1));
    }
    assert_eq!(counts.iter().sum::<usize>(), 64);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

fn is_udp_to(frame: &Packet, port: u16) -> bool {
    let bytes = frame.to_vec();
    bytes.get(12..14) == Some(&[8, 0]) && bytes[23] == 17 && bytes[36..38] == port.to_be_bytes()
}

#[test]
fn xdp_socket_carries_streams_and_gives_the_interface_back() {
    require!(Need::Root, Need::Program("ip"), Need::Program("ping"));
    let (kernel, own) = (Netns::new(), Netns::new());
    kernel.ip(&["link", "add", "k0", "type", "veth", "peer", "name", "s0", "netns", own.name()]);
    kernel.ip(&["addr", "add", "10.9.0.1/24", "dev", "k0"]);
    own.ip(&["addr", "add", "10.9.0.3/24", "dev", "s0"]);
    for (ns, device) in [(&kernel, "k0"), (&own, "s0")] {
        ns.ip(&["link", "set", device, "up"]);
    }
    let answers = || {
        let args = ["-c1", "-W1", "10.9.0.3"];
        kernel.command("ping").args(args).output().unwrap().status.success()
    };
    assert!(answers(), "the host's own stack");
    {
        let options = XdpOptions { peer: XdpPeer::SameHost, ..XdpOptions::default() };
        let link = own.inside(|| XdpLink::open("s0", options)).unwrap();
        let (stack, nic, _readers) = stack_on(vec![link], "10.9.0.2/24");
        echo_over(&stack, &kernel, "10.9.0.1");
        assert!(stack.nic(nic).unwrap().stats.rx_bytes > 200_000);
        assert!(!answers(), "the frames go to the socket");
    }
    let end = Instant::now() + LIMIT;
    while !answers() {
        assert!(Instant::now() < end, "the program is still attached");
    }
}

/// A pair of several queues: a flow's frames all come through one of them.
fn pair_of_queues(kernel: &Netns, own: &Netns) {
    let each = ["numtxqueues", "2", "numrxqueues", "2"];
    let peer = ["type", "veth", "peer", "name", "s0", "netns", own.name()];
    kernel.ip(&[&["link", "add", "k0"], &each[..], &peer, &each].concat());
    kernel.ip(&["addr", "add", "10.9.0.1/24", "dev", "k0"]);
    for (ns, device) in [(kernel, "k0"), (own, "s0")] {
        ns.ip(&["link", "set", device, "up"]);
    }
}

#[test]
fn streams_share_the_queues_of_an_xdp_device() {
    require!(Need::Root, Need::Program("ip"));
    let (kernel, own) = (Netns::new(), Netns::new());
    pair_of_queues(&kernel, &own);
    let options = XdpOptions { peer: XdpPeer::SameHost, ..XdpOptions::default() };
    let queues = own.inside(|| XdpLink::open_queues("s0", options, 2)).unwrap();
    let queues = queues.into_iter().map(|queue| queue as Arc<dyn HostLink>).collect();
    let (stack, nic, _readers) = stack_on(queues, "10.9.0.2/24");
    echo_over(&stack, &kernel, "10.9.0.1");
    assert!(stack.nic(nic).unwrap().stats.rx_bytes > 200_000);
}

#[test]
fn each_frame_reaches_one_xdp_queue_and_flows_are_divided() {
    require!(Need::Root, Need::Program("ip"));
    let (kernel, own) = (Netns::new(), Netns::new());
    pair_of_queues(&kernel, &own);
    let queues = own.inside(|| XdpLink::open_queues("s0", XdpOptions::default(), 2)).unwrap();
    divide_flows(&kernel, &queues);
}

#[test]
fn xdp_device_has_no_more_queues_than_it_has() {
    require!(Need::Root, Need::Program("ip"));
    let (kernel, own) = (Netns::new(), Netns::new());
    pair_of_queues(&kernel, &own);
    let error = own.inside(|| XdpLink::open_queues("s0", XdpOptions::default(), 3)).unwrap_err();
    assert!(error.to_string().starts_with("s0: bind"), "{error}");
    // Nothing is left of the attempt once the kernel has cleared up, which it does by and by.
    let end = Instant::now() + LIMIT;
    while own.inside(|| XdpLink::open_queues("s0", XdpOptions::default(), 2)).is_err() {
        assert!(Instant::now() < end, "the queues are still in use");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn xdp_socket_wants_an_ethernet_interface() {
    require!(Need::Root, Need::Program("ip"));
    let ns = Netns::new();
    let error = ns.inside(|| XdpLink::open("lo", XdpOptions::default())).unwrap_err();
    assert_eq!(error.to_string(), "lo: not an Ethernet interface");
}

#[test]
fn pipe_carries_super_segments_between_two_stacks() {
    let (a, b) = pipe_pair().unwrap();
    let ends = [("10.9.0.1/24", a, 1), ("10.9.0.2/24", b, 2)];
    let [(one, _, _a), (two, nic, _b)] = ends.map(|(address, end, number)| {
        let link = pipe_link(end, TapMode::Tap(MacAddr([2, 0, 0, 0, 0, number])), 1500);
        stack_on(vec![link], address)
    });
    let listener = net::TcpListener::bind(&two, "10.9.0.2:80").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut data = Vec::new();
            stream.read_to_end(&mut data).unwrap();
            assert_eq!(data, vec![7; 10_000_000]);
            stream.write_all(b"done").unwrap();
        });
        let mut stream = net::TcpStream::connect(&one, "10.9.0.2:80").unwrap();
        stream.write_all(&vec![7; 10_000_000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"done");
    });
    let stats = two.nic(nic).unwrap().stats;
    assert!(stats.rx_bytes / stats.rx_packets > 3000, "super-segments: {stats:?}");
}

#[test]
fn pipe_whose_other_end_is_closed_is_gone() {
    let (a, b) = pipe_pair().unwrap();
    let link = pipe_link(a, TapMode::Tun, 1500);
    assert_eq!(link.lead().receive(&mut Vec::new()), Ok(0));
    drop(b);
    assert_eq!(link.lead().receive(&mut Vec::new()), Err(ReceiveError::Gone));
    let medium = netstack::link::Link::medium(&*link);
    assert_eq!(medium, Medium::Ip);
}
