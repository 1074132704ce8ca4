//! Sets and maps.

use std::sync::Arc;
use std::time::Duration;

use netstack::filter::machine::{self, KeyField, REGISTER_BYTES, SetId, SetKind};
use sentry_abi::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::attributes::{Outcome, Refused, long, name, needed, nested, number, put, put_long};
use super::batch::{Change, Missing};
use super::constants::*;
use super::dump::{Query, Reset};
use super::expression::{Parsed, Parser, describe as describe_expression};
use super::model::{Model, Reference, Set, Table};
use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder, Reply};

/// `NFT_MSG_NEWSET`.
pub(super) fn add(change: &mut Change<'_, '_>) -> Outcome {
    let attributes = change.attributes;
    let table = change.table(TABLE)?;
    let pattern = name(attributes, NAME)?;
    let mut set = read(attributes)?;
    if change.batch.model.tables[table].set(pattern).is_some() {
        if change.has(NLM_F_EXCL) {
            return Err(Refused::at(Errno::EEXIST, attributes.find(NAME)));
        }
        return if change.has(NLM_F_REPLACE) { Err(Errno::EOPNOTSUPP.into()) } else { Ok(()) };
    }
    if !change.has(NLM_F_CREATE) {
        return Err(Errno::ENOENT.into());
    }
    if change.batch.model.set_slots.len() >= MAX_SETS {
        return Err(Errno::ENOMEM.into());
    }
    let own = own_expressions(change, table, attributes)?;
    set.name = free_name(&change.batch.model.tables[table], pattern)?;
    set.expressions = own.stored;
    set.templates = Arc::new(own.expressions);
    set.slot = SetId(change.batch.model.set_slots.take());
    if let Some(id) = number(attributes, ID) {
        change.batch.set_ids.insert(id, set.slot);
    }
    let table = change.batch.model.table_mut(table);
    set.handle = table.next_handle();
    table.sets.push(Arc::new(set));
    Ok(())
}

/// What each new element counts.
fn own_expressions(change: &Change<'_, '_>, table: usize, attributes: Attributes<'_>) -> Outcome<Parsed> {
    let parser = Parser::new(change.batch, table, change.family);
    match (nested(attributes, EXPRESSIONS), nested(attributes, EXPRESSION)) {
        (Some(list), _) => parser.counting(list),
        (None, Some(one)) => parser.single_counting(one),
        (None, None) => Ok(Parsed::default()),
    }
}

/// "%d" in a name stands for the lowest number that is free.
fn free_name(table: &Table, pattern: &str) -> Outcome<String> {
    match pattern.split_once('%') {
        None => Ok(pattern.to_owned()),
        Some((before, "d")) => {
            let mut names = (0..=MAX_SETS).map(|number| format!("{before}{number}"));
            names.find(|name| table.set(name).is_none()).ok_or(Errno::ENFILE.into())
        }
        Some(_) => Err(Errno::EINVAL.into()),
    }
}

