//! The way of a packet through a base chain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::expression::{
    BitwiseOp, Comparison, Expression, LogRule, NatKind, NatRule, ProxyRule, RejectRule, SetUpdate, Shift,
    UpdateKind,
};
use super::set::{Data, Element, ElementKey, Note};
use super::state::Object;
use super::{
    Chain, ChainId, CompiledProgram, MAX_JUMPS, REGISTER_BYTES, Register, SetId, Verdict, extension, load,
    store,
};
use crate::filter::owner::{self, ProxyPlace};
use crate::filter::rule::{NatRange, Policy};
use crate::filter::subject::Subject;
use crate::filter::{log, test, traverse};

/// What a base chain decided; the same as a table does.
pub(in crate::filter) type Ran = traverse::Verdict;

/// The registers while a packet is in a base chain.
#[derive(Debug)]
pub(super) struct Registers([u8; REGISTER_BYTES]);

impl Registers {
    /// Writes bytes; the rest of the last word is zero, as in Linux.
    pub(super) fn put(&mut self, to: Register, bytes: &[u8]) {
        let at = to.offset();
        let end = (at + bytes.len()).next_multiple_of(4).min(REGISTER_BYTES);
        self.0[at..end].fill(0);
        let len = bytes.len().min(end - at);
        self.0[at..at + len].copy_from_slice(&bytes[..len]);
    }

    pub(super) fn put_number(&mut self, to: Register, number: u32) {
        self.put(to, &number.to_ne_bytes());
    }

    pub(super) fn bytes(&self, from: Register, len: usize) -> &[u8] {
        let at = from.offset();
        &self.0[at..(at + len).min(REGISTER_BYTES)]
    }

    fn address(&self, from: Register, is_v4: bool) -> IpAddr {
        match is_v4 {
            true => {
                let bytes: [u8; 4] = self.bytes(from, 4).try_into().unwrap_or_default();
                IpAddr::V4(Ipv4Addr::from(bytes))
            }
            false => {
                let bytes: [u8; 16] = self.bytes(from, 16).try_into().unwrap_or_default();
                IpAddr::V6(Ipv6Addr::from(bytes))
            }
        }
    }

    fn port(&self, from: Register) -> u16 {
        self.bytes(from, 2).try_into().map_or(0, u16::from_be_bytes)
    }

    fn number(&self, from: Register) -> u32 {
        self.bytes(from, 4).try_into().map_or(0, u32::from_ne_bytes)
    }
}

/// Shows a packet to a base chain.
pub(in crate::filter) fn run(program: &CompiledProgram, start: ChainId, subject: &mut Subject<'_>) -> Ran {
    let Some(base) = program.chain(start) else { return Ran::Accept };
    let mut machine = Machine { program, registers: Registers([0; REGISTER_BYTES]), left: MAX_RULES };
    match machine.chain(base, subject) {
        ControlFlow::Break(ran) => ran,
        ControlFlow::Continue(()) => {
            if let Some(counter) = &base.counter {
                counter.count(subject.transit.len());
            }
            match base.base.map_or(Policy::Accept, |base| base.policy) {
                Policy::Accept => Ran::Accept,
                Policy::Drop => Ran::Drop,
            }
        }
    }
}

struct Machine<'a> {
    program: &'a CompiledProgram,
    registers: Registers,
    /// How many rules may still be looked at.
    left: usize,
}

/// How an expression ended.
enum Step {
    Next,
    Break,
    Verdict(Verdict),
    Done(Ran),
}

impl<'a> Machine<'a> {
    /// Runs a chain and those that it leads to. Continues where all rules let the packet pass.
    fn chain(&mut self, start: &'a Chain, subject: &mut Subject<'_>) -> ControlFlow<Ran> {
        let mut back: Vec<(&Chain, usize)> = Vec::new();
        let (mut chain, mut at) = (start, 0);
        loop {
            let next = match chain.rules.get(at) {
                Some(rule) => {
                    at += 1;
                    match self.left.checked_sub(1) {
                        Some(left) => self.left = left,
                        // Chains that lead to each other in ever more ways: not for real packets.
                        None => return ControlFlow::Break(Ran::Drop),
                    }
                    self.rule(&rule.expressions, subject)?
                }
                None => Verdict::Return,
            };
            match next {
                Verdict::Accept => return ControlFlow::Break(Ran::Accept),
                Verdict::Drop => return ControlFlow::Break(Ran::Drop),
                Verdict::Continue | Verdict::Break => {}
                Verdict::Return => match back.pop() {
                    Some(place) => (chain, at) = place,
                    None => return ControlFlow::Continue(()),
                },
                Verdict::Jump(to) | Verdict::Goto(to) => {
                    let Some(to) = self.program.chain(to) else { continue };
                    if let Verdict::Jump(_) = next {
                        // Checked when the program was set; sets that packets fill have no verdicts.
                        if back.len() >= MAX_JUMPS {
                            return ControlFlow::Break(Ran::Drop);
                        }
                        back.push((chain, at));
                    }
                    (chain, at) = (to, 0);
                }
            }
        }
    }

