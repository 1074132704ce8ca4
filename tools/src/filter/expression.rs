//! What an expression says about a packet.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::lexer::Comparison;
use crate::analysis::Note;
use crate::dissect::{Content, Dissection, Segment};
use crate::examine::Examined;
use crate::source::Course;

/// A condition on packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    /// Addresses with this prefix.
    Net(Side, IpAddr, u8),
    Port(Side, RangeInclusive<u16>),
    Protocol(Protocol),
    Flags(Vec<Flag>),
    Compare(Field, Comparison, u64),
    Flow(usize),
    Note(Note),
    /// Data sent again, for whatever reason.
    AnyRetransmission,
    /// The analysis, or the stack, has something to say.
    Notable,
    Course(Course),
    Interface(String),
    /// Dropped, for a reason that contains the text.
    Drop(String),
    Process(String),
    State(String),
    Comment(String),
    Contains(String),
    Malformed,
}

/// Which of a packet's two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Either,
    Source,
    Destination,
}

/// Protocols by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Icmp6,
    Arp,
    Ip,
    Ip6,
    Dns,
}

/// Flags of the TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Syn,
    Fin,
    Rst,
    Psh,
    Ack,
    Urg,
    Ece,
    Cwr,
}

/// Numbers of a packet. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Len,
    Payload,
    Seq,
    Ack,
    Window,
    Number,
    Time,
    Rtt,
    InFlight,
}

impl Expression {
    pub(super) fn matches(&self, packet: &Examined) -> bool {
        let dissection = packet.dissection.as_ref();
        match self {
            Self::Not(inner) => !inner.matches(packet),
            Self::And(a, b) => a.matches(packet) && b.matches(packet),
            Self::Or(a, b) => a.matches(packet) || b.matches(packet),
            Self::Net(side, net, len) => dissection
                .and_then(|d| d.addresses)
                .is_some_and(|(source, destination)| side.has(source, destination, |a| is_in(a, *net, *len))),
            Self::Port(side, ports) => dissection.and_then(Dissection::endpoints).is_some_and(|e| {
                side.has(e.source.port(), e.destination.port(), |port| ports.contains(&port))
            }),
            Self::Protocol(protocol) => dissection.is_some_and(|d| protocol.is_of(d)),
            Self::Flags(flags) => dissection
                .and_then(Dissection::tcp)
                .is_some_and(|segment| flags.iter().all(|flag| flag.is_set(segment))),
            Self::Compare(field, comparison, number) => {
                field.of(packet).is_some_and(|value| comparison.holds(value, *number))
            }
            Self::Flow(flow) => packet.flow == Some(*flow),
            Self::Note(note) => packet.judgement.notes.contains(note),
            Self::AnyRetransmission => packet.judgement.notes.iter().any(|note| note.is_retransmission()),
            Self::Notable => packet.is_notable(),
            Self::Course(course) => packet.packet.course == Some(*course),
            Self::Interface(name) => packet.packet.interface.name.as_deref() == Some(name),
            Self::Drop(text) => {
                packet.remarks.drop.as_ref().is_some_and(|reason| reason.contains(text.as_str()))
            }
            Self::Process(text) => packet
                .remarks
                .processes()
                .any(|process| process.name == *text || process.pid.to_string() == *text),
            Self::State(text) => {
                packet.remarks.state.as_ref().is_some_and(|state| state.eq_ignore_ascii_case(text))
            }
            Self::Comment(text) => {
                packet.packet.comments.iter().any(|comment| comment.contains(text.as_str()))
            }
            Self::Contains(text) => dissection.is_some_and(|d| contains(d.payload(), text.as_bytes())),
            Self::Malformed => dissection.is_none(),
        }
    }
}

impl Side {
    fn has<T>(self, source: T, destination: T, is_it: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Either => is_it(source) || is_it(destination),
            Self::Source => is_it(source),
            Self::Destination => is_it(destination),
        }
    }
}

impl Protocol {
    fn is_of(self, dissection: &Dissection) -> bool {
        let is_v4 = dissection.addresses.is_some_and(|(source, _)| source.is_ipv4());
        let is_arp = matches!(dissection.content, Content::Arp);
        match (self, &dissection.content) {
            (Self::Tcp, Content::Tcp(_)) | (Self::Udp, Content::Udp(_)) | (Self::Arp, Content::Arp) => true,
            (Self::Icmp, Content::Icmp(icmp)) => !icmp.is_v6,
            (Self::Icmp6, Content::Icmp(icmp)) => icmp.is_v6,
            (Self::Dns, Content::Udp(datagram)) => datagram.dns.is_some(),
            (Self::Ip, _) => is_v4 && !is_arp,
            (Self::Ip6, _) => dissection.addresses.is_some_and(|(source, _)| source.is_ipv6()),
            _ => false,
        }
    }
}

impl Flag {
    fn is_set(self, segment: &Segment) -> bool {
        match self {
            Self::Syn => segment.is_syn,
            Self::Fin => segment.is_fin,
            Self::Rst => segment.is_rst,
            Self::Psh => segment.is_psh,
            Self::Ack => segment.ack.is_some(),
            Self::Urg => segment.is_urg,
            Self::Ece => segment.is_ece,
            Self::Cwr => segment.is_cwr,
        }
    }
}

impl Field {
    fn of(self, packet: &Examined) -> Option<u64> {
        let segment = || packet.dissection.as_ref()?.tcp();
        match self {
            Self::Len => Some(packet.packet.original_len.into()),
            Self::Payload => match &packet.dissection.as_ref()?.content {
                Content::Tcp(segment) => Some(segment.payload_len.into()),
                Content::Udp(datagram) => Some(datagram.payload_len.into()),
                _ => None,
            },
            Self::Seq => segment().map(|s| s.seq.into()),
            Self::Ack => segment()?.ack.map(u64::from),
            Self::Window => packet.judgement.window.map(u64::from),
            Self::Number => Some(packet.number),
            Self::Time => u64::try_from(packet.since_start.as_nanos()).ok(),
            Self::Rtt => packet.judgement.rtt.and_then(|rtt| u64::try_from(rtt.as_nanos()).ok()),
            Self::InFlight => packet.judgement.in_flight.map(u64::from),
        }
    }

    pub(super) const fn is_time(self) -> bool {
        matches!(self, Self::Time | Self::Rtt)
    }
}

impl Comparison {
    fn holds(self, value: u64, number: u64) -> bool {
        match self {
            Self::Less => value < number,
            Self::AtMost => value <= number,
            Self::More => value > number,
            Self::AtLeast => value >= number,
            Self::Equal => value == number,
            Self::Different => value != number,
        }
    }
}

/// Whether the first `len` bits of both addresses agree.
fn is_in(address: IpAddr, net: IpAddr, len: u8) -> bool {
    match (address, net) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - u32::from(len.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - u32::from(len.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}
