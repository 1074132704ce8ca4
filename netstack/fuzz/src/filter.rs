//! A router with arbitrary rules, connection tracking and translation, under arbitrary frames.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use netstack::filter::{
    Chain, ConnState, Hook, NatRange, Policy, Ports, RejectWith, Rule, Ruleset, Table, Target, Test,
};
use netstack::link::channel::ChannelLink;
use netstack::link::{Capabilities, Medium};
use netstack::options::Family;
use netstack::wire::ip::Protocol;
use netstack::wire::ipv4::Ipv4Repr;
use netstack::wire::ipv6::Ipv6Repr;
use netstack::wire::tcp::TcpFlags;
use netstack::{MacAddr, NicId};

use crate::input::Input;
use crate::packets::Subject;

/// A host beyond the router.
const FAR: [&str; 2] = ["10.1.0.9", "fd01::9"];

/// Drives the filter, the connection tracking and the translation of a router.
pub fn filter(data: &[u8]) {
    let mut input = Input::new(data);
    let subject = Subject::new();
    let (out_link, out_nic) = second_side(&subject);
    let stack = &subject.stack;
    stack.set_tracking_limit(LIMIT).expect("more than none");
    let server = subject.udp(53);
    for family in [Family::V4, Family::V6] {
        // What makes no sense where it stands is refused.
        let _ = stack.set_filter(family, ruleset(&mut input, family));
    }
    let mut outside: Vec<Vec<u8>> = Vec::new();
    while !input.is_empty() {
        match input.u8() % 8 {
            0..=4 => subject.inject_next(&mut input),
            5 => {
                // What the far side answers with is whatever went there, turned round.
                for mut frame in outside.drain(..) {
                    turn_round(&mut frame);
                    stack.inject(out_nic, frame);
                }
            }
            6 => stack.advance_to(stack.now() + Duration::from_millis(u64::from(input.u16()) * 10)),
            _ => {
                let family = if input.bool() { Family::V6 } else { Family::V4 };
                let _ = stack.set_filter(family, ruleset(&mut input, family));
            }
        }
        subject.link.take().iter().for_each(|packet| check(&packet.to_vec()));
        for packet in out_link.take() {
            let frame = packet.to_vec();
            check(&frame);
            outside.push(frame);
        }
        let flows = stack.tracked_flows().len();
        assert!(flows <= LIMIT, "{flows} flows");
    }
    drop(server);
    // Longer than an idle connection is remembered.
    stack.advance_to(stack.now() + Duration::from_secs(6 * 24 * 3600));
    assert!(stack.tracked_flows().is_empty(), "{:?}", stack.tracked_flows());
    let gauges = stack.gauges();
    let left: Vec<_> = gauges.entries().filter(|(name, value)| *value != 0 && *name != "timers").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The network behind the router.
fn second_side(subject: &Subject) -> (Arc<ChannelLink>, NicId) {
    let stack = &subject.stack;
    let medium = Medium::Ethernet(MacAddr([2, 0, 0, 0, 1, 1]));
    let link = ChannelLink::new(medium, 1400, Capabilities::default(), 4096);
    let nic = stack.add_nic("out0", link.clone()).expect("another NIC");
    for address in ["10.1.0.1/24", "fd01::1/64"] {
        stack.add_address(nic, address.parse().expect("well-formed")).expect("a new address");
    }
    for far in FAR {
        let far = far.parse().expect("well-formed");
        stack.add_neighbour(nic, far, MacAddr([2, 0, 0, 0, 1, 9])).expect("a valid neighbour");
    }
    for nic in [subject.nic, nic] {
        let forwards = stack.set_nic_options(nic, |options| {
            options.forwards_v4 = true;
            options.forwards_v6 = true;
        });
        forwards.expect("the NIC is there");
    }
    link.take();
    (link, nic)
}

fn ruleset(input: &mut Input<'_>, family: Family) -> Ruleset {
    let mut chains = Vec::new();
    for _ in 0..input.u8() % 5 {
        let table = [Table::Raw, Table::Mangle, Table::Nat, Table::Filter][usize::from(input.u8() % 4)];
        let policy = if input.u8().is_multiple_of(8) { Policy::Drop } else { Policy::Accept };
        let mut chain = match input.u8() % 6 {
            0 => Chain::builtin(table, Hook::Prerouting, policy),
            1 => Chain::builtin(table, Hook::Input, policy),
            2 => Chain::builtin(table, Hook::Forward, policy),
            3 => Chain::builtin(table, Hook::Output, policy),
            4 => Chain::builtin(table, Hook::Postrouting, policy),
            _ => Chain::user(table, "own"),
        };
        for _ in 0..input.u8() % 4 {
            chain = chain.rule(rule(input, family));
        }
        chains.push(chain);
    }
    Ruleset { chains }
}

fn rule(input: &mut Input<'_>, family: Family) -> Rule {
    let far: IpAddr = FAR[usize::from(family == Family::V6)].parse().expect("well-formed");
    let range = |input: &mut Input<'_>| {
        let start = input.u16();
        input.bool().then(|| start..=start.saturating_add(input.u8().into()))
    };
    let target = match input.u8() % 12 {
        0 => Target::Accept,
        1 => Target::Drop,
        2 => Target::Reject(RejectWith::PortUnreachable),
        3 => Target::Reject(RejectWith::TcpReset),
        4 => Target::Return,
        5 => Target::Jump("own".to_owned()),
        6 => Target::Mark { value: input.u32(), mask: input.u32() },
        7 => Target::NoTrack,
        8 => Target::SourceNat(NatRange { addresses: None, ports: range(input), choice: Ports::Near }),
        9 => Target::DestinationNat(NatRange {
            addresses: Some(far..=far),
            ports: range(input),
            choice: Ports::Near,
        }),
        10 => Target::Masquerade { ports: range(input), choice: Ports::Near },
        _ => Target::Redirect { ports: range(input), choice: Ports::Near },
    };
    let mut rule = Rule::new(target);
    for _ in 0..input.u8() % 3 {
        let test = match input.u8() % 9 {
            0 => Test::Protocol(Protocol(input.u8())),
            1 => Test::DestinationPort(range(input).into_iter().collect()),
            2 => Test::EitherPort(range(input).into_iter().collect()),
            3 => {
                let (mask, set) = (input.u8(), input.u8());
                Test::TcpFlags {
                    mask: TcpFlags::from_bits_truncate(mask),
                    set: TcpFlags::from_bits_truncate(set),
                }
            }
            4 => Test::Icmp { kind: input.u8(), codes: input.u8()..=input.u8() },
            5 => Test::State(ConnState::from_bits_truncate(input.u8())),
            6 => Test::OutputNic("out+".to_owned()),
            7 => {
                Test::Limit { interval: Duration::from_millis(input.u16().into()), burst: input.u8().into() }
            }
            _ => Test::Ttl(input.u8()..=u8::MAX),
        };
        rule = if input.u8().is_multiple_of(4) { rule.unless(test) } else { rule.when(test) };
    }
    rule
}

/// Makes an answer of a frame: stations, addresses and ports change places, which no checksum minds.
fn turn_round(frame: &mut [u8]) {
    let (addresses, ports) = match frame.get(14).map(|byte| byte >> 4) {
        Some(4) => (26..34, 34..38),
        Some(6) => (22..54, 54..58),
        _ => return,
    };
    for range in [0..12, addresses, ports] {
        if let Some(pair) = frame.get_mut(range) {
            let half = pair.len() / 2;
            pair.rotate_left(half);
        }
    }
}

/// What leaves is well-formed, whatever came.
fn check(frame: &[u8]) {
    let packet = &frame[14..];
    match frame[12..14] {
        [0x08, 0x00] => assert!(Ipv4Repr::parse(packet).is_ok(), "{packet:02x?}"),
        [0x86, 0xdd] => assert!(Ipv6Repr::parse(packet).is_ok(), "{packet:02x?}"),
        _ => {}
    }
}

/// Few, so that flows are forgotten early.
const LIMIT: usize = 8;
