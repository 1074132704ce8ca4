//! Expressions that look at sets and objects.

use std::time::Duration;

use netstack::filter::machine::{Expression, SetUpdate, UpdateKind};

use super::{Parser, Stored, optional_register, register, rewritten, set_name};
use crate::errno::Errno;
use crate::socket::netlink::message::Attributes;
use crate::socket::netlink::netfilter::attributes::{Outcome, Refused, long, name, needed, nested, number};
use crate::socket::netlink::netfilter::constants::SET_OBJECT;
use crate::socket::netlink::netfilter::model::Reference;

impl Parser<'_, '_> {
    pub(super) fn lookup(&mut self, data: Attributes<'_>, stored: &mut Stored) -> Outcome<Expression> {
        let set = self.set(data.str(LOOKUP_SET), number(data, LOOKUP_SET_ID))?;
        stored.data = rewritten(data, LOOKUP_SET, set_name(self.table(), set.slot), LOOKUP_SET_ID);
        let key = register(data, LOOKUP_SOURCE, set.elements.key_len())?;
        let is_inverted = match number(data, LOOKUP_FLAGS).unwrap_or(0) {
            0 => false,
            1 => true,
            _ => return Err(Errno::EINVAL.into()),
        };
        let Some(target) = number(data, LOOKUP_REGISTER) else {
            return Ok(Expression::Lookup { set: set.slot, key, to: None, is_inverted });
        };
        if !set.is_map() || is_inverted {
            return Err(Errno::EINVAL.into());
        }
        if target == 0 {
            return match set.has_verdicts() {
                true => Ok(Expression::VerdictMap { set: set.slot, key }),
                false => Err(Errno::EINVAL.into()),
            };
        }
        let len = usize::try_from(set.data_len).unwrap_or(usize::MAX);
        if set.has_verdicts() {
            return Err(Errno::EINVAL.into());
        }
        let to = register(data, LOOKUP_REGISTER, len)?;
        Ok(Expression::Lookup { set: set.slot, key, to: Some(to), is_inverted })
    }

    pub(super) fn update(&mut self, data: Attributes<'_>, stored: &mut Stored) -> Outcome<Expression> {
        let set = self.set(data.str(UPDATE_SET), number(data, UPDATE_SET_ID))?;
        stored.data = rewritten(data, UPDATE_SET, set_name(self.table(), set.slot), UPDATE_SET_ID);
        let kind = match needed(data, UPDATE_OP)? {
            0 => UpdateKind::Add,
            1 => UpdateKind::Update,
            2 => UpdateKind::Delete,
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        // Packets add keys, not ranges.
        if set.flags & crate::socket::netlink::netfilter::constants::SET_INTERVAL != 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let len = usize::try_from(set.data_len).unwrap_or(usize::MAX);
        let value = match optional_register(data, UPDATE_DATA, len.max(1))? {
            Some(_) if !set.is_map() || set.has_verdicts() => return Err(Errno::EOPNOTSUPP.into()),
            Some(register) => Some(register),
            None if set.is_map() => return Err(Errno::EINVAL.into()),
            None => None,
        };
        let own = match (nested(data, UPDATE_EXPRESSIONS), nested(data, UPDATE_EXPRESSION)) {
            (Some(list), _) => Parser::new(self.batch, self.table, self.family).counting(list)?,
            (None, Some(one)) => Parser::new(self.batch, self.table, self.family).single_counting(one)?,
            (None, None) => super::Parsed::default(),
        };
        Ok(Expression::Update(SetUpdate {
            set: set.slot,
            kind,
            key: register(data, UPDATE_KEY, set.elements.key_len())?,
            data: value,
            timeout: long(data, UPDATE_TIMEOUT).filter(|time| *time > 0).map(Duration::from_millis),
            expressions: own.expressions,
            is_inverted: number(data, UPDATE_FLAGS).unwrap_or(0) & 1 != 0,
        }))
    }

    pub(super) fn object(&mut self, data: Attributes<'_>, stored: &mut Stored) -> Outcome<Expression> {
        if data.find(OBJECT_SET_NAME).is_some() || data.find(OBJECT_SET_ID).is_some() {
            let set = self.set(data.str(OBJECT_SET_NAME), number(data, OBJECT_SET_ID))?;
            if set.flags & SET_OBJECT == 0 {
                return Err(Errno::EINVAL.into());
            }
            stored.data = rewritten(data, OBJECT_SET_NAME, set_name(self.table(), set.slot), OBJECT_SET_ID);
            let key = register(data, OBJECT_SET_SOURCE, set.elements.key_len())?;
            return Ok(Expression::ObjectMap { set: set.slot, key });
        }
        let (kind, text) = (needed(data, OBJECT_TYPE)?, name(data, OBJECT_NAME)?);
        let missing = Refused::at(Errno::ENOENT, data.find(OBJECT_NAME));
        let object = self.table().object(text, kind).ok_or(missing)?.object.clone();
        self.parsed.references.push(Reference::Object(text.to_owned(), kind));
        // Programs send the name without its end.
        stored.data = rewritten(data, OBJECT_NAME, text, 0);
        Ok(Expression::Object(object))
    }
}

const LOOKUP_SET: u16 = 1;
const LOOKUP_SOURCE: u16 = 2;
const LOOKUP_REGISTER: u16 = 3;
const LOOKUP_SET_ID: u16 = 4;
const LOOKUP_FLAGS: u16 = 5;
const UPDATE_SET: u16 = 1;
const UPDATE_SET_ID: u16 = 2;
const UPDATE_OP: u16 = 3;
const UPDATE_KEY: u16 = 4;
const UPDATE_DATA: u16 = 5;
const UPDATE_TIMEOUT: u16 = 6;
const UPDATE_EXPRESSION: u16 = 7;
const UPDATE_FLAGS: u16 = 9;
const UPDATE_EXPRESSIONS: u16 = 10;
const OBJECT_TYPE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_SET_SOURCE: u16 = 3;
const OBJECT_SET_NAME: u16 = 4;
const OBJECT_SET_ID: u16 = 5;