/// A set as its attributes say, without what the batch gives it.
fn read(attributes: Attributes<'_>) -> Outcome<Set> {
    let flags = number(attributes, FLAGS).unwrap_or(0);
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let has = |flag: u32| flags & flag != 0;
    let key_len = needed(attributes, KEY_LEN)?;
    let key_bytes = usize::try_from(key_len).unwrap_or(usize::MAX);
    if key_len == 0 || key_bytes > REGISTER_BYTES {
        return Err(Errno::EINVAL.into());
    }
    let data_type = match (number(attributes, DATA_TYPE), has(SET_MAP)) {
        (Some(kind), true) => kind,
        (None, false) => 0,
        (None, true) if has(SET_OBJECT) => 0,
        _ => return Err(Errno::EINVAL.into()),
    };
    let data_len = match number(attributes, DATA_LEN) {
        _ if data_type == DATA_VERDICT => VERDICT_LEN,
        Some(len) if len > 0 && usize::try_from(len).is_ok_and(|len| len <= REGISTER_BYTES) => len,
        None if !has(SET_MAP) || has(SET_OBJECT) => 0,
        _ => return Err(Errno::EINVAL.into()),
    };
    let object_type = match (number(attributes, OBJECT_TYPE), has(SET_OBJECT)) {
        (Some(kind), true) => kind,
        (None, false) => 0,
        _ => return Err(Errno::EINVAL.into()),
    };
    let timeout = long(attributes, TIMEOUT).filter(|millis| *millis > 0);
    if timeout.is_some() && !has(SET_TIMEOUT) {
        return Err(Errno::EINVAL.into());
    }
    let description = nested(attributes, DESCRIPTION);
    let size = description.and_then(|description| number(description, DESCRIPTION_SIZE));
    // What packets fill has a limit.
    let size = size.filter(|size| *size > 0).or(has(SET_EVAL).then_some(u32::from(u16::MAX)));
    let fields =
        fields(description.and_then(|description| nested(description, DESCRIPTION_FIELDS)), key_bytes)?;
    let kind = match (has(SET_INTERVAL), fields.len()) {
        (true, 2..) => {
            // A field has 64 bytes at most.
            let field = |len: &u32| KeyField { len: u8::try_from(*len).unwrap_or(u8::MAX) };
            SetKind::Fields(fields.iter().map(field).collect())
        }
        (true, _) => SetKind::Intervals,
        (false, _) => SetKind::Exact,
    };
    let limit = size
        .filter(|size| *size > 0)
        .map_or(MAX_ELEMENTS, |size| usize::try_from(size).unwrap_or(usize::MAX).min(MAX_ELEMENTS));
    // The ends of intervals are elements as well.
    let limit = if kind == SetKind::Intervals { limit.saturating_mul(2).saturating_add(1) } else { limit };
    let timeout = timeout.map(Duration::from_millis);
    Ok(Set {
        name: String::new(),
        handle: 0,
        slot: SetId(0),
        flags,
        key_type: number(attributes, KEY_TYPE).unwrap_or(0),
        key_len,
        data_type,
        data_len,
        object_type,
        policy: number(attributes, POLICY).unwrap_or(0),
        size,
        fields,
        timeout,
        gc_interval: number(attributes, GC_INTERVAL).unwrap_or(0),
        user_data: attributes.find(USER_DATA).map(<[u8]>::to_vec),
        expressions: Vec::new(),
        templates: Arc::default(),
        elements: Arc::new(machine::Set::new(kind, key_bytes, timeout, limit)),
        is_forked: true,
    })
}

/// The lengths of the fields of a key, which take whole words.
fn fields(list: Option<Attributes<'_>>, key_len: usize) -> Outcome<Vec<u32>> {
    let mut fields = Vec::new();
    let mut total = 0_usize;
    for (kind, field) in list.unwrap_or(Attributes::within(&[])) {
        let len = needed(Attributes::within(field), FIELD_LEN)?;
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        if kind != LIST_ELEM || len == 0 || bytes > REGISTER_BYTES || fields.len() >= MAX_FIELDS {
            return Err(Errno::E2BIG.into());
        }
        total += bytes.next_multiple_of(4);
        fields.push(len);
    }
    if total > key_len.next_multiple_of(4) { Err(Errno::EINVAL.into()) } else { Ok(fields) }
}

/// `NFT_MSG_DELSET`.
pub(super) fn remove(change: &mut Change<'_, '_>, missing: Missing) -> Outcome {
    let attributes = change.attributes;
    let table = match change.table(TABLE) {
        Ok(table) => table,
        Err(refused) => return missing.or(refused),
    };
    let sets = &change.batch.model.tables[table].sets;
    let (found, blamed) = match long(attributes, HANDLE) {
        Some(handle) => (sets.iter().find(|set| set.handle == handle), attributes.find(HANDLE)),
        None => {
            let text = name(attributes, NAME)?;
            (sets.iter().find(|set| set.name == text), attributes.find(NAME))
        }
    };
    let Some(slot) = found.map(|set| set.slot) else {
        return missing.or(Refused::at(Errno::ENOENT, blamed));
    };
    if change.batch.model.tables[table].is_used(&Reference::Set(slot)) {
        return Err(Refused::at(Errno::EBUSY, blamed));
    }
    change.batch.model.remove_set(table, slot);
    Ok(())
}

