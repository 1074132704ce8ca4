//! Expressions: from attributes to what the machine runs, and back for listing.

use std::sync::Arc;

use netstack::filter::machine::{
    ChainId, CounterState, Expression, LastState, Object, QuotaState, RateKind, RateState, Register, SetId,
    Verdict,
};
use netstack::time::Instant;

use super::attributes::{Outcome, Refused, expression, long, needed, nested, number, put, put_long};
use super::batch::Batch;
use super::constants::{EXPR_DATA, EXPR_NAME, LIST_ELEM};
use super::dump::Reset;
use super::model::{CHAIN_BINDING, Reference, Set, Table};
use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder};

mod compat;
mod compute;
mod packet;
mod sets;
mod statement;

/// An expression as it was written.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    name: String,
    /// The attributes of its data.
    data: Vec<u8>,
    /// What it counts: listed in place of what was written.
    live: Option<Live>,
}

/// What an expression counts.
#[derive(Debug, Clone)]
enum Live {
    Counter(Arc<CounterState>),
    Quota(Arc<QuotaState>),
    Last(Arc<LastState>),
}

/// A list of expressions.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) stored: Vec<Stored>,
    pub(super) expressions: Vec<Expression>,
    pub(super) references: Vec<Reference>,
}

/// Reads the expressions of a rule or set.
pub(super) struct Parser<'b, 'c> {
    batch: &'b Batch<'c>,
    table: usize,
    family: u8,
    parsed: Parsed,
}

impl<'b, 'c> Parser<'b, 'c> {
    pub(super) fn new(batch: &'b Batch<'c>, table: usize, family: u8) -> Self {
        Self { batch, table, family, parsed: Parsed::default() }
    }

    /// Reads a list.
    pub(super) fn list(mut self, list: Option<Attributes<'_>>) -> Outcome<Parsed> {
        for (count, (kind, element)) in list.unwrap_or(Attributes::within(&[])).enumerate() {
            if kind != LIST_ELEM || count >= MAX_EXPRESSIONS {
                return Err(Errno::EINVAL.into());
            }
            self.one(Attributes::within(element))?;
        }
        Ok(self.parsed)
    }

    /// Reads what elements of a set count: nothing else is allowed in them.
    pub(super) fn counting(mut self, list: Attributes<'_>) -> Outcome<Parsed> {
        for (count, (kind, element)) in list.enumerate() {
            if kind != LIST_ELEM || count >= MAX_SET_EXPRESSIONS {
                return Err(Errno::EINVAL.into());
            }
            self.one_counting(Attributes::within(element))?;
        }
        Ok(self.parsed)
    }

    /// Reads one that counts.
    pub(super) fn single_counting(mut self, element: Attributes<'_>) -> Outcome<Parsed> {
        self.one_counting(element)?;
        Ok(self.parsed)
    }

