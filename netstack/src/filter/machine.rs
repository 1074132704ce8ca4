//! A register machine for packets: the second way to write rules, with the semantics of nftables.
//!
//! A [`Rule`] is a list of [`Expression`]s that run in order: some load bytes of the packet, or what is known of it, into
//! registers; others compare, look up or change; a verdict ends the rule. Base chains run at a hook, in the order of their
//! priorities, beside the tables of [`Ruleset`](super::Ruleset), which have the priorities that they have in Linux.
//!
//! Chains and sets are named by [`ChainId`] and [`SetId`], slots of a [`Program`]. A program is set as a whole; what expressions
//! count and what sets learn from packets is shared between a program and the next as long as both hold the same `Arc`.

mod compile;
mod expression;
mod extension;
mod load;
mod run;
mod set;
mod state;
mod store;

pub use compile::ProgramError;
pub(super) use compile::{CompiledProgram, PlacedChain};
pub use expression::{
    AddressFamily, BitwiseOp, Comparison, CompatTest, ConnField, Expression, ExtensionKind, FibInput,
    FibResult, FlowDirection, LogRule, MetaField, NatKind, NatRule, Payload, PayloadBase, ProxyRule,
    RejectRule, RouteField, SetUpdate, Shift, SocketField, UpdateKind,
};
pub(super) use run::run;
pub use set::{Data, Element, ElementKey, KeyField, KeyPlace, Set, SetFull, SetKind};
pub use state::{CounterState, LastState, Object, QuotaState, RateKind, RateState};

use std::sync::Arc;

use super::rule::{Hook, Policy};

/// All chains and sets.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The chains, by their ids; a slot may be empty.
    pub chains: Vec<Option<Arc<Chain>>>,
    /// The sets, by their ids; a slot may be empty.
    pub sets: Vec<Option<Arc<Set>>>,
}

/// The slot of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u32);

/// The slot of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u32);

/// A list of rules.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Where packets start in it, if they do.
    pub base: Option<Base>,
    /// The rules, first to last.
    pub rules: Vec<Arc<Rule>>,
    /// What passed a base chain.
    pub counter: Option<Arc<CounterState>>,
}

/// Where a chain is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Packets of which family.
    pub family: AddressFamily,
    /// At which hook.
    pub hook: Hook,
    /// When: chains with lower numbers see packets first.
    pub priority: i32,
    /// What it may do.
    pub kind: ChainKind,
    /// What happens to packets that no rule decided about.
    pub policy: Policy,
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// It sees every packet.
    Filter,
    /// It sees the first packet of each flow, and may translate it.
    Nat,
    /// What it changes leads packets of ours elsewhere.
    Route,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// What it does, in order.
    pub expressions: Vec<Expression>,
}

/// Where packets go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes this base chain.
    Accept,
    /// It vanishes.
    Drop,
    /// With the next expression.
    Continue,
    /// With the next rule.
    Break,
    /// In another chain, and then with the next rule.
    Jump(ChainId),
    /// In another chain, and then where this chain was jumped to from.
    Goto(ChainId),
    /// Where this chain was jumped to from.
    Return,
}

/// A register: 64 bytes of state, in words of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(u8);

impl Register {
    /// The register that begins at a word; `None` behind the last.
    pub const fn at_word(word: u8) -> Option<Self> {
        if (word as usize) < REGISTER_WORDS { Some(Self(word)) } else { None }
    }

    /// Whether so many bytes fit from here on.
    pub const fn has_room(self, len: usize) -> bool {
        len > 0 && self.0 as usize * 4 + len <= REGISTER_BYTES
    }

    const fn offset(self) -> usize {
        self.0 as usize * 4
    }
}

/// How many words there are.
pub const REGISTER_WORDS: usize = 16;
/// The same in bytes.
pub const REGISTER_BYTES: usize = REGISTER_WORDS * 4;
/// How deep chains may lead into chains: Linux's NFT_JUMP_STACK_SIZE.
pub const MAX_JUMPS: usize = 16;
