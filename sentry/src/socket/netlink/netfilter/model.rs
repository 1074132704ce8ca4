//! Tables, chains, rules, sets and objects as a batch of messages changes them.
//!
//! A batch works on a copy, whose parts are shared with the original until they change; it becomes the current state at the end or
//! is thrown away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use netstack::filter::machine::{self, ChainId, ChainKind, CounterState, Object, SetId};
use netstack::filter::{Hook, Policy};

use super::expression::Stored;

/// All tables.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Counts the changes that were committed.
    pub(super) generation: u32,
    pub(super) tables: Vec<Arc<Table>>,
    pub(super) last_table: u64,
    pub(super) chain_slots: Slots,
    pub(super) set_slots: Slots,
}

impl Default for Model {
    fn default() -> Self {
        // Linux begins with generation 1.
        Self {
            generation: 1,
            tables: Vec::new(),
            last_table: 0,
            chain_slots: Slots::default(),
            set_slots: Slots::default(),
        }
    }
}

/// Small numbers that are given out and taken back.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    free: BTreeSet<u32>,
    next: u32,
}

impl Slots {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.insert(slot);
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.next).unwrap_or(usize::MAX) - self.free.len()
    }

    /// Behind the largest that is or was in use.
    pub(super) fn end(&self) -> usize {
        usize::try_from(self.next).unwrap_or(usize::MAX)
    }
}

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) family: u8,
    pub(super) name: String,
    pub(super) handle: u64,
    pub(super) flags: u32,
    pub(super) user_data: Option<Vec<u8>>,
    /// The last handle of what is in it.
    pub(super) last_handle: u64,
    pub(super) chains: Vec<Arc<Chain>>,
    pub(super) sets: Vec<Arc<Set>>,
    pub(super) objects: Vec<Arc<NamedObject>>,
}

impl Table {
    pub(super) fn next_handle(&mut self) -> u64 {
        self.last_handle += 1;
        self.last_handle
    }

    pub(super) fn is_dormant(&self) -> bool {
        self.flags & TABLE_DORMANT != 0
    }

    pub(super) fn chain(&self, name: &str) -> Option<&Arc<Chain>> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    pub(super) fn set(&self, name: &str) -> Option<&Arc<Set>> {
        self.sets.iter().find(|set| set.name == name)
    }

    pub(super) fn object(&self, name: &str, kind: u32) -> Option<&Arc<NamedObject>> {
        self.objects.iter().find(|object| object.name == name && object.kind == kind)
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.chains.iter().flat_map(|chain| &chain.rules)
    }

    /// What sets of this table lead to or use.
    fn refers(&self, reference: &Reference) -> usize {
        let of_rules =
            self.rules().flat_map(|rule| &rule.references).filter(|other| *other == reference).count();
        let of_sets = self.sets.iter().map(|set| set.count_references(reference)).sum::<usize>();
        of_rules + of_sets
    }

    /// Whether anything uses a chain, set or object.
    pub(super) fn is_used(&self, reference: &Reference) -> bool {
        self.refers(reference) > 0
    }

    /// How often it is used.
    pub(super) fn uses(&self, reference: &Reference) -> u32 {
        u32::try_from(self.refers(reference)).unwrap_or(u32::MAX)
    }
}

/// What rules and elements use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    Chain(ChainId),
    Set(SetId),
    Object(String, u32),
}

/// A chain.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) handle: u64,
    pub(super) slot: ChainId,
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) counter: Option<Arc<CounterState>>,
    pub(super) flags: u32,
    pub(super) user_data: Option<Vec<u8>>,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) hook: Hook,
    pub(super) number: u32,
    pub(super) priority: i32,
    pub(super) kind: ChainKind,
    pub(super) policy: Policy,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) handle: u64,
    /// As it was written, for listing.
    pub(super) stored: Vec<Stored>,
    /// As it is run.
    pub(super) compiled: Arc<machine::Rule>,
    pub(super) references: Vec<Reference>,
    pub(super) user_data: Option<Vec<u8>>,
}