    fn one_counting(&mut self, element: Attributes<'_>) -> Outcome {
        match expression(element)?.0 {
            "counter" | "quota" | "limit" | "last" => self.one(element),
            _ => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    fn one(&mut self, element: Attributes<'_>) -> Outcome {
        let (text, data) = expression(element)?;
        let mut stored = Stored { name: text.to_owned(), data: data.bytes().to_vec(), live: None };
        let parsed = match text {
            "payload" => packet::payload(data)?,
            "exthdr" => packet::extension(data)?,
            "meta" => packet::meta(data)?,
            "ct" => packet::flow(data)?,
            "rt" => packet::route(data)?,
            "fib" => packet::fib(data)?,
            "cmp" => compute::compare(data)?,
            "range" => compute::range(data)?,
            "bitwise" => compute::bitwise(data)?,
            "byteorder" => compute::byte_order(data)?,
            "numgen" => compute::number(data)?,
            "immediate" => self.immediate(data)?,
            "lookup" => self.lookup(data, &mut stored)?,
            "dynset" => self.update(data, &mut stored)?,
            "objref" => self.object(data, &mut stored)?,
            "counter" | "quota" | "limit" | "last" => counting(text, data, &mut stored)?,
            "socket" => packet::socket(self.family, data)?,
            "tproxy" => statement::proxy(self.family, data)?,
            "nat" => statement::nat(self.family, data)?,
            "masq" => statement::masquerade(self.family, data)?,
            "redir" => statement::redirect(self.family, data)?,
            "reject" => statement::reject(self.family, data)?,
            "log" => statement::log(data)?,
            "notrack" => Expression::NoTrack,
            "match" => compat::matches(self.batch.context.stack, self.family, data)?,
            "target" => compat::target(self.family, data)?,
            _ => return Err(Errno::ENOENT.into()),
        };
        self.parsed.stored.push(stored);
        self.parsed.expressions.push(parsed);
        Ok(())
    }

    fn table(&self) -> &Table {
        &self.batch.model.tables[self.table]
    }

    fn immediate(&mut self, data: Attributes<'_>) -> Outcome<Expression> {
        let value = nested(data, IMMEDIATE_DATA).ok_or(Refused::from(Errno::EINVAL))?;
        if needed(data, IMMEDIATE_REGISTER)? == 0 {
            let verdict = self.verdict(value)?;
            if let Verdict::Jump(chain) | Verdict::Goto(chain) = verdict {
                self.parsed.references.push(Reference::Chain(chain));
            }
            return Ok(Expression::Verdict(verdict));
        }
        let bytes = value.find(DATA_VALUE).ok_or(Refused::from(Errno::EINVAL))?.to_vec();
        let to = register(data, IMMEDIATE_REGISTER, bytes.len())?;
        Ok(Expression::Immediate { to, bytes })
    }

    fn verdict(&self, value: Attributes<'_>) -> Outcome<Verdict> {
        verdict(self.batch, self.table, value)
    }

    fn set(&mut self, name: Option<&str>, id: Option<u32>) -> Outcome<Set> {
        let slot = self.batch.set_of(self.table, name, id).ok_or(Refused::from(Errno::ENOENT))?;
        self.parsed.references.push(Reference::Set(slot));
        self.table()
            .sets
            .iter()
            .find(|set| set.slot == slot)
            .map(|set| (**set).clone())
            .ok_or(Errno::ENOENT.into())
    }
}

/// Reads a verdict, whose chain must be in the table.
pub(super) fn verdict(batch: &Batch<'_>, table: usize, value: Attributes<'_>) -> Outcome<Verdict> {
    let verdict = nested(value, DATA_VERDICT).ok_or(Refused::from(Errno::EINVAL))?;
    let code = needed(verdict, VERDICT_CODE)?.cast_signed();
    let chain = || -> Outcome<ChainId> {
        let chains = &batch.model.tables[table].chains;
        let found = match verdict.str(VERDICT_CHAIN) {
            Some(name) => chains.iter().find(|chain| chain.name == name),
            None => {
                let id = needed(verdict, VERDICT_CHAIN_ID)?;
                let slot = batch.chain_ids.get(&id).ok_or(Refused::from(Errno::ENOENT))?;
                chains.iter().find(|chain| chain.slot == *slot)
            }
        };
        let chain = found.ok_or(Refused::from(Errno::ENOENT))?;
        // Packets enter base chains at their hook, and nowhere else.
        if chain.base.is_some() { Err(Errno::EOPNOTSUPP.into()) } else { Ok(chain.slot) }
    };
    Ok(match code {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        -2 => Verdict::Break,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        // Queues to programs are not built.
        _ => return Err(Errno::EINVAL.into()),
    })
}

/// The attributes of a verdict.
pub(super) fn describe_verdict(table: &Table, verdict: Verdict, builder: &mut Builder) {
    let chain = |slot: ChainId| {
        let found = table.chains.iter().find(|chain| chain.slot == slot);
        found
            .filter(|chain| chain.flags & CHAIN_BINDING == 0 || !chain.name.is_empty())
            .map(|chain| chain.name.as_str())
    };
    let (code, chain) = match verdict {
        Verdict::Drop => (0_i32, None),
        Verdict::Accept => (1, None),
        Verdict::Continue => (-1, None),
        Verdict::Break => (-2, None),
        Verdict::Jump(to) => (-3, chain(to)),
        Verdict::Goto(to) => (-4, chain(to)),
        Verdict::Return => (-5, None),
    };
    builder.nest(DATA_VERDICT, |builder| {
        put(builder, VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            builder.attr_str(VERDICT_CHAIN, chain);
        }
    });
}

/// A register that so many bytes fit into, from an attribute.
fn register(data: Attributes<'_>, kind: u16, len: usize) -> Outcome<Register> {
    optional_register(data, kind, len)?.ok_or(Errno::EINVAL.into())
}

fn optional_register(data: Attributes<'_>, kind: u16, len: usize) -> Outcome<Option<Register>> {
    let Some(number) = number(data, kind) else { return Ok(None) };
    // NFT_REG_1 to 4 are four words each, NFT_REG32_00 to 15 one.
    let word = match number {
        1..=4 => (number - 1) * 4,
        8..=23 => number - 8,
        _ => return Err(Refused::at(Errno::ERANGE, data.find(kind))),
    };
    let register = u8::try_from(word).ok().and_then(Register::at_word);
    match register.filter(|register| register.has_room(len)) {
        Some(register) => Ok(Some(register)),
        None => Err(Refused::at(Errno::ERANGE, data.find(kind))),
    }
}

/// A small number that must be there.
fn byte(data: Attributes<'_>, kind: u16) -> Outcome<u8> {
    u8::try_from(needed(data, kind)?).map_err(|_| Refused::at(Errno::ERANGE, data.find(kind)))
}

/// The expressions that count; also the kinds of objects.
fn counting(text: &str, data: Attributes<'_>, stored: &mut Stored) -> Outcome<Expression> {
    Ok(match object(text, data)? {
        Some(Object::Counter(counter)) => {
            stored.live = Some(Live::Counter(Arc::clone(&counter)));
            Expression::Counter(counter)
        }
        Some(Object::Quota(quota)) => {
            stored.live = Some(Live::Quota(Arc::clone(&quota)));
            Expression::Quota(quota)
        }
        Some(Object::Rate(rate)) => Expression::Rate(rate),
        None => {
            let last = Arc::<LastState>::default();
            stored.live = Some(Live::Last(Arc::clone(&last)));
            Expression::Last(last)
        }
    })
}

/// What counts packets, by its name; nothing for "last".
pub(super) fn object(text: &str, data: Attributes<'_>) -> Outcome<Option<Object>> {
    Ok(match text {
        "counter" => {
            let count = |kind| long(data, kind).unwrap_or(0);
            Some(Object::Counter(Arc::new(CounterState::new(count(COUNTER_PACKETS), count(COUNTER_BYTES)))))
        }
        "quota" => {
            let limit = long(data, QUOTA_BYTES).ok_or(Refused::from(Errno::EINVAL))?;
            let flags = number(data, QUOTA_FLAGS).unwrap_or(0);
            if flags & !1 != 0 {
                return Err(Errno::EOPNOTSUPP.into());
            }
            let consumed = long(data, QUOTA_CONSUMED).unwrap_or(0);
            Some(Object::Quota(Arc::new(QuotaState::new(limit, flags & 1 != 0, consumed))))
        }
        "limit" => {
            let rate = long(data, LIMIT_RATE).ok_or(Refused::from(Errno::EINVAL))?;
            let unit = long(data, LIMIT_UNIT).ok_or(Refused::from(Errno::EINVAL))?;
            let unit_ns = unit.checked_mul(1_000_000_000).ok_or(Refused::from(Errno::EOVERFLOW))?;
            let kind = match number(data, LIMIT_TYPE).unwrap_or(0) {
                0 => RateKind::Packets,
                1 => RateKind::Bytes,
                _ => return Err(Errno::EOPNOTSUPP.into()),
            };
            let burst = match (kind, number(data, LIMIT_BURST).unwrap_or(0)) {
                // NFT_LIMIT_PKT_BURST_DEFAULT.
                (RateKind::Packets, 0) => 5,
                (_, burst) => burst,
            };
            let is_inverted = number(data, LIMIT_FLAGS).unwrap_or(0) & 1 != 0;
            let rate = RateState::new(kind, is_inverted, rate, unit_ns, burst);
            Some(Object::Rate(Arc::new(rate.ok_or(Refused::from(Errno::EINVAL))?)))
        }
        "last" => None,
        _ => return Err(Errno::ENOENT.into()),
    })
}

/// What an object has counted, as its attributes.
pub(super) fn describe_object(object: &Object, data: &[u8], builder: &mut Builder, reset: Reset) {
    match object {
        Object::Counter(counter) => describe_counter(counter, builder, reset),
        Object::Quota(quota) => describe_quota(quota, builder, reset),
        Object::Rate(_) => builder.raw(data),
    }
}

fn describe_counter(counter: &CounterState, builder: &mut Builder, reset: Reset) {
    let (packets, bytes) = if reset == Reset::Yes { counter.take() } else { counter.get() };
    put_long(builder, COUNTER_BYTES, bytes);
    put_long(builder, COUNTER_PACKETS, packets);
}

fn describe_quota(quota: &QuotaState, builder: &mut Builder, reset: Reset) {
    let (limit, is_inverted) = quota.limit();
    let consumed = if reset == Reset::Yes { quota.take() } else { quota.consumed() };
    put_long(builder, QUOTA_BYTES, limit);
    put_long(builder, QUOTA_CONSUMED, consumed.min(limit));
    // NFT_QUOTA_F_DEPLETED.
    put(builder, QUOTA_FLAGS, u32::from(is_inverted) | if consumed >= limit { 2 } else { 0 });
}

/// A list of expressions with what they have counted.
pub(super) fn describe_all(list: &[Stored], builder: &mut Builder, now: Instant, reset: Reset) {
    for stored in list {
        builder.nest(LIST_ELEM, |builder| describe(stored, builder, now, reset));
    }
}

/// An expression with what it has counted.
pub(super) fn describe(stored: &Stored, builder: &mut Builder, now: Instant, reset: Reset) {
    builder.attr_str(EXPR_NAME, &stored.name);
    builder.nest(EXPR_DATA, |builder| match &stored.live {
        Some(Live::Counter(counter)) => describe_counter(counter, builder, reset),
        Some(Live::Quota(quota)) => describe_quota(quota, builder, reset),
        Some(Live::Last(last)) => describe_last(last, builder, now),
        None => builder.raw(&stored.data),
    });
}

fn describe_last(last: &LastState, builder: &mut Builder, now: Instant) {
    let at = last.get();
    put(builder, LAST_SET, u32::from(at.is_some()));
    if let Some(at) = at {
        let age = now.saturating_duration_since(at).as_millis();
        put_long(builder, LAST_MSECS, u64::try_from(age).unwrap_or(u64::MAX));
    }
}

/// What an element of a set counts, as the expressions of its set are written.
pub(super) fn describe_element(
    expressions: &[Expression],
    templates: &[Stored],
    builder: &mut Builder,
    now: Instant,
    reset: Reset,
) {
    for expression in expressions {
        let (text, live) = match expression {
            Expression::Counter(counter) => ("counter", Some(Live::Counter(Arc::clone(counter)))),
            Expression::Quota(quota) => ("quota", Some(Live::Quota(Arc::clone(quota)))),
            Expression::Last(last) => ("last", Some(Live::Last(Arc::clone(last)))),
            Expression::Rate(_) => ("limit", None),
            _ => continue,
        };
        let template = templates.iter().find(|template| template.name == text);
        let data = template.map(|template| template.data.clone()).unwrap_or_default();
        let stored = Stored { name: text.to_owned(), data, live };
        describe(&stored, builder, now, reset);
    }
}

/// Attributes with one of them replaced, and others left out.
fn rewritten(data: Attributes<'_>, kind: u16, text: &str, without: u16) -> Vec<u8> {
    let mut builder = Builder::default();
    builder.attr_str(kind, text);
    for (other, value) in data.filter(|(other, _)| *other != kind && *other != without) {
        builder.attr(other, value);
    }
    builder.finish()
}

/// The name of a set, which may be known only by its slot.
fn set_name(table: &Table, slot: SetId) -> &str {
    table.sets.iter().find(|set| set.slot == slot).map_or("", |set| &set.name)
}

/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const VERDICT_CHAIN_ID: u16 = 3;
const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;
const QUOTA_BYTES: u16 = 1;
const QUOTA_FLAGS: u16 = 2;
const QUOTA_CONSUMED: u16 = 4;
const LIMIT_RATE: u16 = 1;
const LIMIT_UNIT: u16 = 2;
const LIMIT_BURST: u16 = 3;
const LIMIT_TYPE: u16 = 4;
const LIMIT_FLAGS: u16 = 5;
const LAST_SET: u16 = 1;
const LAST_MSECS: u16 = 2;
/// `NFT_RULE_MAXEXPRS`.
const MAX_EXPRESSIONS: usize = 128;
/// `NFT_SET_EXPR_MAX`.
const MAX_SET_EXPRESSIONS: usize = 2;