    fn rule(&mut self, expressions: &[Expression], subject: &mut Subject<'_>) -> ControlFlow<Ran, Verdict> {
        for expression in expressions {
            match self.expression(expression, subject) {
                Step::Next | Step::Verdict(Verdict::Continue) => {}
                Step::Break => return ControlFlow::Continue(Verdict::Break),
                Step::Verdict(verdict) => return ControlFlow::Continue(verdict),
                Step::Done(ran) => return ControlFlow::Break(ran),
            }
        }
        ControlFlow::Continue(Verdict::Continue)
    }

    fn expression(&mut self, expression: &Expression, subject: &mut Subject<'_>) -> Step {
        let registers = &mut self.registers;
        let go_on = |goes_on: bool| if goes_on { Step::Next } else { Step::Break };
        match expression {
            Expression::Load { from, to } => go_on(load::payload(*from, *to, subject, registers).is_some()),
            Expression::Store { to, from } => {
                let value = registers.bytes(*from, usize::from(to.len)).to_vec();
                go_on(store::payload(*to, &value, subject).is_some())
            }
            Expression::LoadExtension { kind, number, offset, len, to } => {
                let wanted = extension::Wanted { kind: *kind, number: *number, offset: *offset, len: *len };
                go_on(extension::load(&wanted, *to, subject, registers).is_some())
            }
            Expression::StoreExtension { number, offset, len, from } => {
                let value = registers.bytes(*from, usize::from(*len)).to_vec();
                go_on(extension::store(*number, *offset, &value, subject).is_some())
            }
            Expression::Meta { field, to } => go_on(load::meta(*field, *to, subject, registers).is_some()),
            Expression::SetMark(from) => {
                subject.transit.packet.meta.mark = registers.number(*from);
                Step::Next
            }
            Expression::Ignore(_) => Step::Next,
            Expression::Flow { field, direction, to } => {
                go_on(load::flow(*field, *direction, *to, subject, registers).is_some())
            }
            Expression::SetFlowMark(from) => {
                if let Some(tracking) = subject.tracking {
                    tracking.conn.set_mark(registers.number(*from));
                }
                Step::Next
            }
            Expression::Route { field, to } => go_on(load::route(*field, *to, subject, registers).is_some()),
            Expression::Fib { input, result, to } => {
                load::fib(*input, *result, *to, subject, registers);
                Step::Next
            }
            Expression::Compare { .. }
            | Expression::Range { .. }
            | Expression::Bitwise { .. }
            | Expression::SwapBytes { .. }
            | Expression::Immediate { .. } => self.compute(expression),
            Expression::Verdict(verdict) => Step::Verdict(*verdict),
            Expression::Lookup { .. }
            | Expression::VerdictMap { .. }
            | Expression::Update(_)
            | Expression::ObjectMap { .. } => self.set_expression(expression, subject),
            Expression::Counter(_)
            | Expression::Quota(_)
            | Expression::Rate(_)
            | Expression::Last(_)
            | Expression::Object(_) => go_on(count(expression, subject)),
            Expression::Nat(rule) => self.nat(rule, subject),
            Expression::Proxy(rule) => go_on(self.proxy(rule, subject)),
            Expression::Socket { field, to } => {
                go_on(load::socket(*field, *to, subject, registers).is_some())
            }
            Expression::Reject(rule) => Step::Done(Ran::Reject(match *rule {
                RejectRule::With(with) => with,
                RejectRule::ByFamily(v4, _) if subject.transit.is_v4() => v4,
                RejectRule::ByFamily(_, v6) => v6,
            })),
            Expression::Log(rule) => {
                if let LogRule::Line(prefix) = rule {
                    log::write(subject, prefix);
                }
                Step::Next
            }
            Expression::NoTrack => {
                subject.leave_untracked();
                Step::Next
            }
            Expression::Number { to, modulus, offset, count } => {
                let number = match count {
                    Some(count) => {
                        let step = |last: u32| Some(last.wrapping_add(1) % modulus.max(&1));
                        // Relaxed: a number of its own. The new value is what counts, as in Linux.
                        let last = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
                        last.unwrap_or(0).wrapping_add(1) % modulus.max(&1)
                    }
                    None => subject.core.secrets.random_below((*modulus).max(1)),
                };
                registers.put_number(*to, number.wrapping_add(*offset));
                Step::Next
            }
            Expression::Test(tests) => go_on(test::all_pass(&tests.0, subject)),
            Expression::Target(target) => match traverse::apply(target, subject) {
                Some(verdict) => Step::Done(verdict),
                None => Step::Next,
            },
        }
    }

