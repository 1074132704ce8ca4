//! What a script is once it has been read.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::value::Value;

/// A script: what it is about, how it is set up, and what happens.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Where it was read from.
    pub file: PathBuf,
    /// The behaviour that it checks, in one line.
    pub purpose: String,
    /// The RFC section (or other source) of that behaviour.
    pub reference: String,
    /// Parameters with the values to run it with.
    pub params: Vec<Param>,
    /// The only backend that it runs on, and why.
    pub only: Option<(BackendName, Why)>,
    /// Settings and events in order.
    pub body: Vec<Statement>,
}

/// A parameter: each of its values is a run.
#[derive(Debug, Clone)]
pub struct Param {
    /// The name that expressions use.
    pub name: String,
    /// The values.
    pub values: Vec<Expr>,
}

/// What runs scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendName {
    /// The kernel of the host.
    Linux,
    /// The stack of this project.
    Netstack,
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux => "linux",
            Self::Netstack => "netstack",
        })
    }
}

/// The reason of a deviation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Where it stands.
    pub place: Place,
    /// The reason.
    pub text: String,
}

/// A line and column of a file.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Where it begins.
    pub place: Place,
    /// Its source line, for messages.
    pub text: Arc<str>,
    /// What it says.
    pub kind: StatementKind,
}

/// What a statement says.
#[derive(Debug, Clone)]
pub enum StatementKind {
    /// `sysctl NAME = VALUE`.
    Sysctl(String, Expr),
    /// `config NAME = VALUE`: a setting that only netstack has.
    Config(String, Expr),
    /// `mtu N`.
    Mtu(Expr),
    /// `family 4|6`.
    Family(Expr),
    /// `tolerance TIME`.
    Tolerance(Expr),
    /// `let NAME = EXPR`.
    Let(String, Expr),
    /// `for NAME in FROM..TO { }`, both ends included.
    For(String, Expr, Expr, Vec<Statement>),
    /// `if COND { } else { }`.
    If(Expr, Vec<Statement>, Vec<Statement>),
    /// `linux { } netstack { } why "..."`.
    PerBackend {
        /// What happens on Linux.
        linux: Vec<Statement>,
        /// What happens on netstack.
        netstack: Vec<Statement>,
        /// Why that differs.
        why: Why,
    },
    /// Something that happens at a time.
    Event(When, Box<Action>),
}

