//! Tables.

use std::sync::Arc;

use sentry_abi::netlink::{NLM_F_EXCL, NLM_F_REPLACE};

use super::attributes::{Outcome, Refused, name, number, put, put_long};
use super::batch::{Change, Missing};
use super::constants::*;
use super::dump::Query;
use super::model::{TABLE_DORMANT, Table};
use crate::errno::Errno;
use crate::socket::netlink::message::{Builder, Reply};

/// `NFT_MSG_NEWTABLE`.
pub(super) fn add(change: &mut Change<'_, '_>) -> Outcome {
    let attributes = change.attributes;
    let text = name(attributes, NAME)?;
    check_family(change.family)?;
    let flags = number(attributes, FLAGS).unwrap_or(0);
    // Tables that belong to the socket that made them are not built.
    if flags & !TABLE_DORMANT != 0 {
        return Err(Refused::at(Errno::EOPNOTSUPP, attributes.find(FLAGS)));
    }
    if let Some(index) = change.batch.model.find(change.family, text) {
        if change.has(NLM_F_EXCL) {
            return Err(Refused::at(Errno::EEXIST, attributes.find(NAME)));
        }
        if change.has(NLM_F_REPLACE) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if attributes.find(FLAGS).is_some() {
            change.batch.model.table_mut(index).flags = flags;
        }
        return Ok(());
    }
    if change.batch.model.tables.len() >= MAX_TABLES {
        return Err(Errno::ENOMEM.into());
    }
    change.batch.model.last_table += 1;
    change.batch.model.tables.push(Arc::new(Table {
        family: change.family,
        name: text.to_owned(),
        handle: change.batch.model.last_table,
        flags,
        user_data: attributes.find(USER_DATA).map(<[u8]>::to_vec),
        last_handle: 0,
        chains: Vec::new(),
        sets: Vec::new(),
        objects: Vec::new(),
    }));
    Ok(())
}

/// Which families there are tables for: those of bridges, ARP and devices are not built.
fn check_family(family: u8) -> Outcome {
    match family {
        FAMILY_INET | FAMILY_V4 | FAMILY_V6 => Ok(()),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// `NFT_MSG_DELTABLE`: one table, those of a family, or all.
pub(super) fn remove(change: &mut Change<'_, '_>, missing: Missing) -> Outcome {
    let attributes = change.attributes;
    let (family, wanted) = (change.family, attributes.str(NAME));
    let by_handle = super::attributes::long(attributes, HANDLE);
    if wanted.is_none() && by_handle.is_none() {
        change.remove_tables(|table| family == 0 || table.family == family);
        return Ok(());
    }
    let found = change.batch.model.tables.iter().any(|table| is_meant(table, family, wanted, by_handle));
    if !found {
        let blamed = attributes.find(HANDLE).or(attributes.find(NAME));
        return missing.or(Refused::at(Errno::ENOENT, blamed));
    }
    change.remove_tables(|table| is_meant(table, family, wanted, by_handle));
    Ok(())
}

fn is_meant(table: &Table, family: u8, name: Option<&str>, handle: Option<u64>) -> bool {
    table.family == family
        && match handle {
            Some(handle) => table.handle == handle,
            None => name == Some(&table.name),
        }
}

/// `NFT_MSG_GETTABLE`.
pub(super) fn get(query: &Query<'_>, is_dump: bool, reply: &mut Reply) -> Outcome {
    if is_dump {
        for table in query.tables() {
            query.message(reply, MSG_NEWTABLE, table.family, |builder| describe(table, builder));
        }
        return Ok(());
    }
    let text = name(query.attributes, NAME)?;
    let missing = Refused::at(Errno::ENOENT, query.attributes.find(NAME));
    let table = query.tables_named(Some(text)).next().ok_or(missing)?;
    query.message(reply, MSG_NEWTABLE, table.family, |builder| describe(table, builder));
    Ok(())
}

pub(super) fn describe(table: &Table, builder: &mut Builder) {
    builder.attr_str(NAME, &table.name);
    put(builder, FLAGS, table.flags);
    let uses = table.chains.len() + table.sets.len() + table.objects.len();
    put(builder, USE, u32::try_from(uses).unwrap_or(u32::MAX));
    put_long(builder, HANDLE, table.handle);
    if let Some(data) = &table.user_data {
        builder.attr(USER_DATA, data.as_slice());
    }
}

const NAME: u16 = 1;
const FLAGS: u16 = 2;
const USE: u16 = 3;
const HANDLE: u16 = 4;
const USER_DATA: u16 = 6;
/// Bounds the memory that rules take.
const MAX_TABLES: usize = 4096;
