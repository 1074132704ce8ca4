//! The machine of the packet filter on a router and on hosts, in virtual time.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Triple, Wire, recv};
use netstack::filter::machine::{
    AddressFamily, Base, BitwiseOp, Chain, ChainId, ChainKind, Comparison, CounterState, Data, Element,
    ElementKey, Expression, KeyPlace, MetaField, NatKind, NatRule, Payload, PayloadBase, Program,
    ProgramError, RateKind, RateState, Register, RejectRule, Rule, Set, SetId, SetKind, SetUpdate,
    UpdateKind, Verdict,
};
use netstack::filter::{Hook, Policy, Ports, RejectWith};
use netstack::options::{Family, RecvFlags, SendMeta};
use netstack::{Stack, UdpSocket};

const FIRST: Register = Register::at_word(0).unwrap();

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn udp(stack: &Stack, port: u16) -> UdpSocket {
    let socket = UdpSocket::new(stack, Family::V4);
    socket.bind(at("0.0.0.0", port)).unwrap();
    socket
}

/// A chain that packets start in.
fn base(hook: Hook, kind: ChainKind, policy: Policy, rules: Vec<Vec<Expression>>) -> Option<Arc<Chain>> {
    let priority = match (kind, hook) {
        (ChainKind::Nat, Hook::Prerouting | Hook::Output) => -100,
        (ChainKind::Nat, _) => 100,
        _ => 0,
    };
    let base = Base { family: AddressFamily::Both, hook, priority, kind, policy };
    Some(Arc::new(Chain { base: Some(base), rules: rules_of(rules), counter: None }))
}

fn user(rules: Vec<Vec<Expression>>) -> Option<Arc<Chain>> {
    Some(Arc::new(Chain { base: None, rules: rules_of(rules), counter: None }))
}

fn rules_of(rules: Vec<Vec<Expression>>) -> Vec<Arc<Rule>> {
    rules.into_iter().map(|expressions| Arc::new(Rule { expressions })).collect()
}

fn load(base: PayloadBase, offset: u32, len: u8) -> Expression {
    Expression::Load { from: Payload { base, offset, len }, to: FIRST }
}

fn is(bytes: &[u8]) -> Expression {
    Expression::Compare { register: FIRST, comparison: Comparison::Equal, bytes: bytes.to_vec() }
}

/// The destination port.
fn port(port: u16) -> [Expression; 2] {
    [load(PayloadBase::Transport, 2, 2), is(&port.to_be_bytes())]
}

fn with(tests: impl IntoIterator<Item = Expression>, last: Expression) -> Vec<Expression> {
    tests.into_iter().chain([last]).collect()
}

/// Which of some ports get through.
fn through(wire: &mut Wire, ports: &[u16]) -> Vec<u16> {
    let client = udp(&wire.a.stack, 5000);
    let servers: Vec<_> = ports.iter().map(|port| udp(&wire.b.stack, *port)).collect();
    for port in ports {
        let meta = SendMeta { to: Some(at("10.0.0.2", *port)), ..SendMeta::default() };
        client.try_send(&mut &b"x"[..], &meta).unwrap();
        wire.settle();
    }
    let got = |socket: &UdpSocket| socket.try_recv(&mut Vec::new(), RecvFlags::default()).is_ok();
    ports.iter().zip(&servers).filter(|(_, server)| got(server)).map(|(port, _)| *port).collect()
}

fn set(wire: &Wire, program: Program) {
    wire.b.stack.set_filter_program(program).unwrap();
}

#[test]
fn rules_compare_and_decide() {
    let mut wire = Wire::new();
    let counter = Arc::<CounterState>::default();
    let rules = vec![
        with(port(7), Expression::Verdict(Verdict::Drop)),
        with(
            [load(PayloadBase::Network, 12, 4), is(&[10, 0, 0, 1]), Expression::Counter(counter.clone())],
            Expression::Verdict(Verdict::Jump(ChainId(1))),
        ),
    ];
    let own = user(vec![
        with(port(8), Expression::Verdict(Verdict::Accept)),
        with(port(9), Expression::Verdict(Verdict::Return)),
        vec![Expression::Verdict(Verdict::Drop)],
    ]);
    let chains = vec![base(Hook::Input, ChainKind::Filter, Policy::Accept, rules), own];
    set(&wire, Program { chains, sets: Vec::new() });
    assert_eq!(through(&mut wire, &[7, 8, 9, 10]), [8, 9]);
    // IP, UDP and a byte.
    assert_eq!(counter.get(), (3, 3 * 29));
    set(&wire, Program::default());
    assert_eq!(through(&mut wire, &[7, 8, 9, 10]), [7, 8, 9, 10]);
}