/// When an event happens.
#[derive(Debug, Clone)]
pub enum When {
    /// Right after the event before it.
    Now,
    /// That long after the start of the script.
    At(Expr),
    /// That long after the event before it.
    After(Expr),
    /// Between two times; the flags say whether each counts from the event before.
    Between(Expr, bool, Expr, bool),
    /// At any time (packets only).
    Any,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Action {
    /// A system call, the variable for its result, and the result that is expected.
    Call(CallSpec),
    /// A packet from the peer.
    Inject(PacketSpec),
    /// A packet that has to come.
    Expect(PacketSpec),
    /// Packets that have to come in any order.
    ExpectAll(Vec<PacketSpec>),
    /// Packets that have come and are not looked at.
    Ignore,
    /// Nothing may have been sent since the event before.
    Silence,
    /// A condition.
    Assert(Expr),
}

/// A call.
#[derive(Debug, Clone)]
pub struct CallSpec {
    /// The variable for the result.
    pub target: Option<String>,
    /// The call's name.
    pub name: String,
    /// The arguments.
    pub args: Vec<Expr>,
    /// What it has to give.
    pub result: Option<Expr>,
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expr {
    /// Where it begins.
    pub place: Place,
    /// What it says.
    pub kind: ExprKind,
}

/// What an expression says.
#[derive(Debug, Clone)]
pub enum ExprKind {
    /// A number, time or string.
    Literal(Value),
    /// A variable, or a name that stands for itself (flags, options, errors).
    Name(String),
    /// A field of a socket (`c.snd_cwnd`) or a counter (`mib.ListenDrops`).
    Field(String, String),
    /// `!x`, `-x`.
    Unary(char, Box<Expr>),
    /// `x OP y`.
    Binary(Box<Expr>, Operator, Box<Expr>),
    /// `min(...)`, `max(...)`.
    Function(String, Vec<Expr>),
}

/// Operators, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `|`: joins names
    Join,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// A packet as a script writes it; what is not written is filled in (sent packets) or not compared (expected ones).
#[derive(Debug, Clone)]
pub struct PacketSpec {
    /// Where it begins.
    pub place: Place,
    /// The flow that it belongs to; empty for the main one.
    pub flow: String,
    /// What the IP header says.
    pub ip: IpSpec,
    /// What is in it.
    pub body: BodySpec,
}

/// The parts of the IP header that scripts name.
#[derive(Debug, Clone, Default)]
pub struct IpSpec {
    /// The ECN codepoint.
    pub ecn: Option<u8>,
    /// The hop limit.
    pub ttl: Option<Expr>,
    /// The differentiated services codepoint with two zero bits.
    pub tos: Option<Expr>,
    /// Whether "don't fragment" is set.
    pub df: Option<bool>,
    /// The transport checksum is wrong (sent packets).
    pub bad_checksum: bool,
    /// The flow label of IPv6.
    pub label: Option<Expr>,
    /// The options of IPv4, padded.
    pub options: Vec<u8>,
    /// The extension headers of IPv6: kinds, and what follows their lengths.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

/// The packet's transport.
#[derive(Debug, Clone)]
pub enum BodySpec {
    /// TCP.
    Tcp(Box<TcpSpec>),
    /// UDP with that much payload.
    Udp(Expr),
    /// An ICMP error.
    Icmp(Box<IcmpSpec>),
}

/// A TCP segment.
#[derive(Debug, Clone)]
pub struct TcpSpec {
    /// The flag bits.
    pub flags: u16,
    /// Whether the flags were written with `P`, so that an expected packet must have it.
    pub seq: Option<Expr>,
    /// The payload's length.
    pub len: Option<Expr>,
    /// The acknowledgment number.
    pub ack: Option<Expr>,
    /// The window in bytes.
    pub win: Option<WindowSpec>,
    /// The urgent pointer.
    pub urgent: Option<Expr>,
    /// The options; `None` if not written.
    pub options: Option<Vec<OptionSpec>>,
    /// The payload differs from the usual pattern.
    pub data: Option<String>,
}

/// A window: in bytes, or as the field says.
#[derive(Debug, Clone)]
pub enum WindowSpec {
    /// Bytes, scaled as negotiated.
    Bytes(Expr),
    /// The field.
    Raw(Expr),
    /// At least that many bytes.
    AtLeast(Expr),
}

/// A TCP option.
#[derive(Debug, Clone)]
pub enum OptionSpec {
    /// `*`: whatever options there are.
    Any,
    /// `mss N`; `None` is `mss *`.
    Mss(Option<Expr>),
    /// `wscale N`.
    WindowScale(Option<Expr>),
    /// `sackOK`.
    SackPermitted,
    /// `sack A:B C:D`.
    Sack(Vec<(Expr, Expr)>),
    /// `ts V E`; both `None` in a plain `ts`.
    Timestamps(Option<Expr>, Option<Expr>),
    /// `nots`: the timestamps are left out although they were negotiated.
    NoTimestamps,
    /// `nop`.
    Nop,
    /// `eol`.
    End,
    /// `fo`: a Fast Open request; `fo cookie`: the cookie that was last received; `fo HEX`; `fo *`.
    FastOpen(FastOpenSpec),
    /// `kind N HEX`: any option.
    Other(Expr, Vec<u8>),
}

/// A Fast Open option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FastOpenSpec {
    /// A request.
    Request,
    /// The cookie that the stack last sent.
    Learnt,
    /// Any cookie (expected packets).
    Any,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// An ICMP error.
#[derive(Debug, Clone)]
pub struct IcmpSpec {
    /// Its name.
    pub kind: IcmpKind,
    /// The MTU of "fragmentation needed".
    pub mtu: Option<Expr>,
    /// The sequence number of the quoted segment; UDP is quoted if there is none.
    pub quoted_seq: Option<Expr>,
}

/// The ICMP errors by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpKind {
    /// Network unreachable.
    Net,
    /// Host unreachable.
    Host,
    /// Protocol unreachable.
    Protocol,
    /// Port unreachable.
    Port,
    /// Fragmentation needed or packet too big.
    FragmentationNeeded,
    /// Administratively prohibited.
    Prohibited,
    /// Time exceeded in transit.
    TimeExceeded,
    /// Source quench (RFC 6633: ignored).
    SourceQuench,
}
