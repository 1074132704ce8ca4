//! Elements of sets.

use std::sync::Arc;
use std::time::Duration;

use netstack::filter::machine::{self, Data, Element, ElementKey, Expression, KeyPlace};

use super::attributes::{Outcome, Refused, long, name, nested, number, put, put_long};
use super::batch::{Change, Missing};
use super::constants::*;
use super::dump::{Query, Reset};
use super::expression::{DATA_VALUE, Parser, describe_element, describe_verdict, verdict};
use super::model::{Set, Table};
use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder, Reply};
use sentry_abi::netlink::NLM_F_EXCL;

/// The set that a message is about: its table and its place there.
fn set_of(change: &Change<'_, '_>) -> Outcome<(usize, usize)> {
    let attributes = change.attributes;
    let table = change.table(TABLE)?;
    let slot = change.batch.set_of(table, attributes.str(SET), number(attributes, SET_ID));
    let missing = Refused::at(Errno::ENOENT, attributes.find(SET));
    let slot = slot.ok_or(missing)?;
    let place = change.batch.model.tables[table].sets.iter().position(|set| set.slot == slot);
    Ok((table, place.ok_or(missing)?))
}

/// The set's elements, as a copy of this batch.
fn fork<'b>(change: &'b mut Change<'_, '_>, table: usize, place: usize) -> &'b Set {
    let set = Arc::make_mut(&mut change.batch.model.table_mut(table).sets[place]);
    if !set.is_forked {
        set.elements = Arc::new(set.elements.fork());
        set.is_forked = true;
    }
    set
}

/// `NFT_MSG_NEWSETELEM`.
pub(super) fn add(change: &mut Change<'_, '_>) -> Outcome {
    let attributes = change.attributes;
    let (table, place) = set_of(change)?;
    let list = nested(attributes, ELEMENTS).ok_or(Refused::from(Errno::EINVAL))?;
    fork(change, table, place);
    // Programs number them.
    for (_, element) in list {
        let set = change.batch.model.tables[table].sets[place].clone();
        let parsed = read(change, table, &set, Attributes::within(element))?;
        insert(change, &set, parsed, element)?;
    }
    Ok(())
}

fn insert(
    change: &Change<'_, '_>,
    set: &Set,
    (key, element): (ElementKey, Element),
    blamed: &[u8],
) -> Outcome {
    let now = change.batch.context.stack.now();
    let known = set.elements.get(&key, now, |known| same_data(&known.data, &element.data));
    match known {
        Some(_) if change.has(NLM_F_EXCL) => Err(Refused::at(Errno::EEXIST, Some(blamed))),
        Some(false) => Err(Refused::at(Errno::EBUSY, Some(blamed))),
        Some(true) => Ok(()),
        None => set.elements.insert(key, element).map_err(|_| Refused::from(Errno::ENFILE)),
    }
}

fn same_data(a: &Option<Data>, b: &Option<Data>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Data::Value(a)), Some(Data::Value(b))) => a == b,
        (Some(Data::Verdict(a)), Some(Data::Verdict(b))) => a == b,
        (Some(Data::Object(a, _)), Some(Data::Object(b, _))) => a == b,
        _ => false,
    }
}

/// The key that an element's attributes say.
fn key(set: &Set, element: Attributes<'_>) -> Outcome<ElementKey> {
    let flags = number(element, FLAGS).unwrap_or(0);
    let len = set.elements.key_len();
    let bytes = |kind| -> Outcome<Option<Vec<u8>>> {
        let Some(value) = nested(element, kind) else { return Ok(None) };
        let bytes = value.find(DATA_VALUE).filter(|bytes| bytes.len() == len);
        bytes.map(|bytes| Some(bytes.to_vec())).ok_or(Refused::at(Errno::EINVAL, element.find(kind)))
    };
    if flags & !(INTERVAL_END | CATCH_ALL) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if flags & CATCH_ALL != 0 {
        return match bytes(KEY)? {
            None if flags & INTERVAL_END == 0 => Ok(ElementKey::catch_all()),
            _ => Err(Errno::EINVAL.into()),
        };
    }
    let is_interval = set.flags & SET_INTERVAL != 0;
    if flags & INTERVAL_END != 0 && !is_interval {
        return Err(Errno::EINVAL.into());
    }
    let place = if flags & INTERVAL_END != 0 { KeyPlace::End } else { KeyPlace::Start };
    let key = bytes(KEY)?.ok_or(Refused::from(Errno::EINVAL))?;
    let key_end = bytes(KEY_END)?;
    if key_end.is_some() && set.flags & SET_CONCAT == 0 && set.fields.len() < 2 {
        return Err(Errno::EINVAL.into());
    }
    Ok(ElementKey { key, place, key_end })
}

