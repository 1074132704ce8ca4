//! The filter's machine: arbitrary programs under arbitrary frames.

use std::sync::Arc;
use std::time::Duration;

use netstack::filter::machine::{
    AddressFamily, Base, BitwiseOp, Chain, ChainId, ChainKind, Comparison, ConnField, Data, Element,
    ElementKey, Expression, ExtensionKind, FibInput, FibResult, FlowDirection, KeyField, KeyPlace, MetaField,
    NatKind, NatRule, Payload, PayloadBase, Program, RateKind, RateState, Register, RejectRule, Rule, Set,
    SetId, SetKind, SetUpdate, Shift, UpdateKind, Verdict,
};
use netstack::filter::{Hook, Policy, Ports, RejectWith};

use crate::input::Input;
use crate::packets::Subject;

/// Drives the machine.
pub fn machine(data: &[u8]) {
    let mut input = Input::new(data);
    let subject = Subject::new();
    let stack = &subject.stack;
    let _server = subject.udp(53);
    // What makes no sense is refused.
    let _ = stack.set_filter_program(program(&mut input));
    while !input.is_empty() {
        match input.u8() % 8 {
            0..=5 => subject.inject_next(&mut input),
            6 => stack.advance_to(stack.now() + Duration::from_millis(u64::from(input.u16()) * 10)),
            _ => drop(stack.set_filter_program(program(&mut input))),
        }
        drop(subject.link.take());
    }
    stack.set_filter_program(Program::default()).expect("no rules at all");
    assert!(stack.tracked_flows().is_empty());
}

fn program(input: &mut Input<'_>) -> Program {
    let sets = (0..3).map(|_| Some(Arc::new(set(input)))).collect();
    let chains = (0..input.u8() % 5).map(|_| Some(Arc::new(chain(input)))).collect();
    Program { chains, sets }
}

fn chain(input: &mut Input<'_>) -> Chain {
    let hooks = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    let kinds = [ChainKind::Filter, ChainKind::Nat, ChainKind::Route, ChainKind::Filter];
    let base = input.bool().then(|| Base {
        family: AddressFamily::Both,
        hook: hooks[usize::from(input.u8() % 5)],
        priority: i32::from(input.u8()) * 4 - 400,
        kind: kinds[usize::from(input.u8() % 4)],
        policy: if input.u8().is_multiple_of(8) { Policy::Drop } else { Policy::Accept },
    });
    let rule = |input: &mut Input<'_>| {
        let expressions = (0..input.u8() % 6).map(|_| expression(input)).collect();
        Arc::new(Rule { expressions })
    };
    Chain { base, rules: (0..input.u8() % 4).map(|_| rule(input)).collect(), counter: None }
}

fn register(input: &mut Input<'_>) -> Register {
    Register::at_word(input.u8() % 16).expect("one of sixteen")
}

fn verdict(input: &mut Input<'_>) -> Verdict {
    let to = ChainId(u32::from(input.u8() % 6));
    [
        Verdict::Accept,
        Verdict::Drop,
        Verdict::Continue,
        Verdict::Break,
        Verdict::Return,
        Verdict::Jump(to),
        Verdict::Goto(to),
    ][usize::from(input.u8() % 7)]
}

fn set(input: &mut Input<'_>) -> Set {
    let kind = match input.u8() % 3 {
        0 => SetKind::Exact,
        1 => SetKind::Intervals,
        _ => SetKind::Fields(vec![KeyField { len: input.u8() }, KeyField { len: 2 }]),
    };
    let timeout = input.bool().then(|| Duration::from_millis(input.u16().into()));
    let set = Set::new(kind, usize::from(input.u8() % 80), timeout, 8);
    for _ in 0..input.u8() % 4 {
        let place = if input.bool() { KeyPlace::Start } else { KeyPlace::End };
        let len = usize::from(input.u8() % 20);
        let key_end = input.bool().then(|| input.take(len).to_vec());
        let key = ElementKey { key: input.take(len).to_vec(), place, key_end };
        let data = match input.u8() % 3 {
            0 => None,
            1 => Some(Data::Verdict(verdict(input))),
            _ => Some(Data::Value(input.take(len).to_vec())),
        };
        let is_catch_all = input.u8().is_multiple_of(8);
        set.insert(key, Element { data, is_catch_all, ..Element::plain() }).expect("room for eight");
    }
    set
}

