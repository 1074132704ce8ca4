use super::*;

fn sample(v6: bool) -> Packet {
    let (source, destination) = if v6 { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
    let segment = Segment {
        source_port: 1,
        destination_port: 2,
        seq: 100,
        ack: 200,
        flags: flags::ACK | flags::PSH,
        window: 77,
        urgent: 0,
        options: vec![
            TcpOption::Nop,
            TcpOption::Nop,
            TcpOption::Timestamps(5, 6),
            TcpOption::Nop,
            TcpOption::Nop,
            TcpOption::Sack(vec![(300, 400)]),
        ],
        payload: fill(Direction::FromPeer, 99, 33),
    };
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        ecn: 2,
        tos: 0x10,
        ttl: 63,
        df: true,
        has_good_checksum: true,
        label: if v6 { 0x9_8765 } else { 0 },
        ip_options: if v6 { Vec::new() } else { vec![0x83, 3, 4, 0] },
        extensions: if v6 { vec![(0, vec![1, 4, 0, 0, 0, 0]), (60, vec![1; 14])] } else { Vec::new() },
        body: Body::Tcp(segment),
    }
}

#[test]
fn what_is_built_is_parsed_back() {
    for v6 in [false, true] {
        let packet = sample(v6);
        assert_eq!(parse(&build(&packet)), Some(packet));
    }
}

#[test]
fn a_bad_checksum_is_seen() {
    let packet = Packet { has_good_checksum: false, ..sample(false) };
    assert_eq!(parse(&build(&packet)), Some(packet));
}

#[test]
fn truncated_packets_are_refused() {
    let bytes = build(&sample(false));
    for len in 0..bytes.len() {
        assert_eq!(parse(&bytes[..len]), None, "{len}");
    }
}

#[test]
fn the_notation_is_that_of_scripts() {
    let packet = sample(false);
    let shown = Shown { packet: &packet, seq_base: 99, ack_base: 199 };
    let text = "[ect0, opts 83030400] P. 1:34(33) ack 1 rawwin 77 <nop,nop,ts 5 6,nop,nop,sack 101:201>";
    assert_eq!(shown.to_string(), text);
}

#[test]
fn payload_tells_where_it_belongs() {
    let stream = fill(Direction::FromStack, 0, 5000);
    assert_eq!(fill(Direction::FromStack, 1000, 100), stream[1000..1100]);
    for shift in 1..3000 {
        assert_ne!(stream[..64], stream[shift..shift + 64], "{shift}");
    }
    assert_ne!(fill(Direction::FromPeer, 0, 64), stream[..64]);
}