fn read(
    change: &Change<'_, '_>,
    table: usize,
    set: &Set,
    element: Attributes<'_>,
) -> Outcome<(ElementKey, Element)> {
    let key = key(set, element)?;
    let is_end = key.place == KeyPlace::End;
    let now = change.batch.context.stack.now();
    let timeout = long(element, TIMEOUT).filter(|millis| *millis > 0).map(Duration::from_millis);
    if timeout.is_some() && set.flags & SET_TIMEOUT == 0 {
        return Err(Errno::EINVAL.into());
    }
    let timeout = timeout.or(if is_end { None } else { set.timeout });
    let left = long(element, EXPIRATION).filter(|millis| *millis > 0).map(Duration::from_millis).or(timeout);
    let expressions = if is_end { Vec::new() } else { own_expressions(change, table, set, element)? };
    let is_catch_all = key == ElementKey::catch_all();
    let user_data = element.find(USER_DATA).map(<[u8]>::to_vec).unwrap_or_default();
    if user_data.len() > 256 {
        return Err(Errno::EINVAL.into());
    }
    let data = data(change, table, set, element, is_end)?;
    let expires = left.map(|left| now + left);
    Ok((key, Element { data, timeout, expires, expressions, user_data, is_catch_all }))
}

/// What a map has for the key.
fn data(
    change: &Change<'_, '_>,
    table: usize,
    set: &Set,
    element: Attributes<'_>,
    is_end: bool,
) -> Outcome<Option<Data>> {
    if !set.is_map() && set.object_type == 0 {
        return match element.find(DATA) {
            Some(value) => Err(Refused::at(Errno::EINVAL, Some(value))),
            None => Ok(None),
        };
    }
    if is_end {
        return Ok(None);
    }
    if set.object_type != 0 {
        let text = name(element, OBJECT)?;
        let missing = Refused::at(Errno::ENOENT, element.find(OBJECT));
        let object = change.batch.model.tables[table].object(text, set.object_type).ok_or(missing)?;
        return Ok(Some(Data::Object(text.to_owned(), object.object.clone())));
    }
    let value = nested(element, DATA).ok_or(Refused::from(Errno::EINVAL))?;
    if set.has_verdicts() {
        return verdict(change.batch, table, value).map(|verdict| Some(Data::Verdict(verdict)));
    }
    let len = usize::try_from(set.data_len).unwrap_or(usize::MAX);
    let bytes = value.find(DATA_VALUE).filter(|bytes| bytes.len() == len);
    bytes.map(|bytes| Some(Data::Value(bytes.to_vec()))).ok_or(Refused::at(Errno::EINVAL, element.find(DATA)))
}

/// What the element counts: what it says, or what its set says.
fn own_expressions(
    change: &Change<'_, '_>,
    table: usize,
    set: &Set,
    element: Attributes<'_>,
) -> Outcome<Vec<Expression>> {
    let parser = Parser::new(change.batch, table, change.family);
    let parsed = match (nested(element, EXPRESSIONS), nested(element, EXPRESSION)) {
        (Some(list), _) => parser.counting(list)?,
        (None, Some(one)) => parser.single_counting(one)?,
        (None, None) => return Ok(set.templates.iter().filter_map(Expression::with_own_state).collect()),
    };
    Ok(parsed.expressions)
}

/// `NFT_MSG_DELSETELEM`: some elements, or all.
pub(super) fn remove(change: &mut Change<'_, '_>, missing: Missing) -> Outcome {
    let attributes = change.attributes;
    let (table, place) = match set_of(change) {
        Ok(found) => found,
        Err(refused) => return missing.or(refused),
    };
    let list = nested(attributes, ELEMENTS);
    let set = fork(change, table, place);
    let Some(list) = list else {
        set.elements.clear();
        return Ok(());
    };
    for (_, element) in list {
        let key = key(set, Attributes::within(element))?;
        if !set.elements.remove(&key) {
            missing.or(Refused::at(Errno::ENOENT, Some(element)))?;
        }
    }
    Ok(())
}