#[test]
fn intervals_end_before_their_end_and_maps_lead_to_verdicts() {
    let mut wire = Wire::new();
    let ports = Set::new(SetKind::Intervals, 2, None, 100);
    let edge = |port: u16, place, verdict: Option<Verdict>| {
        let key = ElementKey { key: port.to_be_bytes().to_vec(), place, key_end: None };
        ports.insert(key, Element { data: verdict.map(Data::Verdict), ..Element::plain() }).unwrap();
    };
    // 7 to 8 is dropped, 9 leads to a chain that drops, 20 and what follows is dropped.
    edge(7, KeyPlace::Start, Some(Verdict::Drop));
    edge(9, KeyPlace::End, None);
    edge(9, KeyPlace::Start, Some(Verdict::Goto(ChainId(1))));
    edge(10, KeyPlace::End, None);
    edge(20, KeyPlace::Start, Some(Verdict::Drop));
    let rule = vec![load(PayloadBase::Transport, 2, 2), Expression::VerdictMap { set: SetId(0), key: FIRST }];
    let chains = vec![
        base(Hook::Input, ChainKind::Filter, Policy::Accept, vec![rule]),
        user(vec![vec![Expression::Verdict(Verdict::Drop)]]),
    ];
    set(&wire, Program { chains, sets: vec![Some(Arc::new(ports))] });
    assert_eq!(through(&mut wire, &[6, 7, 8, 9, 10, 19, 20, 21]), [6, 10, 19]);
}

#[test]
fn packets_fill_sets_that_forget() {
    let mut wire = Wire::new();
    let seen = Arc::new(Set::new(SetKind::Exact, 4, Some(Duration::from_secs(10)), 4));
    let update = SetUpdate {
        set: SetId(0),
        kind: UpdateKind::Add,
        key: FIRST,
        data: None,
        timeout: None,
        expressions: vec![Expression::Counter(Arc::default())],
        is_inverted: false,
    };
    let lookup = Expression::Lookup { set: SetId(0), key: FIRST, to: None, is_inverted: false };
    let rules = vec![
        with([load(PayloadBase::Network, 12, 4), lookup], Expression::Verdict(Verdict::Drop)),
        vec![load(PayloadBase::Network, 12, 4), Expression::Update(update)],
    ];
    let chains = vec![base(Hook::Input, ChainKind::Filter, Policy::Accept, rules)];
    set(&wire, Program { chains, sets: vec![Some(seen.clone())] });
    assert_eq!(through(&mut wire, &[7, 8]), [7]);
    assert_eq!(seen.len(), 1);
    let later = wire.a.stack.now() + Duration::from_secs(11);
    wire.a.stack.advance_to(later);
    wire.b.stack.advance_to(later);
    assert_eq!(through(&mut wire, &[7, 8]), [7]);
}

#[test]
fn rates_and_bits() {
    let mut wire = Wire::new();
    let rate = RateState::new(RateKind::Packets, true, 1, 1_000_000_000, 2).unwrap();
    let mask = BitwiseOp::MaskXor(vec![0xff, 0xf0], vec![0, 0]);
    let masked = Expression::Bitwise { from: FIRST, to: FIRST, len: 2, op: mask };
    // Ports 16 to 31: two pass and the rest is too much.
    let rule = vec![
        load(PayloadBase::Transport, 2, 2),
        masked,
        is(&16_u16.to_be_bytes()),
        Expression::Rate(Arc::new(rate)),
        Expression::Verdict(Verdict::Drop),
    ];
    let chains = vec![base(Hook::Input, ChainKind::Filter, Policy::Accept, vec![rule])];
    set(&wire, Program { chains, sets: Vec::new() });
    assert_eq!(through(&mut wire, &[15, 16, 20, 31, 17, 32]), [15, 16, 20, 32]);
}

