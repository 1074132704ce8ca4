//! The example router between two namespaces: the kernel on both sides, the stack in the middle.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use integration_tests::Netns;
use netstack::Stack;
use netstack::advertise::AdvertiseOptions;
use netstack::wire::ndp::{PrefixInformation, RouterAdvertisement};
use netstack_host_links::{HostLink, Reader, TapLink, TapOptions};

use crate::common::LIMIT;
use crate::require_net;

#[path = "../../examples/router.rs"]
#[expect(dead_code, reason = "the program's own entry is not called here")]
mod program;

/// Two networks and the router between them.
struct Nets {
    // Before the namespaces: fields are dropped in order.
    _reader: Reader,
    stack: Stack,
    inside: Netns,
    outside: Netns,
}

const ROUTER_INSIDE: [&str; 2] = ["10.20.0.1", "fd20::1"];
const HOST_INSIDE: [&str; 2] = ["10.20.0.2", "fd20::2"];
const ROUTER_OUTSIDE: [&str; 2] = ["10.21.0.2", "fd21::2"];
const HOST_OUTSIDE: [&str; 2] = ["10.21.0.1", "fd21::1"];

fn tap(ns: &Netns, name: &str, mac: netstack::MacAddr, addresses: [&str; 2]) -> Arc<TapLink> {
    ns.ip(&["tuntap", "add", name, "mode", "tap"]);
    let link = ns.inside(|| TapLink::open(name, TapOptions::tap(mac))).unwrap();
    ns.ip(&["link", "set", name, "up"]);
    for (address, length) in addresses.iter().zip(["24", "64"]) {
        ns.ip(&["addr", "add", &format!("{address}/{length}"), "dev", name, "nodad"]);
    }
    link
}

impl Nets {
    fn new() -> Self {
        let (inside, outside) = (Netns::new(), Netns::new());
        let lan: Arc<dyn HostLink> = tap(&inside, "l0", program::INSIDE_MAC, HOST_INSIDE);
        let wan: Arc<dyn HostLink> = tap(&outside, "w0", program::OUTSIDE_MAC, HOST_OUTSIDE);
        for (option, router) in ["-4", "-6"].iter().zip(ROUTER_INSIDE) {
            inside.ip(&[option, "route", "add", "default", "via", router, "dev", "l0"]);
        }
        let with_lengths = |addresses: [&str; 2]| format!("{}/24,{}/64", addresses[0], addresses[1]);
        let sides = [
            program::Side::new(lan, &with_lengths(ROUTER_INSIDE)).unwrap(),
            program::Side::new(wan, &with_lengths(ROUTER_OUTSIDE)).unwrap(),
        ];
        let gateways = HOST_OUTSIDE.map(|address| address.parse::<IpAddr>().unwrap());
        let (stack, pump) = program::router(sides, &gateways).unwrap();
        let nets = Self { _reader: Reader::spawn(pump).unwrap(), stack, inside, outside };
        // A fresh tap drops frames until the kernel has noticed its carrier.
        for (ns, addresses) in [(&nets.inside, ROUTER_INSIDE), (&nets.outside, ROUTER_OUTSIDE)] {
            for address in addresses {
                let end = Instant::now() + LIMIT;
                while !ping(ns, &["-c1", "-W1", address]).0 {
                    assert!(Instant::now() < end, "{address} does not answer");
                }
            }
        }
        nets
    }
}

