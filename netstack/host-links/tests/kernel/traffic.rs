//! Programs that carry data: socat, netcat and curl, over both families.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use integration_tests::wait_until;
use netstack::net::{TcpStream, UdpSocket};

use crate::common::{KERNEL, LIMIT, Net, STACK, Way};
use crate::require_tools;
use crate::services::{ECHO, PAGE, Services, WEB};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

/// An address as socat, curl and netcat want it.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

#[test]
fn socat_streams_and_datagrams_come_back() {
    require_tools!("socat");
    let net = Net::new(Way::Tap, 1500);
    let services = Services::start(&net.stack);
    for (version, address) in [4, 6].iter().zip(STACK.map(bracketed)) {
        let data = pattern(3 << 20);
        let options =
            ["", ",nodelay", ",sndbuf=4096,rcvbuf=4096", ",mss=536", ",keepalive,keepidle=1,keepintvl=1"];
        for option in options {
            let line = format!("socat -T 30 -t 30 - TCP{version}:{address}:{ECHO}{option}");
            let back = net.run_with(&line, data.clone()).ok();
            assert!(back.stdout == data, "{line}: {} of {} bytes", back.stdout.len(), data.len());
        }
        for len in [1, 1000, 1473, 8000] {
            let data = pattern(len);
            let line = format!("socat -b 65000 -t 0.3 - UDP{version}:{address}:{ECHO}");
            let back = net.run_with(&line, data.clone()).ok();
            assert!(back.stdout == data, "{line}: {} of {len} bytes", back.stdout.len());
        }
    }
    services.finish(&net);
}

#[test]
fn socat_serves_the_stack() {
    require_tools!("socat");
    let net = Net::new(Way::Tap, 1500);
    for (version, address) in [4, 6].iter().zip(KERNEL.map(bracketed)) {
        let _tcp = net.start(&format!("socat TCP{version}-LISTEN:4000,fork,reuseaddr EXEC:cat"));
        let _udp = net.start(&format!("socat UDP{version}-RECVFROM:4000,fork PIPE"));
        let peer: SocketAddr = format!("{address}:4000").parse().unwrap();
        let mut stream = None;
        wait_until("socat", LIMIT, || {
            stream = TcpStream::connect_timeout(&net.stack, &peer, LIMIT).ok();
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let data = pattern(1 << 20);
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            let (mut writer, mut reader, data) = (&stream, &stream, &data);
            scope.spawn(move || {
                writer.write_all(data).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            reader.read_to_end(&mut received).unwrap();
        });
        assert!(received == data, "{} of {} bytes", received.len(), data.len());
        let socket = UdpSocket::bind(&net.stack, (any_of(peer), 0)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect(peer).unwrap();
        socket.send(b"hello").unwrap();
        let mut answer = [0; 100];
        let len = socket.recv(&mut answer).unwrap();
        assert_eq!(&answer[..len], b"hello");
    }
}

fn any_of(peer: SocketAddr) -> IpAddr {
    if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

#[test]
fn groups_and_broadcasts_of_socat_reach_those_who_listen() {
    require_tools!("socat");
    let net = Net::new(Way::Tap, 1500);
    let nic = net.stack.nic_by_name("eth0");
    let receive = |socket: &UdpSocket| {
        let mut data = [0; 100];
        let len = socket.recv(&mut data).unwrap();
        String::from_utf8_lossy(&data[..len]).into_owned()
    };
    let v4 = UdpSocket::bind(&net.stack, "0.0.0.0:5000").unwrap();
    let v6 = UdpSocket::bind(&net.stack, "[::]:5001").unwrap();
    for socket in [&v4, &v6] {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
    }
    v4.join_multicast("239.1.2.3".parse().unwrap(), nic).unwrap();
    v6.join_multicast("ff05::1:3".parse().unwrap(), nic).unwrap();
    for (line, text, socket) in [
        ("socat - UDP4-DATAGRAM:239.1.2.3:5000,ip-multicast-if=10.9.0.1", "to the group", &v4),
        ("socat - UDP4-DATAGRAM:10.9.0.255:5000,broadcast", "to the subnet", &v4),
        ("socat - UDP4-DATAGRAM:255.255.255.255:5000,broadcast,so-bindtodevice=k0", "to everybody", &v4),
        ("socat - UDP6-DATAGRAM:[ff05::1:3]:5001,so-bindtodevice=k0", "to the group of six", &v6),
    ] {
        net.run_with(line, text.as_bytes().to_vec()).ok();
        assert_eq!(receive(socket), text, "{line}");
    }
    // A group that nobody joined, and one that was left.
    v4.leave_multicast("239.1.2.3".parse().unwrap(), nic).unwrap();
    v4.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for group in ["239.1.2.3", "239.9.9.9"] {
        net.run_with(
            &format!("socat - UDP4-DATAGRAM:{group}:5000,ip-multicast-if=10.9.0.1"),
            b"nobody".to_vec(),
        )
        .ok();
        v4.recv(&mut [0; 100]).unwrap_err();
    }
}

#[test]
fn curl_and_netcat_work_over_both_families() {
    require_tools!("curl", "nc");
    let net = Net::new(Way::Tap, 1500);
    let services = Services::start(&net.stack);
    for (option, address) in ["-4", "-6"].iter().zip(STACK) {
        let url = format!("http://{}:{WEB}/", bracketed(address));
        let page = net.run(&format!("curl {option} -s -g --max-time 30 {url}")).ok();
        assert_eq!(page.out(), PAGE);
        let pages = net
            .run(&format!("curl {option} -s -g --parallel --max-time 60 {}", vec![url; 20].join(" ")))
            .ok();
        assert_eq!(pages.out(), PAGE.repeat(20));
        let back = net.run_with(&format!("nc {option} -N -w 30 {address} {ECHO}"), pattern(300_000)).ok();
        assert!(back.stdout == pattern(300_000), "{} bytes", back.stdout.len());
        let back = net.run_with(&format!("nc {option} -u -w 1 {address} {ECHO}"), b"over UDP".to_vec());
        assert_eq!(back.out(), "over UDP");
        assert_ne!(net.run(&format!("nc {option} -z -w 5 {address} 81")).status, 0);
        net.run(&format!("nc {option} -z -w 5 {address} {WEB}")).ok();
    }
    // The link's own address, with the link.
    let nic = net.stack.nic_by_name("eth0").unwrap();
    net.stack.add_address(nic, "fe80::2/64".parse().unwrap()).unwrap();
    let page = net.run(&format!("curl -6 -s -g --max-time 30 http://[fe80::2%25k0]:{WEB}/")).ok();
    assert_eq!(page.out(), PAGE);
    services.finish(&net);
}