    /// Expressions that look at registers only.
    fn compute(&mut self, expression: &Expression) -> Step {
        let registers = &mut self.registers;
        let goes_on = match expression {
            Expression::Compare { register, comparison, bytes } => {
                let order = registers.bytes(*register, bytes.len()).cmp(bytes.as_slice());
                match comparison {
                    Comparison::Equal => order.is_eq(),
                    Comparison::NotEqual => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                }
            }
            Expression::Range { register, range: (first, last), is_inverted } => {
                let value = registers.bytes(*register, first.len());
                (first.as_slice() <= value && value <= last.as_slice()) != *is_inverted
            }
            Expression::Bitwise { from, to, len, op } => {
                let mut bytes = registers.bytes(*from, usize::from(*len)).to_vec();
                bitwise(&mut bytes, op);
                registers.put(*to, &bytes);
                true
            }
            Expression::SwapBytes { from, to, len, size } => {
                let mut bytes = registers.bytes(*from, usize::from(*len)).to_vec();
                if cfg!(target_endian = "little") {
                    bytes.chunks_exact_mut(usize::from(*size).max(1)).for_each(<[u8]>::reverse);
                }
                registers.put(*to, &bytes);
                true
            }
            Expression::Immediate { to, bytes } => {
                registers.put(*to, bytes);
                true
            }
            _ => true,
        };
        if goes_on { Step::Next } else { Step::Break }
    }

