//! Objects: counters, quotas and limits that have a name.

use std::sync::Arc;

use sentry_abi::netlink::{NLM_F_EXCL, NLM_F_REPLACE};

use super::attributes::{Outcome, Refused, long, name, needed, nested, number, put, put_long};
use super::batch::{Change, Missing};
use super::constants::*;
use super::dump::{Query, Reset};
use super::expression::{describe_object, object};
use super::model::{NamedObject, Reference, Table};
use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Builder, Reply};

/// The names of the kinds, as expressions have them.
fn kind_name(kind: u32) -> Outcome<&'static str> {
    match kind {
        1 => Ok("counter"),
        2 => Ok("quota"),
        4 => Ok("limit"),
        // Helpers, timeouts and so on are not built, as in a kernel without their modules (nft_obj_type_get).
        _ => Err(Errno::ENOENT.into()),
    }
}

/// `NFT_MSG_NEWOBJ`.
pub(super) fn add(change: &mut Change<'_, '_>) -> Outcome {
    let attributes = change.attributes;
    let table = change.table(TABLE)?;
    let (text, kind) = (name(attributes, NAME)?, needed(attributes, TYPE)?);
    let data = nested(attributes, DATA).unwrap_or(Attributes::within(&[]));
    let made = object(kind_name(kind)?, data)?.ok_or(Refused::from(Errno::EOPNOTSUPP))?;
    if change.batch.model.tables[table].object(text, kind).is_some() {
        if change.has(NLM_F_EXCL) {
            return Err(Refused::at(Errno::EEXIST, attributes.find(NAME)));
        }
        return if change.has(NLM_F_REPLACE) { Err(Errno::EOPNOTSUPP.into()) } else { Ok(()) };
    }
    let table = change.batch.model.table_mut(table);
    if table.objects.len() >= MAX_OBJECTS {
        return Err(Errno::ENOMEM.into());
    }
    let handle = table.next_handle();
    table.objects.push(Arc::new(NamedObject {
        name: text.to_owned(),
        handle,
        kind,
        data: data.bytes().to_vec(),
        object: made,
        user_data: attributes.find(USER_DATA).map(<[u8]>::to_vec),
    }));
    Ok(())
}

/// `NFT_MSG_DELOBJ`.
pub(super) fn remove(change: &mut Change<'_, '_>, missing: Missing) -> Outcome {
    let attributes = change.attributes;
    let table = match change.table(TABLE) {
        Ok(table) => table,
        Err(refused) => return missing.or(refused),
    };
    let kind = needed(attributes, TYPE)?;
    let objects = &change.batch.model.tables[table].objects;
    let (place, blamed) = match long(attributes, HANDLE) {
        Some(handle) => {
            let is_it = |object: &Arc<NamedObject>| object.handle == handle && object.kind == kind;
            (objects.iter().position(is_it), attributes.find(HANDLE))
        }
        None => {
            let text = name(attributes, NAME)?;
            let is_it = |object: &Arc<NamedObject>| object.name == text && object.kind == kind;
            (objects.iter().position(is_it), attributes.find(NAME))
        }
    };
    let Some(place) = place else { return missing.or(Refused::at(Errno::ENOENT, blamed)) };
    let reference = Reference::Object(objects[place].name.clone(), kind);
    if change.batch.model.tables[table].is_used(&reference) {
        return Err(Refused::at(Errno::EBUSY, blamed));
    }
    change.batch.model.table_mut(table).objects.remove(place);
    Ok(())
}

/// `NFT_MSG_GETOBJ`, `NFT_MSG_GETOBJ_RESET`.
pub(super) fn get(query: &Query<'_>, is_dump: bool, reset: Reset, reply: &mut Reply) -> Outcome {
    let attributes = query.attributes;
    if is_dump {
        let kind = number(attributes, TYPE).filter(|kind| *kind != 0);
        for table in query.tables_named(attributes.str(TABLE)) {
            for object in table.objects.iter().filter(|object| kind.is_none_or(|kind| object.kind == kind)) {
                query.message(reply, MSG_NEWOBJ, table.family, |builder| {
                    describe(table, object, builder, reset);
                });
            }
        }
        return Ok(());
    }
    let missing = |kind| Refused::at(Errno::ENOENT, attributes.find(kind));
    let table = query.tables_named(Some(name(attributes, TABLE)?)).next().ok_or(missing(TABLE))?;
    let found = table.object(name(attributes, NAME)?, needed(attributes, TYPE)?).ok_or(missing(NAME))?;
    query.message(reply, MSG_NEWOBJ, table.family, |builder| describe(table, found, builder, reset));
    Ok(())
}

fn describe(table: &Table, object: &NamedObject, builder: &mut Builder, reset: Reset) {
    builder.attr_str(TABLE, &table.name);
    builder.attr_str(NAME, &object.name);
    put_long(builder, HANDLE, object.handle);
    put(builder, TYPE, object.kind);
    put(builder, USE, table.uses(&Reference::Object(object.name.clone(), object.kind)));
    builder.nest(DATA, |builder| describe_object(&object.object, &object.data, builder, reset));
    if let Some(data) = &object.user_data {
        builder.attr(USER_DATA, data.as_slice());
    }
}

const TABLE: u16 = 1;
const NAME: u16 = 2;
const TYPE: u16 = 3;
const DATA: u16 = 4;
const USE: u16 = 5;
const HANDLE: u16 = 6;
const USER_DATA: u16 = 8;
/// Bounds the memory that objects take.
const MAX_OBJECTS: usize = 1 << 14;