/// A set or map.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) handle: u64,
    pub(super) slot: SetId,
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_len: u32,
    pub(super) data_type: u32,
    pub(super) data_len: u32,
    pub(super) object_type: u32,
    pub(super) policy: u32,
    /// How many elements there may be, if it was said.
    pub(super) size: Option<u32>,
    /// The lengths of the fields of a key.
    pub(super) fields: Vec<u32>,
    pub(super) timeout: Option<Duration>,
    pub(super) gc_interval: u32,
    pub(super) user_data: Option<Vec<u8>>,
    pub(super) expressions: Vec<Stored>,
    pub(super) templates: Arc<Vec<machine::Expression>>,
    pub(super) elements: Arc<machine::Set>,
    /// The batch that works on this copy already has elements of its own.
    pub(super) is_forked: bool,
}

impl Set {
    pub(super) fn is_map(&self) -> bool {
        self.flags & super::constants::SET_MAP != 0
    }

    pub(super) fn has_verdicts(&self) -> bool {
        self.is_map() && self.data_type == super::constants::DATA_VERDICT
    }

    fn count_references(&self, reference: &Reference) -> usize {
        if !self.has_verdicts() && self.object_type == 0 {
            return 0;
        }
        let mut count = 0;
        self.elements.for_each(netstack::time::Instant::ZERO, |_, element| {
            let is_it = match (&element.data, reference) {
                (Some(machine::Data::Verdict(verdict)), Reference::Chain(chain)) => {
                    matches!(verdict, machine::Verdict::Jump(to) | machine::Verdict::Goto(to) if to == chain)
                }
                (Some(machine::Data::Object(name, _)), Reference::Object(other, kind)) => {
                    name == other && self.object_type == *kind
                }
                _ => false,
            };
            count += usize::from(is_it);
        });
        count
    }
}

/// An object.
#[derive(Debug, Clone)]
pub(super) struct NamedObject {
    pub(super) name: String,
    pub(super) handle: u64,
    pub(super) kind: u32,
    /// As it was written.
    pub(super) data: Vec<u8>,
    pub(super) object: Object,
    pub(super) user_data: Option<Vec<u8>>,
}

impl Model {
    /// Where a table is.
    pub(super) fn find(&self, family: u8, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.family == family && table.name == name)
    }

    /// The table that a message names.
    pub(super) fn table_named(&self, family: u8, name: Option<&str>) -> Option<&Table> {
        self.find(family, name?).map(|index| &*self.tables[index])
    }

    /// A table to change.
    pub(super) fn table_mut(&mut self, index: usize) -> &mut Table {
        Arc::make_mut(&mut self.tables[index])
    }

    /// How many rules there are.
    pub(super) fn rule_count(&self) -> usize {
        self.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum()
    }

    /// Takes a set out of a table.
    pub(super) fn remove_set(&mut self, table: usize, slot: SetId) {
        self.table_mut(table).sets.retain(|set| set.slot != slot);
        self.set_slots.give_back(slot.0);
    }

    /// Takes rules that are gone for good out of the books: sets without a name go with their rule.
    pub(super) fn forget_rules(&mut self, table: usize, rules: &[Arc<Rule>]) {
        for reference in rules.iter().flat_map(|rule| &rule.references) {
            let slot = match reference {
                Reference::Set(slot) => *slot,
                Reference::Chain(slot) => {
                    self.forget_bound_chain(table, *slot);
                    continue;
                }
                Reference::Object(..) => continue,
            };
            let set = self.tables[table].sets.iter().find(|set| set.slot == slot);
            let is_anonymous = set.is_some_and(|set| set.flags & super::constants::SET_ANONYMOUS != 0);
            if is_anonymous && !self.tables[table].is_used(reference) {
                self.remove_set(table, slot);
            }
        }
    }

    /// A chain that was written inside a rule goes with it.
    fn forget_bound_chain(&mut self, table: usize, slot: ChainId) {
        let Some(place) = self.tables[table].chains.iter().position(|chain| chain.slot == slot) else {
            return;
        };
        let is_bound = self.tables[table].chains[place].flags & CHAIN_BINDING != 0;
        if is_bound && !self.tables[table].is_used(&Reference::Chain(slot)) {
            let chain = self.table_mut(table).chains.remove(place);
            self.chain_slots.give_back(slot.0);
            self.forget_rules(table, &chain.rules);
        }
    }
}

/// `NFT_TABLE_F_DORMANT`.
pub(super) const TABLE_DORMANT: u32 = 1;
/// `NFT_CHAIN_BINDING`.
pub(super) const CHAIN_BINDING: u32 = 4;
