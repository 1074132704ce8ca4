//! What all lists have in common.

use netstack::time::Instant;

use super::Header;
use super::attributes::put;
use super::constants::{MSG_NEWGEN, SUBSYS_NFTABLES};
use super::model::{Model, Table};
use crate::socket::netlink::message::{Attributes, Builder, Reply};

/// What is asked, and of what.
pub(super) struct Query<'a> {
    pub(super) model: &'a Model,
    pub(super) family: u8,
    pub(super) attributes: Attributes<'a>,
    pub(super) now: Instant,
}

/// Whether what is listed starts again from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    Yes,
    No,
}

impl<'a> Query<'a> {
    /// The tables of the family that is asked for; 0 is all.
    pub(super) fn tables(&self) -> impl Iterator<Item = &'a Table> {
        let (family, model) = (self.family, self.model);
        model.tables.iter().map(|table| &**table).filter(move |table| family == 0 || table.family == family)
    }

    /// The tables that may be meant: with a name, only the one that has it.
    pub(super) fn tables_named(&self, name: Option<&'a str>) -> impl Iterator<Item = &'a Table> {
        self.tables().filter(move |table| name.is_none_or(|name| table.name == name))
    }

    /// Adds a message about something in a table of `family`.
    pub(super) fn message(&self, reply: &mut Reply, kind: u16, family: u8, fill: impl FnOnce(&mut Builder)) {
        reply.message(SUBSYS_NFTABLES << 8 | kind, &header(family, self.model.generation), fill);
    }
}

/// The header of messages about a family.
pub(super) fn header(family: u8, generation: u32) -> Header {
    // The lower half, as Linux.
    let resource = ((generation & 0xffff) as u16).to_be_bytes();
    Header { family, version: 0, resource }
}

/// Tells the generation.
pub(super) fn generation(query: &Query<'_>, reply: &mut Reply) {
    query.message(reply, MSG_NEWGEN, 0, |builder| {
        put(builder, GEN_ID, query.model.generation);
        put(builder, GEN_PROC_PID, 0);
        builder.attr_str(GEN_PROC_NAME, "");
    });
}

const GEN_ID: u16 = 1;
const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;