#[test]
fn destinations_are_translated_and_changed_headers_have_right_checksums() {
    let mut net = Triple::new();
    let address = Register::at_word(1).unwrap();
    let to_port = Register::at_word(2).unwrap();
    let nat = NatRule {
        kind: NatKind::Destination,
        family: AddressFamily::V4,
        addresses: Some((address, address)),
        ports: Some((to_port, to_port)),
        choice: Ports::Near,
        keeps_host: false,
    };
    let forward = vec![
        load(PayloadBase::Transport, 2, 2),
        is(&80_u16.to_be_bytes()),
        Expression::Immediate { to: address, bytes: vec![10, 2, 0, 2] },
        Expression::Immediate { to: to_port, bytes: 7_u16.to_be_bytes().to_vec() },
        Expression::Nat(nat),
    ];
    let masquerade = NatRule {
        kind: NatKind::Masquerade,
        family: AddressFamily::Both,
        addresses: None,
        ports: None,
        choice: Ports::Near,
        keeps_host: false,
    };
    // The type of service, and the source port as it is: bytes 0 and 1 of the headers.
    let change = vec![
        Expression::Immediate { to: FIRST, bytes: vec![0x45, 0xb8] },
        Expression::Store { to: Payload { base: PayloadBase::Network, offset: 0, len: 2 }, from: FIRST },
    ];
    let chains = vec![
        base(Hook::Prerouting, ChainKind::Nat, Policy::Accept, vec![forward]),
        base(Hook::Postrouting, ChainKind::Nat, Policy::Accept, vec![vec![Expression::Nat(masquerade)]]),
        base(Hook::Forward, ChainKind::Filter, Policy::Accept, vec![change]),
    ];
    net.router.set_filter_program(Program { chains, sets: Vec::new() }).unwrap();
    let (server, client) = (udp(&net.right.stack, 7), udp(&net.left.stack, 5000));
    let meta = SendMeta { to: Some(at("10.1.0.1", 80)), ..SendMeta::default() };
    client.try_send(&mut &b"question"[..], &meta).unwrap();
    net.settle();
    let (data, datagram) = recv(&server);
    assert_eq!((&data[..], datagram.from), (&b"question"[..], at("10.2.0.1", 5000)));
    let back = SendMeta { to: Some(datagram.from), ..SendMeta::default() };
    server.try_send(&mut &b"answer"[..], &back).unwrap();
    net.settle();
    assert_eq!(recv(&client).1.from, at("10.1.0.1", 80));
    let changed = net.seen.iter().filter(|(_, frame)| frame[12..14] == [8, 0] && frame[15] == 0xb8).count();
    assert!(changed >= 2, "{changed} packets with the type of service");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let wire = Wire::new();
    let jump = |to| vec![vec![Expression::Verdict(Verdict::Jump(ChainId(to)))]];
    let start = |rules| base(Hook::Input, ChainKind::Filter, Policy::Accept, rules);
    let refused = |chains| wire.b.stack.set_filter_program(Program { chains, sets: Vec::new() }).err();
    let circle = vec![start(jump(1)), user(jump(2)), user(jump(1))];
    assert!(matches!(refused(circle), Some(ProgramError::TooDeep(_))));
    let long: Vec<_> =
        (0..20).map(|index| if index == 0 { start(jump(1)) } else { user(jump(index + 1)) }).collect();
    assert!(matches!(refused(long), Some(ProgramError::TooDeep(_))));
    let reject = || vec![vec![Expression::Reject(RejectRule::With(RejectWith::PortUnreachable))]];
    assert_eq!(refused(vec![start(reject())]), None);
    let late = base(Hook::Postrouting, ChainKind::Filter, Policy::Accept, reject());
    assert_eq!(refused(vec![late]), Some(ProgramError::NotForHook(ChainId(0))));
    // A verdict may lead to a slot that is empty: packets go on.
    assert_eq!(refused(vec![start(jump(9))]), None);
    let name = Expression::Meta { field: MetaField::InputName, to: FIRST };
    assert!(FIRST.has_room(64) && !FIRST.has_room(65) && !Register::at_word(15).unwrap().has_room(5));
    assert_eq!(refused(vec![start(vec![vec![name]])]), None);
}
