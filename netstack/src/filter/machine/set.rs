//! Sets and maps: exact, of intervals, and of concatenated ranges.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::Object;
use super::{Expression, REGISTER_BYTES, Verdict};
use crate::sync::RwLock;
use crate::time::Instant;

/// A set of keys, or a map from keys to data.
#[derive(Debug)]
pub struct Set {
    kind: SetKind,
    key_len: usize,
    /// When elements are forgotten that do not say it themselves.
    timeout: Option<Duration>,
    /// How many elements there may be.
    limit: usize,
    elements: RwLock<Elements>,
}

/// What keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetKind {
    /// Each element is a key.
    Exact,
    /// Elements are beginnings and ends of intervals.
    Intervals,
    /// Elements are ranges in each of several fields.
    Fields(Vec<KeyField>),
}

/// A field of concatenated keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyField {
    /// How many bytes it has; it takes whole words.
    pub len: u8,
}

/// The key of an element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementKey {
    /// The key, or the beginning of the range.
    pub key: Vec<u8>,
    /// It is where an interval ends, and not in it. Ends sort before the beginnings at the same place.
    pub place: KeyPlace,
    /// The end of the range, for concatenated ranges; it is in it.
    pub key_end: Option<Vec<u8>>,
}

/// What an [`ElementKey`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPlace {
    /// The end of an interval.
    End,
    /// A key, or the beginning of an interval.
    Start,
}

/// An element of a set.
#[derive(Debug)]
pub struct Element {
    /// What a map has for the key.
    pub data: Option<Data>,
    /// When it is forgotten after it was last noted.
    pub timeout: Option<Duration>,
    /// When it is forgotten.
    pub expires: Option<Instant>,
    /// What it does for its packets: only what counts or limits.
    pub expressions: Vec<Expression>,
    /// What its maker wants to know of it later.
    pub user_data: Vec<u8>,
    /// It stands for every key that has no other.
    pub is_catch_all: bool,
}

/// What a map has for a key.
#[derive(Debug, Clone)]
pub enum Data {
    /// Bytes.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
    /// An object, and its name.
    Object(String, Object),
}

/// There is no room for another element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the set is full")]
pub struct SetFull;

type Elements = BTreeMap<ElementKey, Element>;

impl Set {
    /// An empty set with keys of some length, at most 64 bytes.
    pub fn new(kind: SetKind, key_len: usize, timeout: Option<Duration>, limit: usize) -> Self {
        Self { kind, key_len: key_len.min(REGISTER_BYTES), timeout, limit, elements: RwLock::default() }
    }

