//! Rules as the user writes them.

mod measure;
mod target;
mod test;

pub use measure::{Carried, CarriedTest, ConnLimit, ContentTest, TimeTest};
pub use target::{
    ConnMarkAction, LogPrefix, MssTarget, NatRange, Ports, ProxyTarget, RejectWith, Target, TtlAction,
};
pub use test::{
    AddressKinds, ConnTest, EndTest, HashLimit, HashLimitKey, OwnerTest, PacketKind, RecentAction,
    RecentTest, Side, SocketTest, StatisticMode, Test, U32Step, U32Test,
};

/// All rules of a family.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ruleset {
    /// The chains, at most one of a name per table.
    pub chains: Vec<Chain>,
}

impl Ruleset {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a chain.
    pub fn chain(mut self, chain: Chain) -> Self {
        self.chains.push(chain);
        self
    }
}

/// The tables, in the order in which a packet meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Before tracking.
    Raw,
    /// For marks.
    Mangle,
    /// For translation; sees the first packet of each flow only.
    Nat,
    /// For everything else.
    Filter,
    /// After the filter, for who must not be overruled by it.
    Security,
}

/// Where packets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Everything that arrives.
    Prerouting,
    /// What is for this stack.
    Input,
    /// What is for somebody else.
    Forward,
    /// What this stack makes.
    Output,
    /// Everything that leaves.
    Postrouting,
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// The table it is in.
    pub table: Table,
    /// Its name.
    pub name: ChainName,
    /// The rules, first to last.
    pub rules: Vec<Rule>,
    /// What fell through to the policy.
    pub counters: Counters,
}

/// The name of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainName {
    /// Packets start here; the policy decides about those that no rule decided about.
    Builtin(Hook, Policy),
    /// Rules jump here.
    User(String),
}

/// What happens to packets that no rule of a built-in chain decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// They go on.
    Accept,
    /// They vanish.
    Drop,
}

impl Chain {
    /// A chain that packets start in.
    pub fn builtin(table: Table, hook: Hook, policy: Policy) -> Self {
        let name = ChainName::Builtin(hook, policy);
        Self { table, name, rules: Vec::new(), counters: Counters::default() }
    }

    /// A chain that rules jump to.
    pub fn user(table: Table, name: &str) -> Self {
        let name = ChainName::User(name.to_owned());
        Self { table, name, rules: Vec::new(), counters: Counters::default() }
    }

    /// Appends a rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }
}

/// A rule: what to do with packets that pass all tests.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The tests; those with `true` must fail instead.
    pub tests: Vec<(Test, bool)>,
    /// What to do.
    pub target: Target,
    /// What to start counting from, and what was counted.
    pub counters: Counters,
}

impl Rule {
    /// A rule for all packets.
    pub fn new(target: Target) -> Self {
        Self { tests: Vec::new(), target, counters: Counters::default() }
    }

    /// Adds a test that packets must pass.
    pub fn when(mut self, test: Test) -> Self {
        self.tests.push((test, false));
        self
    }

    /// Adds a test that packets must fail (`!`).
    pub fn unless(mut self, test: Test) -> Self {
        self.tests.push((test, true));
        self
    }
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets; a super-segment is one.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}