/// `NFT_MSG_GETSETELEM`: all elements of a set, or those that are asked for.
pub(super) fn get(query: &Query<'_>, is_dump: bool, reset: Reset, reply: &mut Reply) -> Outcome {
    let attributes = query.attributes;
    let missing = |kind| Refused::at(Errno::ENOENT, attributes.find(kind));
    let table = query.tables_named(Some(name(attributes, TABLE)?)).next().ok_or(missing(TABLE))?;
    let set = table.set(name(attributes, SET)?).ok_or(missing(SET))?;
    let mut found = Vec::new();
    let mut note = |key: &ElementKey, element: &Element| found.push((key.clone(), element.share()));
    if is_dump {
        set.elements.for_each(query.now, note);
    } else {
        let list = nested(attributes, ELEMENTS).ok_or(Refused::from(Errno::EINVAL))?;
        for (_, element) in list {
            let wanted = key(set, Attributes::within(element))?;
            let shown = set.elements.get(&wanted, query.now, |element| note(&wanted, element));
            shown.ok_or(Refused::at(Errno::ENOENT, Some(element)))?;
        }
    }
    // An attribute holds at most 64 KiB: elements come in several messages.
    let chunks: Vec<_> = found.chunks(ELEMENTS_PER_MESSAGE).collect();
    for chunk in if chunks.is_empty() { vec![&found[..]] } else { chunks } {
        query.message(reply, MSG_NEWSETELEM, table.family, |builder| {
            builder.attr_str(TABLE, &table.name);
            builder.attr_str(SET, &set.name);
            builder.nest(ELEMENTS, |builder| {
                for (key, element) in chunk {
                    builder.nest(LIST_ELEM, |builder| {
                        describe(table, set, key, element, (query.now, reset), builder);
                    });
                }
            });
        });
    }
    Ok(())
}

fn describe(
    table: &Table,
    set: &Set,
    key: &ElementKey,
    element: &Element,
    (now, reset): (netstack::time::Instant, Reset),
    builder: &mut Builder,
) {
    if !element.is_catch_all {
        builder.nest(KEY, |builder| builder.attr(DATA_VALUE, key.key.as_slice()));
    }
    if let Some(end) = &key.key_end {
        builder.nest(KEY_END, |builder| builder.attr(DATA_VALUE, end.as_slice()));
    }
    match &element.data {
        Some(Data::Value(bytes)) => builder.nest(DATA, |builder| builder.attr(DATA_VALUE, bytes.as_slice())),
        Some(Data::Verdict(verdict)) => {
            builder.nest(DATA, |builder| describe_verdict(table, *verdict, builder));
        }
        Some(Data::Object(name, _)) => builder.attr_str(OBJECT, name),
        None => {}
    }
    match &element.expressions[..] {
        [] => {}
        [_] => builder.nest(EXPRESSION, |builder| {
            describe_element(&element.expressions, &set.expressions, builder, now, reset);
        }),
        many => builder.nest(EXPRESSIONS, |builder| {
            for one in many.chunks(1) {
                builder
                    .nest(LIST_ELEM, |builder| describe_element(one, &set.expressions, builder, now, reset));
            }
        }),
    }
    let mut flags = 0;
    flags |= if key.place == KeyPlace::End { INTERVAL_END } else { 0 };
    flags |= if element.is_catch_all { CATCH_ALL } else { 0 };
    if flags != 0 {
        put(builder, FLAGS, flags);
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Some(timeout) = element.timeout.filter(|timeout| Some(*timeout) != set.timeout) {
        put_long(builder, TIMEOUT, millis(timeout));
    }
    if let Some(expires) = element.expires {
        put_long(builder, EXPIRATION, millis(expires.saturating_duration_since(now)));
    }
    if !element.user_data.is_empty() {
        builder.attr(USER_DATA, element.user_data.as_slice());
    }
}

/// Says that elements of this batch are everybody's now.
pub(super) fn settle(set: &mut Arc<Set>) {
    if set.is_forked {
        Arc::make_mut(set).is_forked = false;
    }
}

/// The elements of a set, for the machine.
pub(super) fn elements(set: &Set) -> Arc<machine::Set> {
    Arc::clone(&set.elements)
}

const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3;
const SET_ID: u16 = 4;
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;
const USER_DATA: u16 = 6;
const EXPRESSION: u16 = 7;
const OBJECT: u16 = 9;
const KEY_END: u16 = 10;
const EXPRESSIONS: u16 = 11;
/// `NFT_SET_ELEM_INTERVAL_END`, `NFT_SET_ELEM_CATCHALL`.
const INTERVAL_END: u32 = 1;
const CATCH_ALL: u32 = 2;
/// Some hundred bytes each at most.
const ELEMENTS_PER_MESSAGE: usize = 64;