fn ping(ns: &Netns, args: &[&str]) -> (bool, String) {
    let output = ns.command("ping").args(args).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn hosts_inside_reach_those_outside_through_the_router() {
    require_net!();
    let nets = Nets::new();
    for far in HOST_OUTSIDE {
        // The network outside has no route back: the answers come because the router translates.
        let (success, text) = ping(&nets.inside, &["-c3", "-i0.2", "-W5", far]);
        assert!(success, "{text}");
        // More than the MTU: fragments are put together, translated and cut again.
        let (success, text) = ping(&nets.inside, &["-c2", "-i0.2", "-W5", "-s4000", far]);
        assert!(success, "{text}");
        // One hop is not enough.
        let (success, text) = ping(&nets.inside, &["-c1", "-W5", "-t1", far]);
        assert!(!success && (text.contains("exceeded") || text.contains("Hop limit")), "{text}");
    }
    assert!(nets.stack.stats().ip_forw_datagrams > 0);
}

#[test]
fn nobody_outside_begins_anything_with_those_inside() {
    require_net!();
    let nets = Nets::new();
    for ((option, network), router) in
        ["-4", "-6"].iter().zip(["10.20.0.0/24", "fd20::/64"]).zip(ROUTER_OUTSIDE)
    {
        nets.outside.ip(&[option, "route", "add", network, "via", router, "dev", "w0"]);
    }
    for near in HOST_INSIDE {
        let before = nets.stack.stats().filter_dropped;
        let (success, text) = ping(&nets.outside, &["-c1", "-W1", near]);
        assert!(!success, "{text}");
        assert!(nets.stack.stats().filter_dropped > before, "{near}: dropped by the rules");
    }
}

#[test]
fn web_pages_cross_the_router() {
    require_net!();
    integration_tests::require!(integration_tests::Need::Program("curl"));
    let nets = Nets::new();
    let page: Vec<u8> =
        (0..3_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (far, translated) in HOST_OUTSIDE.into_iter().zip(ROUTER_OUTSIDE) {
        let address = SocketAddr::new(far.parse().unwrap(), 0);
        let listener = nets.outside.inside(|| TcpListener::bind(address)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::scope(|scope| {
            let page = &page;
            let server = scope.spawn(move || {
                let (mut stream, peer) = listener.accept().unwrap();
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(page).unwrap();
                peer
            });
            let limit = LIMIT.as_secs().to_string();
            let curl =
                nets.inside.command("curl").args(["-sS", "--max-time", &limit, &url]).output().unwrap();
            assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
            assert!(curl.stdout == *page, "{} bytes came, or other ones", curl.stdout.len());
            assert_eq!(server.join().unwrap().ip().to_string(), translated);
        });
    }
    // Super-segments cross whole: far fewer packets than segments.
    let forwarded = nets.stack.stats().ip_forw_datagrams;
    assert!(forwarded < 2 * 3_000_000 / 1448, "{forwarded} packets");
    assert_eq!(nets.stack.stats().conntrack_invalid, 0);
}

/// Runs `ip ARGS` in a namespace until its output has `text` in it, or has not.
#[track_caller]
fn until(ns: &Netns, args: &[&str], text: &str, is_there: bool) {
    let end = Instant::now() + LIMIT;
    loop {
        let output = ns.command("ip").args(args).output().unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.contains(text) == is_there {
            return;
        }
        assert!(Instant::now() < end, "{text}: {output}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn the_kernel_configures_itself_from_our_advertisements() {
    require_net!();
    let nets = Nets::new();
    let own: IpAddr = ROUTER_INSIDE[1].parse().unwrap();
    let has_own = |nic: &&netstack::nic::NicInfo| nic.addresses.iter().any(|had| had.address() == own);
    let nic = nets.stack.nics().iter().find(has_own).unwrap().id;
    nets.stack.add_address(nic, "fe80::20/64".parse().unwrap()).unwrap();
    let prefix = PrefixInformation {
        prefix: "2001:db8:20::".parse().unwrap(),
        prefix_len: 64,
        is_on_link: true,
        is_autonomous: true,
        valid_s: 3600,
        preferred_s: 1800,
    };
    let advertisement =
        RouterAdvertisement { mtu: Some(1400), prefixes: vec![prefix], ..RouterAdvertisement::default() };
    nets.stack.start_advertising(nic, AdvertiseOptions::new(advertisement)).unwrap();
    until(&nets.inside, &["-6", "addr", "show", "dev", "l0"], "inet6 2001:db8:20:", true);
    until(&nets.inside, &["-6", "route", "show", "default"], "via fe80::20 dev l0 proto ra", true);
    nets.stack.stop_advertising(nic).unwrap();
    until(&nets.inside, &["-6", "route", "show", "default"], "via fe80::20", false);
}

#[test]
fn traceroutes_show_the_router_and_what_is_behind_it() {
    require_net!();
    integration_tests::require!(integration_tests::Need::Program("traceroute"));
    let nets = Nets::new();
    for ((option, router), far) in ["-4", "-6"].iter().zip(ROUTER_INSIDE).zip(HOST_OUTSIDE) {
        // What comes back from behind the router is about packets that it has translated.
        for method in [&[][..], &["-U", "-p", "53"], &["-I"], &["-T", "-p", "81"]] {
            let mut command = nets.inside.command("traceroute");
            command.args([option, "-n", "-q1", "-w5", "-m4"]).args(method).arg(far);
            let text = String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
            let hops: Vec<&str> =
                text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            assert_eq!(hops, [router, far], "{method:?}:\n{text}");
        }
    }
}
