//! Chains.

use std::sync::Arc;

use netstack::filter::machine::{ChainId, ChainKind, CounterState};
use netstack::filter::{Hook, Policy};
use sentry_abi::netlink::NLM_F_EXCL;

use super::attributes::{Outcome, Refused, long, name, needed, nested, number, put, put_long};
use super::batch::{Change, Missing};
use super::constants::*;
use super::dump::Query;
use super::model::{Base, CHAIN_BINDING, Chain, Model, Reference, Table};
use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder, Reply};

/// `NFT_MSG_NEWCHAIN`.
pub(super) fn add(change: &mut Change<'_, '_>) -> Outcome {
    let attributes = change.attributes;
    let table = change.table(TABLE)?;
    let policy = match number(attributes, POLICY) {
        None => None,
        Some(0) => Some(Policy::Drop),
        Some(1) => Some(Policy::Accept),
        Some(_) => return Err(Refused::at(Errno::EINVAL, attributes.find(POLICY))),
    };
    if let Some(handle) = long(attributes, HANDLE) {
        let missing = Refused::at(Errno::ENOENT, attributes.find(HANDLE));
        let place = find(&change.batch.model.tables[table], |chain| chain.handle == handle).ok_or(missing)?;
        return update(change, table, place, policy);
    }
    let flags = number(attributes, FLAGS).unwrap_or(0);
    if flags & !(CHAIN_BASE | CHAIN_BINDING) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let text = match attributes.find(NAME) {
        Some(_) => name(attributes, NAME)?.to_owned(),
        None if flags & CHAIN_BINDING != 0 => {
            format!("__chain{}", number(attributes, ID).unwrap_or(0))
        }
        None => return Err(Errno::EINVAL.into()),
    };
    if let Some(place) = find(&change.batch.model.tables[table], |chain| chain.name == text) {
        if change.has(NLM_F_EXCL) {
            return Err(Refused::at(Errno::EEXIST, attributes.find(NAME)));
        }
        return update(change, table, place, policy);
    }
    let base = base(change.family, attributes, policy)?;
    if base.is_none() && policy.is_some() {
        return Err(Refused::at(Errno::EOPNOTSUPP, attributes.find(POLICY)));
    }
    if change.batch.model.chain_slots.len() >= MAX_CHAINS {
        return Err(Errno::ENOMEM.into());
    }
    let slot = ChainId(change.batch.model.chain_slots.take());
    if let Some(id) = number(attributes, ID) {
        change.batch.chain_ids.insert(id, slot);
    }
    let table = change.batch.model.table_mut(table);
    let handle = table.next_handle();
    table.chains.push(Arc::new(Chain {
        name: text,
        handle,
        slot,
        base,
        rules: Vec::new(),
        counter: counter(attributes),
        flags,
        user_data: attributes.find(USER_DATA).map(<[u8]>::to_vec),
    }));
    Ok(())
}

fn find(table: &Table, is_it: impl Fn(&Chain) -> bool) -> Option<usize> {
    table.chains.iter().position(|chain| is_it(chain))
}

/// A chain that is there: its policy, counters and name may change.
fn update(change: &mut Change<'_, '_>, table: usize, place: usize, policy: Option<Policy>) -> Outcome {
    let attributes = change.attributes;
    let current = change.batch.model.tables[table].chains[place].clone();
    if let Some(wanted) = base(change.family, attributes, policy)? {
        // A chain cannot become a base chain, nor move.
        let is_same = current.base.is_some_and(|current| Base { policy: wanted.policy, ..current } == wanted);
        if !is_same {
            return Err(Refused::at(Errno::EEXIST, attributes.find(NAME)));
        }
    }
    let new_name = match attributes.str(NAME) {
        Some(text) if text != current.name => {
            if find(&change.batch.model.tables[table], |chain| chain.name == text).is_some() {
                return Err(Refused::at(Errno::EEXIST, attributes.find(NAME)));
            }
            Some(name(attributes, NAME)?.to_owned())
        }
        _ => None,
    };
    let chain = Arc::make_mut(&mut change.batch.model.table_mut(table).chains[place]);
    if let Some(policy) = policy {
        let base = chain.base.as_mut().ok_or(Refused::at(Errno::EOPNOTSUPP, attributes.find(POLICY)))?;
        base.policy = policy;
    }
    if let Some(name) = new_name {
        chain.name = name;
    }
    if let Some(counter) = counter(attributes) {
        chain.counter = Some(counter);
    }
    Ok(())
}

fn counter(attributes: Attributes<'_>) -> Option<Arc<CounterState>> {
    let counters = nested(attributes, COUNTERS)?;
    let count = |kind| long(counters, kind).unwrap_or(0);
    Some(Arc::new(CounterState::new(count(COUNTER_PACKETS), count(COUNTER_BYTES))))
}