fn expression(input: &mut Input<'_>) -> Expression {
    let to = register(input);
    let from = register(input);
    let bases = [PayloadBase::Link, PayloadBase::Network, PayloadBase::Transport, PayloadBase::Inner];
    let payload = Payload {
        base: bases[usize::from(input.u8() % 4)],
        offset: u32::from(input.u8() % 48),
        len: input.u8() % 70,
    };
    let set = SetId(u32::from(input.u8() % 4));
    let len = usize::from(input.u8() % 70);
    match input.u8() % 20 {
        0 | 1 => Expression::Load { from: payload, to },
        2 => Expression::Store { to: payload, from },
        3 => Expression::LoadExtension {
            kind: [ExtensionKind::Tcp, ExtensionKind::Ipv4, ExtensionKind::Ipv6][usize::from(input.u8() % 3)],
            number: input.u8(),
            offset: input.u8() % 8,
            len: input.bool().then(|| input.u8() % 8),
            to,
        },
        4 => Expression::StoreExtension { number: input.u8() % 9, offset: input.u8() % 8, len: 2, from },
        5 => Expression::Meta {
            field: [MetaField::Length, MetaField::InputName][usize::from(input.u8() % 2)],
            to,
        },
        6 => Expression::Flow {
            field: [ConnField::State, ConnField::Source, ConnField::Packets][usize::from(input.u8() % 3)],
            direction: input.bool().then_some(FlowDirection::Reply),
            to,
        },
        7 => Expression::SetFlowMark(from),
        8 => {
            let asked = FibInput {
                is_source: input.bool(),
                with_mark: input.bool(),
                with_input: input.bool(),
                with_output: false,
            };
            Expression::Fib {
                input: asked,
                result: [FibResult::Kind, FibResult::Name][usize::from(input.u8() % 2)],
                to,
            }
        }
        9 => Expression::Compare {
            register: from,
            comparison: Comparison::LessOrEqual,
            bytes: input.take(len).to_vec(),
        },
        10 => {
            let first = input.take(len).to_vec();
            let last = input.take(first.len()).to_vec();
            Expression::Range { register: from, range: (first, last), is_inverted: input.bool() }
        }
        11 => Expression::Bitwise {
            from,
            to,
            len: input.u8() % 70,
            op: match input.u8() % 3 {
                0 => BitwiseOp::MaskXor(input.take(len).to_vec(), input.take(len).to_vec()),
                1 => BitwiseOp::Shift(Shift::Left, u32::from(input.u8())),
                _ => BitwiseOp::Shift(Shift::Right, u32::from(input.u8())),
            },
        },
        12 => Expression::SwapBytes {
            from,
            to,
            len: input.u8() % 70,
            size: [2, 4, 8][usize::from(input.u8() % 3)],
        },
        13 => Expression::Immediate { to, bytes: input.take(len).to_vec() },
        14 => Expression::Verdict(verdict(input)),
        15 => {
            Expression::Lookup { set, key: from, to: input.bool().then_some(to), is_inverted: input.bool() }
        }
        16 => Expression::VerdictMap { set, key: from },
        17 => Expression::Update(SetUpdate {
            set,
            kind: [UpdateKind::Add, UpdateKind::Update, UpdateKind::Delete][usize::from(input.u8() % 3)],
            key: from,
            data: None,
            timeout: None,
            expressions: vec![Expression::Counter(Arc::default())],
            is_inverted: input.bool(),
        }),
        18 => Expression::Nat(NatRule {
            kind: [NatKind::Source, NatKind::Destination, NatKind::Masquerade, NatKind::Redirect]
                [usize::from(input.u8() % 4)],
            family: AddressFamily::Both,
            addresses: input.bool().then_some((from, to)),
            ports: input.bool().then_some((to, from)),
            choice: Ports::Near,
            keeps_host: input.bool(),
        }),
        _ => match input.u8() % 3 {
            0 => Expression::Reject(RejectRule::With(RejectWith::TcpReset)),
            1 => Expression::NoTrack,
            _ => RateState::new(
                RateKind::Bytes,
                input.bool(),
                input.u16().into(),
                1_000_000_000,
                input.u8().into(),
            )
            .map_or(Expression::NoTrack, |rate| Expression::Rate(Arc::new(rate))),
        },
    }
}