/// `NFT_MSG_GETSET`.
pub(super) fn get(query: &Query<'_>, is_dump: bool, reply: &mut Reply) -> Outcome {
    let attributes = query.attributes;
    if is_dump {
        for table in query.tables_named(attributes.str(TABLE)) {
            for set in &table.sets {
                query.message(reply, MSG_NEWSET, table.family, |builder| describe(table, set, builder));
            }
        }
        return Ok(());
    }
    let missing = |kind| Refused::at(Errno::ENOENT, attributes.find(kind));
    let table = query.tables_named(Some(name(attributes, TABLE)?)).next().ok_or(missing(TABLE))?;
    let set = table.set(name(attributes, NAME)?).ok_or(missing(NAME))?;
    query.message(reply, MSG_NEWSET, table.family, |builder| describe(table, set, builder));
    Ok(())
}

fn describe(table: &Table, set: &Set, builder: &mut Builder) {
    builder.attr_str(TABLE, &table.name);
    builder.attr_str(NAME, &set.name);
    put_long(builder, HANDLE, set.handle);
    if set.flags != 0 {
        put(builder, FLAGS, set.flags);
    }
    put(builder, KEY_TYPE, set.key_type);
    put(builder, KEY_LEN, set.key_len);
    if set.is_map() && set.object_type == 0 {
        put(builder, DATA_TYPE, set.data_type);
        put(builder, DATA_LEN, set.data_len);
    }
    if set.object_type != 0 {
        put(builder, OBJECT_TYPE, set.object_type);
    }
    if let Some(timeout) = set.timeout {
        put_long(builder, TIMEOUT, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    if set.gc_interval != 0 {
        put(builder, GC_INTERVAL, set.gc_interval);
    }
    if set.policy != 0 {
        put(builder, POLICY, set.policy);
    }
    if let Some(data) = &set.user_data {
        builder.attr(USER_DATA, data.as_slice());
    }
    builder.nest(DESCRIPTION, |builder| {
        if let Some(size) = set.size.filter(|size| *size > 0) {
            put(builder, DESCRIPTION_SIZE, size);
        }
        if set.fields.len() > 1 {
            builder.nest(DESCRIPTION_FIELDS, |builder| {
                for len in &set.fields {
                    builder.nest(LIST_ELEM, |builder| put(builder, FIELD_LEN, *len));
                }
            });
        }
    });
    let now = netstack::time::Instant::ZERO;
    match &set.expressions[..] {
        [] => {}
        [one] => builder.nest(EXPRESSION, |builder| describe_expression(one, builder, now, Reset::No)),
        many => builder.nest(EXPRESSIONS, |builder| {
            super::expression::describe_all(many, builder, now, Reset::No);
        }),
    }
}

/// The set that a message is about, if it is there.
pub(super) fn describe_named(
    model: &Model,
    family: u8,
    attributes: Attributes<'_>,
    builder: &mut Builder,
) -> bool {
    let Some(table) = model.table_named(family, attributes.str(TABLE)) else { return false };
    let set = match attributes.str(NAME) {
        // One whose name was chosen here is the last that was made.
        Some(name) if name.contains('%') => table.sets.last(),
        Some(name) => table.set(name),
        None => None,
    };
    set.map(|set| describe(table, set, builder)).is_some()
}

const TABLE: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LEN: u16 = 5;
const DATA_TYPE: u16 = 6;
const DATA_LEN: u16 = 7;
const POLICY: u16 = 8;
const DESCRIPTION: u16 = 9;
const ID: u16 = 10;
const TIMEOUT: u16 = 11;
const GC_INTERVAL: u16 = 12;
const USER_DATA: u16 = 13;
const OBJECT_TYPE: u16 = 15;
const HANDLE: u16 = 16;
const EXPRESSION: u16 = 17;
const EXPRESSIONS: u16 = 18;
const DESCRIPTION_SIZE: u16 = 1;
const DESCRIPTION_FIELDS: u16 = 2;
const FIELD_LEN: u16 = 1;
/// `NFT_SET_EVAL`.
const SET_EVAL: u32 = 0x20;
/// All flags that there are.
const KNOWN_FLAGS: u32 = 0x1ff;
/// `sizeof(struct nft_verdict)`, which is what Linux tells.
const VERDICT_LEN: u32 = 16;
/// `NFT_REG32_COUNT`.
const MAX_FIELDS: usize = 16;
/// Bounds the memory that sets take.
const MAX_SETS: usize = 1 << 14;
const MAX_ELEMENTS: usize = 1 << 18;
