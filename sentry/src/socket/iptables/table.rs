//! A table.

use netstack::filter::{Chain, Hook, Table};
use netstack::options::Family;

use super::blob::{Layout, plain_entry};
use super::translate::{Place, Translated, translate};
use crate::errno::Errno;

/// The tables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Raw,
    Mangle,
    Nat,
    Filter,
    Security,
}

impl Name {
    pub(super) const ALL: [Self; 5] = [Self::Raw, Self::Mangle, Self::Nat, Self::Filter, Self::Security];

    /// The table with a name.
    ///
    /// # Errors
    /// `ENOENT`.
    pub(super) fn find(name: &str) -> Result<Self, Errno> {
        Self::ALL.into_iter().find(|table| table.text() == name).ok_or(Errno::ENOENT)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
            Self::Security => "security",
        }
    }

    /// The same for the packet filter.
    pub(super) fn table(self) -> Table {
        match self {
            Self::Raw => Table::Raw,
            Self::Mangle => Table::Mangle,
            Self::Nat => Table::Nat,
            Self::Filter => Table::Filter,
            Self::Security => Table::Security,
        }
    }

    /// Where it sees packets, in the order of Linux's numbers.
    pub(super) fn hooks(self) -> &'static [Hook] {
        use Hook::{Forward, Input, Output, Postrouting, Prerouting};
        match self {
            Self::Raw => &[Prerouting, Output],
            Self::Mangle => &[Prerouting, Input, Forward, Output, Postrouting],
            Self::Nat => &[Prerouting, Input, Output, Postrouting],
            Self::Filter | Self::Security => &[Input, Forward, Output],
        }
    }

    /// The same as bits.
    pub(super) fn valid_hooks(self) -> u32 {
        self.hooks().iter().map(|hook| 1 << number(*hook)).sum()
    }
}

/// `NF_INET_PRE_ROUTING` and so on.
pub(super) fn number(hook: Hook) -> usize {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// Where each hook's chain begins, and where its policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hooks {
    pub(super) entry: [u32; 5],
    pub(super) underflow: [u32; 5],
}

impl Hooks {
    /// The hook whose chain begins at an offset.
    pub(super) fn starting_at(&self, name: Name, offset: usize) -> Option<Hook> {
        let starts = |hook: &Hook| usize::try_from(self.entry[number(*hook)]) == Ok(offset);
        name.hooks().iter().copied().find(starts)
    }

    /// Where a hook's policy is.
    pub(super) fn underflow(&self, hook: Hook) -> usize {
        usize::try_from(self.underflow[number(hook)]).unwrap_or(usize::MAX)
    }
}

/// A table of a family.
#[derive(Debug, Clone)]
pub(super) struct IpTable {
    pub(super) name: Name,
    pub(super) hooks: Hooks,
    pub(super) blob: Vec<u8>,
    pub(super) translated: Translated,
}

impl IpTable {
    /// Translates a blob.
    ///
    /// # Errors
    /// As [`translate`].
    pub(super) fn new(family: Family, name: Name, hooks: Hooks, blob: Vec<u8>) -> Result<Self, Errno> {
        let translated = translate(family, name, &hooks, &blob)?;
        Ok(Self { name, hooks, blob, translated })
    }

    /// The table as it is at first: every chain is empty and accepts.
    pub(super) fn initial(family: Family, name: Name) -> Self {
        let layout = Layout::of(family);
        let mut hooks = Hooks::default();
        let mut blob = Vec::new();
        for hook in name.hooks() {
            // A few hundred bytes.
            let at = u32::try_from(blob.len()).unwrap_or_default();
            hooks.entry[number(*hook)] = at;
            hooks.underflow[number(*hook)] = at;
            // NF_ACCEPT as a verdict.
            blob.extend(plain_entry(layout, "", &(-2_i32).to_ne_bytes()));
        }
        let mut name_of_end = [0; 30];
        name_of_end[..5].copy_from_slice(b"ERROR");
        blob.extend(plain_entry(layout, "ERROR", &name_of_end));
        let translated = Translated { chains: Vec::new(), places: Vec::new() };
        let made = Self::new(family, name, hooks, blob.clone());
        made.unwrap_or(Self { name, hooks, blob, translated })
    }

    /// Whether it does nothing to any packet.
    pub(super) fn is_idle(&self) -> bool {
        self.translated.chains.iter().all(|chain| {
            let accepts = !matches!(
                chain.name,
                netstack::filter::ChainName::Builtin(_, netstack::filter::Policy::Drop)
            );
            accepts && chain.rules.is_empty()
        })
    }

    /// Takes over what was counted: `current` are the chains of this table, as the filter has them.
    pub(super) fn update_counters(&mut self, family: Family, current: &[&Chain]) {
        if current.len() == self.translated.chains.len() {
            for (chain, now) in self.translated.chains.iter_mut().zip(current) {
                chain.counters = now.counters;
                for (rule, now) in chain.rules.iter_mut().zip(&now.rules) {
                    rule.counters = now.counters;
                }
            }
        }
        self.write_counters(family);
    }

    /// Adds to the counters, an entry each.
    pub(super) fn add_counters(&mut self, family: Family, added: &[(u64, u64)]) {
        for ((_, place), (packets, bytes)) in self.translated.places.iter().zip(added) {
            let counters = match *place {
                Place::Rule(chain, rule) => &mut self.translated.chains[chain].rules[rule].counters,
                Place::Policy(chain) => &mut self.translated.chains[chain].counters,
                Place::Head => continue,
            };
            counters.packets = counters.packets.wrapping_add(*packets);
            counters.bytes = counters.bytes.wrapping_add(*bytes);
        }
        self.write_counters(family);
    }

    fn write_counters(&mut self, family: Family) {
        let layout = Layout::of(family);
        for ((offset, _), (packets, bytes)) in self.translated.places.iter().zip(self.counters()) {
            layout.set_counters(&mut self.blob[*offset..], packets, bytes);
        }
    }

    /// The packets and bytes of each entry.
    pub(super) fn counters(&self) -> Vec<(u64, u64)> {
        let chains = &self.translated.chains;
        let of_place = |(_, place): &(usize, Place)| match *place {
            Place::Rule(chain, rule) => {
                let counters = chains[chain].rules[rule].counters;
                (counters.packets, counters.bytes)
            }
            Place::Policy(chain) => (chains[chain].counters.packets, chains[chain].counters.bytes),
            Place::Head => (0, 0),
        };
        self.translated.places.iter().map(of_place).collect()
    }
}
