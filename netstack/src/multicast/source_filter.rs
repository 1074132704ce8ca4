//! Which sources of a group are wanted.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Whether a list names what is wanted or what is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterMode {
    /// Only the sources in the list.
    Include,
    /// All but the sources in the list.
    Exclude,
}

/// The sources of a group that are wanted. An empty include list is no membership at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFilter {
    /// What the list means.
    pub mode: FilterMode,
    /// The list.
    pub sources: BTreeSet<IpAddr>,
}

impl SourceFilter {
    /// Everything: what joining without a source means.
    pub fn any() -> Self {
        Self { mode: FilterMode::Exclude, sources: BTreeSet::new() }
    }

    /// Nothing.
    pub fn none() -> Self {
        Self { mode: FilterMode::Include, sources: BTreeSet::new() }
    }

    /// Tells whether nothing is wanted.
    pub fn is_none(&self) -> bool {
        self.mode == FilterMode::Include && self.sources.is_empty()
    }

    /// Tells whether a source is wanted.
    pub fn allows(&self, source: IpAddr) -> bool {
        self.sources.contains(&source) == (self.mode == FilterMode::Include)
    }

    /// What an interface must receive for all of its members (RFC 3376 section 3.2).
    pub(crate) fn merged<'a>(filters: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let included: BTreeSet<IpAddr> = filters
            .clone()
            .filter(|filter| filter.mode == FilterMode::Include)
            .flat_map(|filter| filter.sources.iter().copied())
            .collect();
        let mut excluding = filters.filter(|filter| filter.mode == FilterMode::Exclude);
        let Some(first) = excluding.next() else {
            return Self { mode: FilterMode::Include, sources: included };
        };
        // "the intersection of the source lists of all EXCLUDE records, minus the source addresses that appear in any of
        // the INCLUDE records".
        let common = excluding.fold(first.sources.clone(), |common, filter| {
            common.intersection(&filter.sources).copied().collect()
        });
        Self { mode: FilterMode::Exclude, sources: &common - &included }
    }
}