    /// The length of its keys.
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.elements.read().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.elements.read().is_empty()
    }

    /// Shows each element that is not over, in the order of the keys.
    pub fn for_each(&self, now: Instant, mut show: impl FnMut(&ElementKey, &Element)) {
        let elements = self.elements.read();
        elements
            .iter()
            .filter(|(_, element)| !element.is_over(now))
            .for_each(|(key, element)| show(key, element));
    }

    /// Shows one element.
    pub fn get<T>(&self, key: &ElementKey, now: Instant, show: impl FnOnce(&Element) -> T) -> Option<T> {
        self.elements.read().get(key).filter(|element| !element.is_over(now)).map(show)
    }

    /// Enters an element; it takes the place of one with the same key.
    pub fn insert(&self, key: ElementKey, element: Element) -> Result<(), SetFull> {
        let mut elements = self.elements.write();
        if elements.len() >= self.limit && !elements.contains_key(&key) {
            return Err(SetFull);
        }
        elements.insert(key, element);
        Ok(())
    }

    /// Removes an element; false if it is not there.
    pub fn remove(&self, key: &ElementKey) -> bool {
        self.elements.write().remove(key).is_some()
    }

    /// Removes all.
    pub fn clear(&self) {
        drop(std::mem::take(&mut *self.elements.write()));
    }

    /// A copy to change, in which what elements count is still shared.
    pub fn fork(&self) -> Self {
        let elements =
            self.elements.read().iter().map(|(key, element)| (key.clone(), element.share())).collect();
        let Self { kind, key_len, timeout, limit, elements: _ } = self;
        Self {
            kind: kind.clone(),
            key_len: *key_len,
            timeout: *timeout,
            limit: *limit,
            elements: RwLock::new(elements),
        }
    }

    /// Looks a key up and shows its element.
    pub(super) fn lookup<T>(&self, key: &[u8], now: Instant, show: impl FnOnce(&Element) -> T) -> Option<T> {
        let elements = self.elements.read();
        let found = match &self.kind {
            SetKind::Exact => elements.get(&ElementKey::exact(key)),
            SetKind::Intervals => {
                let last = ElementKey::exact(key);
                let before = elements.range(..=last).rev().find(|(_, element)| !element.is_catch_all);
                before.filter(|(key, _)| key.place == KeyPlace::Start).map(|(_, element)| element)
            }
            SetKind::Fields(fields) => {
                let holds = |entry: &ElementKey| entry.covers(fields, key);
                elements
                    .iter()
                    .find(|(entry, element)| !element.is_over(now) && holds(entry))
                    .map(|(_, found)| found)
            }
        };
        let found = found.filter(|element| !element.is_over(now) && !element.is_catch_all);
        found.or_else(|| elements.get(&ElementKey::catch_all())).map(show)
    }

    /// Enters or renews what a packet brings; false if there is no room.
    pub(super) fn note(&self, key: &[u8], now: Instant, note: Note<'_>) -> bool {
        let mut elements = self.elements.write();
        let place = ElementKey::exact(key);
        let timeout = note.timeout.or(self.timeout);
        if elements.get(&place).is_some_and(|element| element.is_over(now)) {
            elements.remove(&place);
        }
        if let Some(element) = elements.get_mut(&place) {
            if note.renews {
                element.expires = timeout.map(|timeout| now + timeout);
            }
            return (note.then)(element);
        }
        if elements.len() >= self.limit {
            elements.retain(|_, element| !element.is_over(now));
            if elements.len() >= self.limit {
                return false;
            }
        }
        let element = Element {
            data: note.data,
            timeout,
            expires: timeout.map(|timeout| now + timeout),
            expressions: note.expressions.iter().filter_map(Expression::with_own_state).collect(),
            user_data: Vec::new(),
            is_catch_all: false,
        };
        let passes = (note.then)(&element);
        elements.insert(place, element);
        passes
    }
}

/// What a packet brings to a set.
pub(super) struct Note<'a> {
    pub(super) renews: bool,
    pub(super) data: Option<Data>,
    pub(super) timeout: Option<Duration>,
    pub(super) expressions: &'a [Expression],
    /// What the element does for the packet.
    pub(super) then: &'a mut dyn FnMut(&Element) -> bool,
}

impl ElementKey {
    /// A key, or where an interval begins.
    pub fn exact(key: &[u8]) -> Self {
        Self { key: key.to_vec(), place: KeyPlace::Start, key_end: None }
    }

    /// What stands for every other key: no key has no bytes.
    pub fn catch_all() -> Self {
        Self::exact(&[])
    }

    fn covers(&self, fields: &[KeyField], key: &[u8]) -> bool {
        let end = self.key_end.as_ref().unwrap_or(&self.key);
        let mut at = 0;
        !self.key.is_empty()
            && fields.iter().all(|field| {
                let range = at..at + usize::from(field.len);
                at += usize::from(field.len).next_multiple_of(4);
                match (self.key.get(range.clone()), key.get(range.clone()), end.get(range)) {
                    (Some(first), Some(value), Some(last)) => first <= value && value <= last,
                    _ => false,
                }
            })
    }
}

impl Element {
    /// An element that says nothing but its key.
    pub fn plain() -> Self {
        Self {
            data: None,
            timeout: None,
            expires: None,
            expressions: Vec::new(),
            user_data: Vec::new(),
            is_catch_all: false,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The same element, which counts where this one counts.
    pub fn share(&self) -> Self {
        let Self { data, timeout, expires, expressions, user_data, is_catch_all } = self;
        Self {
            data: data.clone(),
            timeout: *timeout,
            expires: *expires,
            expressions: expressions.iter().filter_map(Expression::shared).collect(),
            user_data: user_data.clone(),
            is_catch_all: *is_catch_all,
        }
    }
}