    /// Expressions that look at sets.
    fn set_expression(&mut self, expression: &Expression, subject: &mut Subject<'_>) -> Step {
        let now = subject.now;
        let program = self.program;
        let lookup = |set: SetId, key: Register, registers: &Registers, subject: &Subject<'_>| {
            let set = program.set(set)?;
            let key = registers.bytes(key, set.key_len());
            set.lookup(key, now, |element| {
                element.expressions.iter().all(|own| count(own, subject)).then(|| element.data.clone())
            })?
        };
        match expression {
            Expression::Lookup { set, key, to, is_inverted } => {
                let found = lookup(*set, *key, &self.registers, subject);
                if found.is_some() == *is_inverted {
                    return Step::Break;
                }
                if let (Some(to), Some(Some(Data::Value(value)))) = (to, found) {
                    self.registers.put(*to, &value);
                }
                Step::Next
            }
            Expression::VerdictMap { set, key } => match lookup(*set, *key, &self.registers, subject) {
                Some(Some(Data::Verdict(verdict))) => Step::Verdict(verdict),
                _ => Step::Break,
            },
            Expression::ObjectMap { set, key } => match lookup(*set, *key, &self.registers, subject) {
                Some(Some(Data::Object(_, object))) if count_object(&object, subject) => Step::Next,
                _ => Step::Break,
            },
            Expression::Update(update) => self.update(update, subject),
            _ => Step::Next,
        }
    }

    fn update(&mut self, update: &SetUpdate, subject: &mut Subject<'_>) -> Step {
        let SetUpdate { set, kind, key, data, timeout, expressions, is_inverted } = update;
        let Some(set) = self.program.set(*set) else { return Step::Break };
        let key = self.registers.bytes(*key, set.key_len());
        if *kind == UpdateKind::Delete {
            let was_there = set.remove(&ElementKey::exact(key));
            return if was_there != *is_inverted { Step::Next } else { Step::Break };
        }
        let data = data.map(|data| Data::Value(self.registers.bytes(data, 4).to_vec()));
        let mut runs = |element: &Element| element.expressions.iter().all(|own| count(own, subject));
        let note = Note {
            renews: *kind == UpdateKind::Update,
            data,
            timeout: *timeout,
            expressions,
            then: &mut runs,
        };
        let passes = set.note(key, subject.now, note);
        if passes != *is_inverted { Step::Next } else { Step::Break }
    }

    fn proxy(&self, rule: &ProxyRule, subject: &mut Subject<'_>) -> bool {
        let ProxyRule { family, address, port } = *rule;
        let is_v4 = subject.transit.is_v4();
        if !family.has(is_v4) {
            return false;
        }
        let address = address.map(|register| self.registers.address(register, is_v4));
        let port = port.map_or(0, |register| self.registers.port(register));
        owner::give(
            subject,
            &ProxyPlace { address: address.filter(|address| !address.is_unspecified()), port },
        )
    }

    fn nat(&mut self, rule: &NatRule, subject: &Subject<'_>) -> Step {
        let is_v4 = subject.transit.is_v4();
        if !rule.family.has(is_v4) {
            return Step::Break;
        }
        let address = |register: Register| self.registers.address(register, is_v4);
        let port = |register: Register| self.registers.port(register);
        // The ends may come from the packet: a range the wrong way round is its beginning.
        let addresses = rule.addresses.map(|(first, last)| {
            let (first, last) = (address(first), address(last));
            if first <= last { first..=last } else { first..=first }
        });
        let ports = rule.ports.map(|(first, last)| {
            let (first, last) = (port(first), port(last));
            if first <= last { first..=last } else { first..=first }
        });
        let range = NatRange { addresses, ports, choice: rule.choice };
        Step::Done(match rule.kind {
            NatKind::Source | NatKind::Destination if rule.keeps_host => Ran::NetMap(range),
            NatKind::Source => Ran::SourceNat(range),
            NatKind::Destination => Ran::DestinationNat(range),
            NatKind::Masquerade => Ran::Masquerade(range),
            NatKind::Redirect => Ran::Redirect(range),
        })
    }
}

/// Counts a packet, and tells whether it goes on.
fn count(expression: &Expression, subject: &Subject<'_>) -> bool {
    let len = subject.transit.len();
    match expression {
        Expression::Counter(counter) => {
            counter.count(len);
            true
        }
        Expression::Quota(quota) => quota.passes(len),
        Expression::Rate(rate) => rate.passes(len, subject.now),
        Expression::Last(last) => {
            last.note(subject.now);
            true
        }
        Expression::Object(object) => count_object(object, subject),
        _ => true,
    }
}

fn count_object(object: &Object, subject: &Subject<'_>) -> bool {
    let len = subject.transit.len();
    match object {
        Object::Counter(counter) => {
            counter.count(len);
            true
        }
        Object::Quota(quota) => Arc::as_ref(quota).passes(len),
        Object::Rate(rate) => rate.passes(len, subject.now),
    }
}

fn bitwise(bytes: &mut Vec<u8>, op: &BitwiseOp) {
    match op {
        BitwiseOp::MaskXor(mask, xor) => {
            for ((byte, mask), xor) in bytes.iter_mut().zip(mask).zip(xor) {
                *byte = (*byte & mask) ^ xor;
            }
        }
        BitwiseOp::Shift(shift, bits) => {
            let len = bytes.len();
            bytes.resize(len.next_multiple_of(4), 0);
            let mut words: Vec<u32> = bytes
                .chunks_exact(4)
                .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
                .collect();
            shift_words(&mut words, *shift, *bits);
            *bytes = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        }
    }
}

/// Shifts words of which the first is the highest, as Linux does.
fn shift_words(words: &mut [u32], shift: Shift, bits: u32) {
    if bits == 0 || bits >= 32 {
        return;
    }
    let mut carry = 0;
    match shift {
        Shift::Left => {
            for word in words.iter_mut().rev() {
                let next = *word >> (32 - bits);
                *word = *word << bits | carry;
                carry = next;
            }
        }
        Shift::Right => {
            for word in words {
                let next = *word << (32 - bits);
                *word = *word >> bits | carry;
                carry = next;
            }
        }
    }
}

/// Chains cannot lead to themselves, but may lead to others in so many ways that a packet would never come out.
const MAX_RULES: usize = 1 << 20;
