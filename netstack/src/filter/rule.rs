//! Rules as the user writes them.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use netstack_wire::ip::Protocol;
use netstack_wire::tcp::TcpFlags;

use crate::cidr::IpCidr;
use crate::conntrack::ConnState;
use crate::route::MarkMatch;

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

/// What a rule looks at.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The source address (`-s`).
    Source(IpCidr),
    /// The destination address (`-d`).
    Destination(IpCidr),
    /// The name of the NIC it came in through; a final `+` stands for anything (`-i`).
    InputNic(String),
    /// The name of the NIC it leaves through (`-o`).
    OutputNic(String),
    /// The transport protocol (`-p`).
    Protocol(Protocol),
    /// The source port is in one of the ranges (`--sport`, `-m multiport --sports`).
    SourcePort(Vec<RangeInclusive<u16>>),
    /// The destination port is (`--dport`, `-m multiport --dports`).
    DestinationPort(Vec<RangeInclusive<u16>>),
    /// One of the two is (`-m multiport --ports`).
    EitherPort(Vec<RangeInclusive<u16>>),
    /// Of the flags in `mask`, exactly those in `set` are set (`--tcp-flags`).
    TcpFlags {
        /// The flags to look at.
        mask: TcpFlags,
        /// Those of them that must be set.
        set: TcpFlags,
    },
    /// The ICMP type, and the code if given (`--icmp-type`, `--icmpv6-type`).
    Icmp {
        /// The type.
        kind: u8,
        /// The code.
        code: Option<u8>,
    },
    /// What the packet is to its flow (`-m conntrack --ctstate`). Any of these.
    State(ConnState),
    /// The firewall mark (`-m mark`).
    Mark(MarkMatch),
    /// Who sent it: [`SocketOptions::owner`](crate::options::SocketOptions) (`-m owner`).
    Owner(u64),
    /// Passes at most this often (`-m limit`).
    Limit {
        /// The time in which one more packet passes.
        interval: Duration,
        /// How many pass at once after a time of silence.
        burst: u32,
    },
    /// The TTL or hop limit is in the range (`-m ttl`, `-m hl`).
    Ttl(RangeInclusive<u8>),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Counts, and goes on with the next rule.
    Continue,
    /// The packet passes this table.
    Accept,
    /// The packet vanishes.
    Drop,
    /// The packet is dropped and its sender is told. Only in the filter table.
    Reject(RejectWith),
    /// Back to the rule after the jump; from a built-in chain, to its policy.
    Return,
    /// To a user's chain of the same table, and back.
    Jump(String),
    /// Changes bits of the firewall mark. Only in the mangle table.
    Mark {
        /// The new bits.
        value: u32,
        /// Which bits.
        mask: u32,
    },
    /// The packet is not tracked. Only in the raw table.
    NoTrack,
    /// Translates the source. Only in the nat table, where packets leave or are for this stack.
    SourceNat(NatRange),
    /// Translates the destination. Only in the nat table, where packets arrive or are made.
    DestinationNat(NatRange),
    /// Translates the source to the address of the NIC that the packet leaves through.
    Masquerade {
        /// The ports to use, if not those that are free near the original.
        ports: Option<RangeInclusive<u16>>,
    },
    /// Translates the destination to this stack: the address of the NIC that the packet came in through.
    Redirect {
        /// The ports to use, if not the original.
        ports: Option<RangeInclusive<u16>>,
    },
}

/// What to translate to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatRange {
    /// The addresses; flows of a host stay on one. Not set: the original.
    pub addresses: Option<RangeInclusive<IpAddr>>,
    /// The ports. Not set: the original one, unless it is taken.
    pub ports: Option<RangeInclusive<u16>>,
}

impl NatRange {
    /// A single address, with the original port if possible.
    pub fn to(address: IpAddr) -> Self {
        Self { addresses: Some(address..=address), ports: None }
    }

    /// A single address and port.
    pub fn to_port(address: IpAddr, port: u16) -> Self {
        Self { addresses: Some(address..=address), ports: Some(port..=port) }
    }
}

/// What the sender of a rejected packet is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectWith {
    /// Port unreachable: the usual answer.
    PortUnreachable,
    /// Host unreachable; address unreachable in IPv6.
    HostUnreachable,
    /// Network unreachable; no route in IPv6.
    NetUnreachable,
    /// Protocol unreachable. Not in IPv6.
    ProtocolUnreachable,
    /// The network is prohibited. Not in IPv6.
    NetProhibited,
    /// The host is prohibited. Not in IPv6.
    HostProhibited,
    /// Communication is administratively prohibited.
    AdminProhibited,
    /// The source address failed a policy. Only in IPv6.
    PolicyFailed,
    /// The route is one that rejects. Only in IPv6.
    RejectRoute,
    /// A TCP reset. Only with a test for TCP.
    TcpReset,
}
