//! From the entries of a table to the chains of the packet filter.

use std::collections::HashMap;

use netstack::filter::{Chain, ChainName, Counters, Hook, Policy, Rule, Target};
use netstack::options::Family;

use super::blob::{self, Entry, Layout};
use super::matches::{FLAG_GOTO_V4, FLAG_GOTO_V6, is_unconditional, tests};
use super::table::{Hooks, Name};
use super::targets::{self, Verdict, verdict};
use crate::errno::Errno;

/// Where an entry's packets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A rule of a chain.
    Rule(usize, usize),
    /// A chain's policy.
    Policy(usize),
    /// Nowhere: the entry names what follows.
    Head,
}

/// A table that was translated.
#[derive(Debug, Clone)]
pub(super) struct Translated {
    pub(super) chains: Vec<Chain>,
    /// One per entry: its offset and its place.
    pub(super) places: Vec<(usize, Place)>,
}

/// Translates a table.
///
/// # Errors
/// `EINVAL` for a table that makes no sense or cannot be honoured; `ENOENT` for matches and targets that there are not.
pub(super) fn translate(family: Family, name: Name, hooks: &Hooks, blob: &[u8]) -> Result<Translated, Errno> {
    let layout = Layout::of(family);
    let entries = blob::entries(layout, blob)?;
    let starts = user_chains(&entries)?;
    let mut translator = Translator { family, layout, name, hooks, starts, chains: Vec::new() };
    let mut places = Vec::with_capacity(entries.len());
    let mut state = Inside::Nothing;
    for (index, entry) in entries.iter().enumerate() {
        if let Some(hook) = hooks.starting_at(name, entry.offset) {
            if state != Inside::Nothing {
                return Err(Errno::EINVAL);
            }
            state = Inside::Builtin(hook);
            translator.chains.push(Chain::builtin(name.table(), hook, Policy::Accept));
        }
        let is_last = index + 1 == entries.len();
        let (place, next) = translator.entry(entry, state, is_last)?;
        places.push((entry.offset, place));
        state = next;
    }
    // The last entry is a head without a chain, and each hook must have led somewhere.
    let builtin = |chain: &&Chain| matches!(chain.name, ChainName::Builtin(..));
    let count = translator.chains.iter().filter(builtin).count();
    match state == Inside::Nothing && count == name.hooks().len() {
        true => Ok(Translated { chains: translator.chains, places }),
        false => Err(Errno::EINVAL),
    }
}

/// What kind of chain an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Builtin(Hook),
    User,
}

/// The names of the users' chains by the offset of their first entry.
fn user_chains(entries: &[Entry<'_>]) -> Result<HashMap<usize, String>, Errno> {
    let mut chains = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.target.name == ERROR) {
        chains.insert(entry.next, blob::text(entry.target.data)?.to_owned());
    }
    Ok(chains)
}

struct Translator<'a> {
    family: Family,
    layout: Layout,
    name: Name,
    hooks: &'a Hooks,
    starts: HashMap<usize, String>,
    chains: Vec<Chain>,
}

impl Translator<'_> {
    fn entry(&mut self, entry: &Entry<'_>, inside: Inside, is_last: bool) -> Result<(Place, Inside), Errno> {
        if entry.target.name == ERROR {
            if inside == Inside::User {
                self.end_of_user_chain()?;
            } else if inside != Inside::Nothing {
                return Err(Errno::EINVAL);
            }
            if is_last {
                return Ok((Place::Head, Inside::Nothing));
            }
            let name = blob::text(entry.target.data)?;
            self.chains.push(Chain::user(self.name.table(), name));
            return Ok((Place::Head, Inside::User));
        }
        if is_last || inside == Inside::Nothing {
            return Err(Errno::EINVAL);
        }
        // Linux begins with zeros, whatever the blob says; programs add what they want to keep.
        let counters = Counters::default();
        let at = self.chains.len() - 1;
        if let Inside::Builtin(hook) = inside
            && self.hooks.underflow(hook) == entry.offset
        {
            // "Underflows must be unconditional and use the STANDARD target with ACCEPT/DROP".
            let policy = match verdict(&entry.target) {
                Ok(Verdict::Accept) => Policy::Accept,
                Ok(Verdict::Drop) => Policy::Drop,
                _ => return Err(Errno::EINVAL),
            };
            if !entry.target.name.is_empty() || !is_unconditional(self.layout, entry) {
                return Err(Errno::EINVAL);
            }
            self.chains[at].name = ChainName::Builtin(hook, policy);
            self.chains[at].counters = counters;
            return Ok((Place::Policy(at), Inside::Nothing));
        }
        let target = self.target(entry)?;
        let tests = tests(self.family, self.layout, entry)?;
        self.chains[at].rules.push(Rule { tests, target, counters });
        Ok((Place::Rule(at, self.chains[at].rules.len() - 1), inside))
    }

    /// A user's chain ends with a return for all packets.
    fn end_of_user_chain(&self) -> Result<(), Errno> {
        let last = self.chains.last().and_then(|chain| chain.rules.last());
        let returns = last.is_some_and(|rule| rule.target == Target::Return && rule.tests.is_empty());
        if returns { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn target(&self, entry: &Entry<'_>) -> Result<Target, Errno> {
        if !entry.target.name.is_empty() {
            return targets::target(self.family, &entry.target);
        }
        Ok(match verdict(&entry.target)? {
            Verdict::Accept => Target::Accept,
            Verdict::Drop => Target::Drop,
            Verdict::Return => Target::Return,
            Verdict::Jump(to) if to == entry.next && !self.is_goto(entry) => Target::Continue,
            Verdict::Jump(to) => {
                let chain = self.starts.get(&to).cloned().ok_or(Errno::EINVAL)?;
                if self.is_goto(entry) { Target::Goto(chain) } else { Target::Jump(chain) }
            }
        })
    }
}

impl Translator<'_> {
    fn is_goto(&self, entry: &Entry<'_>) -> bool {
        let flag = match self.family {
            Family::V4 => FLAG_GOTO_V4,
            Family::V6 => FLAG_GOTO_V6,
        };
        entry.head[self.layout.flags_at] & flag != 0
    }
}

/// The target that names a chain, or ends the table.
const ERROR: &str = "ERROR";
