//! The tables of a network namespace.

use netstack::Stack;
use netstack::filter::{Ruleset, RulesetError};
use netstack::options::Family;
use parking_lot::Mutex;

use super::table::{Hooks, IpTable, Name};
use crate::errno::Errno;

/// The tables of both families. A table is made when it is first asked for, as Linux loads its module then.
#[derive(Debug, Default)]
pub(crate) struct IpTables(Mutex<[Vec<IpTable>; 2]>);

/// A table that is to be set.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) name: Name,
    pub(super) hooks: Hooks,
    pub(super) blob: Vec<u8>,
    pub(super) entries: usize,
    /// How many entries the table is thought to have now.
    pub(super) old_entries: usize,
}

fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

impl IpTables {
    /// The names of the tables that were asked for (`/proc/net/ip_tables_names`), the newest first.
    pub(crate) fn names(&self, family: Family) -> Vec<&'static str> {
        self.0.lock()[index(family)].iter().rev().map(|table| table.name.text()).collect()
    }

    /// A table with what was counted so far.
    pub(super) fn get(&self, stack: &Stack, family: Family, name: Name) -> IpTable {
        let mut tables = self.0.lock();
        let tables = &mut tables[index(family)];
        refresh(stack, family, tables);
        match tables.iter().find(|table| table.name == name) {
            Some(table) => table.clone(),
            None => {
                let table = IpTable::initial(family, name);
                tables.push(table.clone());
                table
            }
        }
    }

    /// Replaces a table, and returns the counters that it had.
    ///
    /// # Errors
    /// `EAGAIN` if it has changed meanwhile; `EINVAL`, `ENOENT`, `ELOOP` for what makes no sense or is not there.
    pub(super) fn replace(
        &self,
        stack: &Stack,
        family: Family,
        new: Replacement,
    ) -> Result<Vec<(u64, u64)>, Errno> {
        let Replacement { name, hooks, blob, entries, old_entries } = new;
        let table = IpTable::new(family, name, hooks, blob)?;
        if table.translated.places.len() != entries {
            return Err(Errno::EINVAL);
        }
        let mut tables = self.0.lock();
        let tables = &mut tables[index(family)];
        refresh(stack, family, tables);
        let place = tables.iter().position(|table| table.name == name);
        let old = place.map_or_else(|| IpTable::initial(family, name), |place| tables[place].clone());
        if old.translated.places.len() != old_entries {
            return Err(Errno::EAGAIN);
        }
        let mut changed = tables.clone();
        match place {
            Some(place) => changed[place] = table,
            None => changed.push(table),
        }
        apply(stack, family, &changed)?;
        *tables = changed;
        Ok(old.counters())
    }

    /// Adds to the counters of a table.
    ///
    /// # Errors
    /// `EINVAL` unless there is one for each entry.
    pub(super) fn add_counters(
        &self,
        stack: &Stack,
        family: Family,
        name: Name,
        added: &[(u64, u64)],
    ) -> Result<(), Errno> {
        let mut tables = self.0.lock();
        let tables = &mut tables[index(family)];
        refresh(stack, family, tables);
        let table = tables.iter_mut().find(|table| table.name == name).ok_or(Errno::ENOENT)?;
        if table.translated.places.len() != added.len() {
            return Err(Errno::EINVAL);
        }
        table.add_counters(family, added);
        apply(stack, family, tables)
    }
}

/// Takes over what the filter has counted.
fn refresh(stack: &Stack, family: Family, tables: &mut [IpTable]) {
    let current = stack.filter(family);
    for table in tables {
        let of_table = |chain: &&netstack::filter::Chain| chain.table == table.name.table();
        let chains: Vec<_> = current.chains.iter().filter(of_table).collect();
        table.update_counters(family, &chains);
    }
}

/// Gives the rules to the stack; none at all while no table does anything, so that packets pass without a look.
fn apply(stack: &Stack, family: Family, tables: &[IpTable]) -> Result<(), Errno> {
    let mut ruleset = Ruleset::new();
    if !tables.iter().all(IpTable::is_idle) {
        for table in tables {
            ruleset.chains.extend(table.translated.chains.iter().cloned());
        }
    }
    stack.set_filter(family, ruleset).map_err(|error| match error {
        RulesetError::Loop(_) | RulesetError::TooDeep => Errno::ELOOP,
        RulesetError::DuplicateChain(_)
        | RulesetError::NoSuchHook(..)
        | RulesetError::NoSuchChain(_)
        | RulesetError::TargetNotForTable(_)
        | RulesetError::TargetNotForHook(_)
        | RulesetError::RejectNotForFamily(_)
        | RulesetError::ResetWithoutTcp
        | RulesetError::ProxyWithoutProtocol
        | RulesetError::FamilyMismatch
        | RulesetError::EmptyRange => Errno::EINVAL,
    })
}