/// What a hook says, if the message has one.
fn base(family: u8, attributes: Attributes<'_>, policy: Option<Policy>) -> Outcome<Option<Base>> {
    let Some(hook) = nested(attributes, HOOK) else { return Ok(None) };
    let number = needed(hook, HOOK_NUMBER)?;
    let priority = needed(hook, HOOK_PRIORITY)?.cast_signed();
    let kind = match attributes.str(TYPE) {
        None | Some("filter") => ChainKind::Filter,
        Some("nat") => ChainKind::Nat,
        Some("route") if family != FAMILY_INET || number == 3 => ChainKind::Route,
        Some(_) => return Err(Refused::at(Errno::ENOENT, attributes.find(TYPE))),
    };
    let place = match number {
        0 => Hook::Prerouting,
        1 => Hook::Input,
        2 => Hook::Forward,
        3 => Hook::Output,
        4 => Hook::Postrouting,
        // The ingress of devices is not built.
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let fits = match kind {
        ChainKind::Filter => true,
        ChainKind::Nat => place != Hook::Forward && priority > TRACKING_PRIORITY,
        ChainKind::Route => place == Hook::Output,
    };
    // Chains of devices neither.
    if !fits || hook.find(HOOK_DEVICE).is_some() || hook.find(HOOK_DEVICES).is_some() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    Ok(Some(Base { hook: place, number, priority, kind, policy: policy.unwrap_or(Policy::Accept) }))
}

/// `NFT_MSG_DELCHAIN`: one chain, or all of a table.
pub(super) fn remove(change: &mut Change<'_, '_>, missing: Missing) -> Outcome {
    let attributes = change.attributes;
    let table = match change.table(TABLE) {
        Ok(table) => table,
        Err(refused) => return missing.or(refused),
    };
    let handle = long(attributes, HANDLE);
    let blamed = if handle.is_some() { attributes.find(HANDLE) } else { attributes.find(NAME) };
    let found = match handle {
        Some(handle) => find(&change.batch.model.tables[table], |chain| chain.handle == handle),
        None => {
            let text = name(attributes, NAME)?;
            find(&change.batch.model.tables[table], |chain| chain.name == text)
        }
    };
    let Some(place) = found else { return missing.or(Refused::at(Errno::ENOENT, blamed)) };
    let chain = change.batch.model.tables[table].chains[place].clone();
    if change.has(NLM_F_NONREC) && !chain.rules.is_empty() {
        return Err(Errno::EBUSY.into());
    }
    let uses = change.batch.model.tables[table].uses(&Reference::Chain(chain.slot));
    let own = chain.rules.iter().flat_map(|rule| &rule.references);
    let own = own.filter(|reference| **reference == Reference::Chain(chain.slot)).count();
    if usize::try_from(uses).is_ok_and(|uses| uses > own) {
        return Err(Refused::at(Errno::EBUSY, blamed));
    }
    change.batch.model.table_mut(table).chains.remove(place);
    change.batch.model.chain_slots.give_back(chain.slot.0);
    change.batch.model.forget_rules(table, &chain.rules);
    Ok(())
}

/// `NFT_MSG_GETCHAIN`.
pub(super) fn get(query: &Query<'_>, is_dump: bool, reply: &mut Reply) -> Outcome {
    let table_name = query.attributes.str(TABLE);
    if is_dump {
        for table in query.tables_named(table_name) {
            for chain in &table.chains {
                query.message(reply, MSG_NEWCHAIN, table.family, |builder| describe(table, chain, builder));
            }
        }
        return Ok(());
    }
    let table = name(query.attributes, TABLE)?;
    let missing = Refused::at(Errno::ENOENT, query.attributes.find(TABLE));
    let table = query.tables_named(Some(table)).next().ok_or(missing)?;
    let text = name(query.attributes, NAME)?;
    let chain = table.chain(text).ok_or(Refused::at(Errno::ENOENT, query.attributes.find(NAME)))?;
    query.message(reply, MSG_NEWCHAIN, table.family, |builder| describe(table, chain, builder));
    Ok(())
}

fn describe(table: &Table, chain: &Chain, builder: &mut Builder) {
    builder.attr_str(TABLE, &table.name);
    put_long(builder, HANDLE, chain.handle);
    builder.attr_str(NAME, &chain.name);
    if let Some(base) = chain.base {
        builder.nest(HOOK, |builder| {
            put(builder, HOOK_NUMBER, base.number);
            put(builder, HOOK_PRIORITY, base.priority.cast_unsigned());
        });
        put(builder, POLICY, u32::from(base.policy == Policy::Accept));
        builder.attr_str(
            TYPE,
            match base.kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
                ChainKind::Route => "route",
            },
        );
        if let Some(counter) = &chain.counter {
            let (packets, bytes) = counter.get();
            builder.nest(COUNTERS, |builder| {
                put_long(builder, COUNTER_PACKETS, packets);
                put_long(builder, COUNTER_BYTES, bytes);
            });
        }
    }
    let flags = chain.flags | if chain.base.is_some() { CHAIN_BASE } else { 0 };
    if flags != 0 {
        put(builder, FLAGS, flags);
    }
    let uses = u32::try_from(chain.rules.len()).unwrap_or(u32::MAX);
    put(builder, USE, uses.saturating_add(table.uses(&Reference::Chain(chain.slot))));
    if let Some(data) = &chain.user_data {
        builder.attr(USER_DATA, data.as_slice());
    }
}

/// The chain that a message is about, if it is there.
pub(super) fn describe_named(
    model: &Model,
    family: u8,
    attributes: Attributes<'_>,
    builder: &mut Builder,
) -> bool {
    let Some(table) = model.table_named(family, attributes.str(TABLE)) else { return false };
    let chain = attributes.str(NAME).and_then(|name| table.chain(name));
    chain.map(|chain| describe(table, chain, builder)).is_some()
}

const TABLE: u16 = 1;
const HANDLE: u16 = 2;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const USE: u16 = 6;
const TYPE: u16 = 7;
const COUNTERS: u16 = 8;
const FLAGS: u16 = 10;
const ID: u16 = 11;
const USER_DATA: u16 = 12;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const HOOK_DEVICES: u16 = 4;
pub(super) const COUNTER_BYTES: u16 = 1;
pub(super) const COUNTER_PACKETS: u16 = 2;
/// `NFT_CHAIN_BASE`.
const CHAIN_BASE: u32 = 1;
/// `NF_IP_PRI_CONNTRACK`.
const TRACKING_PRIORITY: i32 = -200;
/// `NLM_F_NONREC`: only if it is empty.
const NLM_F_NONREC: u16 = 0x100;
/// Bounds the memory that rules take.
const MAX_CHAINS: usize = 1 << 16;
