//! From words and signs to an expression.

use std::net::IpAddr;

use super::Fault;
use super::expression::{Expression, Field, Flag, Protocol, Side};
use super::lexer::{Kind, Token};
use crate::analysis::Note;
use crate::source::Course;

/// `None` of an empty text. `end` is its length, where errors about missing words point.
pub(super) fn parse(tokens: &[Token], end: usize) -> Result<Option<Expression>, Fault> {
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser { tokens, end, depth: 0 };
    let expression = parser.alternatives()?;
    match parser.tokens.first() {
        None => Ok(Some(expression)),
        Some(Token { at, kind: Kind::Close }) => {
            Err(Fault::new(*at, "a parenthesis closes that never opened"))
        }
        Some(token) => Err(Fault::new(token.at, "expected \"and\" or \"or\"")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    end: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    /// Takes the next token if it is that.
    fn accept(&mut self, kind: &Kind) -> bool {
        let is_it = self.tokens.first().is_some_and(|token| token.kind == *kind);
        if is_it {
            self.next();
        }
        is_it
    }

    fn position(&self) -> usize {
        self.tokens.first().map_or(self.end, |token| token.at)
    }

    fn alternatives(&mut self) -> Result<Expression, Fault> {
        let mut left = self.conjunction()?;
        while self.accept(&Kind::Or) {
            left = Expression::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expression, Fault> {
        let mut left = self.negation()?;
        while self.accept(&Kind::And) {
            left = Expression::And(Box::new(left), Box::new(self.negation()?));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Expression, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(self.position(), "too deeply nested"));
        }
        let expression = if self.accept(&Kind::Not) {
            Expression::Not(Box::new(self.negation()?))
        } else {
            let open = self.position();
            if self.accept(&Kind::Open) {
                let inner = self.alternatives()?;
                if !self.accept(&Kind::Close) {
                    return Err(Fault::new(open, "a parenthesis that never closes"));
                }
                inner
            } else {
                self.primitive()?
            }
        };
        self.depth -= 1;
        Ok(expression)
    }

    /// The next word; `what` says what it should be.
    fn word(&mut self, what: &str) -> Result<(usize, &'a str), Fault> {
        let at = self.position();
        match self.next() {
            Some(Token { at, kind: Kind::Word(word) | Kind::Quoted(word) }) => Ok((*at, word)),
            _ => Err(Fault::new(at, format!("expected {what}"))),
        }
    }

    fn primitive(&mut self) -> Result<Expression, Fault> {
        let (at, word) = self.word("a condition")?;
        if let Some(protocol) = protocol(word) {
            return Ok(Expression::Protocol(protocol));
        }
        if let Some(field) = field(word) {
            return self.comparison(field);
        }
        match word {
            "src" => self.place(Side::Source),
            "dst" => self.place(Side::Destination),
            "host" | "net" | "port" => self.place_of(Side::Either, at, word),
            "tcp.flags" => self.flags(),
            "flow" => Ok(Expression::Flow(self.number("the number of a flow")?)),
            "inbound" => Ok(Expression::Course(Course::Inbound)),
            "outbound" => Ok(Expression::Course(Course::Outbound)),
            "interface" => Ok(Expression::Interface(self.word("the name of an interface")?.1.to_owned())),
            "process" => Ok(Expression::Process(self.word("a process's name or number")?.1.to_owned())),
            "state" => Ok(Expression::State(self.word("a state")?.1.to_owned())),
            "comment" => Ok(Expression::Comment(self.word("a text")?.1.to_owned())),
            "contains" => Ok(Expression::Contains(self.word("a text")?.1.to_owned())),
            "drop" => Ok(Expression::Drop(self.optional_text())),
            "malformed" => Ok(Expression::Malformed),
            "notable" => Ok(Expression::Notable),
            "retransmission" => Ok(Expression::AnyRetransmission),
            _ => match Note::ALL.into_iter().find(|note| note.name() == word) {
                Some(note) => Ok(Expression::Note(note)),
                None => Err(Fault::new(at, format!("unknown condition {word:?}"))),
            },
        }
    }

    /// A text, if one follows.
    fn optional_text(&mut self) -> String {
        match self.tokens.first().map(|token| &token.kind) {
            Some(Kind::Word(text) | Kind::Quoted(text)) => {
                self.next();
                text.clone()
            }
            _ => String::new(),
        }
    }

    /// What follows `src` and `dst`; an address alone is a host.
    fn place(&mut self, side: Side) -> Result<Expression, Fault> {
        let (at, word) = self.word("host, net, port or an address")?;
        self.place_of(side, at, word)
    }

    fn place_of(&mut self, side: Side, at: usize, kind: &str) -> Result<Expression, Fault> {
        match kind {
            "port" => {
                let (at, text) = self.word("a port or FIRST-LAST")?;
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                match (first.parse(), last.parse()) {
                    (Ok(first), Ok(last)) => Ok(Expression::Port(side, first..=last)),
                    _ => Err(Fault::new(at, format!("{text:?} is no port"))),
                }
            }
            "host" => {
                let (at, text) = self.word("an address")?;
                host(side, at, text)
            }
            "net" => {
                let (at, text) = self.word("ADDRESS/LENGTH")?;
                net(side, at, text)
            }
            address => host(side, at, address),
        }
    }

    fn flags(&mut self) -> Result<Expression, Fault> {
        let (at, text) = self.word("flags such as syn,ack")?;
        let flags = text.split([',', '+']).map(|name| {
            flag(name).ok_or_else(|| {
                Fault::new(at, format!("unknown flag {name:?}: there are syn fin rst psh ack urg ece cwr"))
            })
        });
        Ok(Expression::Flags(flags.collect::<Result<_, _>>()?))
    }

    fn number(&mut self, what: &str) -> Result<usize, Fault> {
        let (at, text) = self.word(what)?;
        text.trim_start_matches('#').parse().map_err(|_| Fault::new(at, format!("{text:?} is no number")))
    }

    fn comparison(&mut self, field: Field) -> Result<Expression, Fault> {
        let at = self.position();
        let Some(Token { kind: Kind::Compare(comparison), .. }) = self.next() else {
            return Err(Fault::new(at, "expected one of < <= > >= = !="));
        };
        let (at, text) = self.word("a number")?;
        let number = if field.is_time() { nanoseconds(text) } else { text.parse().ok() };
        let Some(number) = number else {
            let example = if field.is_time() { " of seconds (1.5s, 20ms, 100us)" } else { "" };
            return Err(Fault::new(at, format!("{text:?} is no number{example}")));
        };
        Ok(Expression::Compare(field, *comparison, number))
    }
}

fn host(side: Side, at: usize, text: &str) -> Result<Expression, Fault> {
    let address: IpAddr = text.parse().map_err(|_| Fault::new(at, format!("{text:?} is no address")))?;
    Ok(Expression::Net(side, address, if address.is_ipv4() { 32 } else { 128 }))
}

fn net(side: Side, at: usize, text: &str) -> Result<Expression, Fault> {
    let fault = || Fault::new(at, format!("{text:?} is no ADDRESS/LENGTH"));
    let (address, len) = text.split_once('/').ok_or_else(fault)?;
    let address: IpAddr = address.parse().map_err(|_| fault())?;
    let len: u8 = len.parse().map_err(|_| fault())?;
    if len > if address.is_ipv4() { 32 } else { 128 } {
        return Err(fault());
    }
    Ok(Expression::Net(side, address, len))
}

fn protocol(word: &str) -> Option<Protocol> {
    Some(match word {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        "icmp6" => Protocol::Icmp6,
        "arp" => Protocol::Arp,
        "ip" => Protocol::Ip,
        "ip6" => Protocol::Ip6,
        "dns" => Protocol::Dns,
        _ => return None,
    })
}

fn field(word: &str) -> Option<Field> {
    Some(match word {
        "len" => Field::Len,
        "payload" => Field::Payload,
        "seq" => Field::Seq,
        "ack" => Field::Ack,
        "window" => Field::Window,
        "number" => Field::Number,
        "time" => Field::Time,
        "rtt" => Field::Rtt,
        "in-flight" => Field::InFlight,
        _ => return None,
    })
}

fn flag(name: &str) -> Option<Flag> {
    Some(match name {
        "syn" => Flag::Syn,
        "fin" => Flag::Fin,
        "rst" => Flag::Rst,
        "psh" => Flag::Psh,
        "ack" => Flag::Ack,
        "urg" => Flag::Urg,
        "ece" => Flag::Ece,
        "cwr" => Flag::Cwr,
        _ => return None,
    })
}

/// A number with an optional unit; seconds without.
fn nanoseconds(text: &str) -> Option<u64> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("", 1e9)];
    let (number, unit) = units.into_iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
    let nanos = number.parse::<f64>().ok()? * unit;
    // Truncation is what is wanted, and the range was looked at.
    (nanos.is_finite() && (0.0..1.8e19).contains(&nanos)).then_some(nanos as u64)
}

/// Each level is a call of the parser and one of the evaluation.
const MAX_DEPTH: u32 = 200;
