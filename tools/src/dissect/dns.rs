//! Questions and answers of the domain name system (RFC 1035).

use std::fmt;

use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE};

/// A DNS message as far as a line of text needs it.
#[derive(Debug, Clone)]
pub(crate) struct Dns {
    pub(crate) id: u16,
    pub(crate) is_response: bool,
    rcode: RCODE,
    question: Option<String>,
    answers: Vec<String>,
}

impl Dns {
    /// `None` if the bytes are no message.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let packet = Packet::parse(payload).ok()?;
        let question = packet.questions.first().map(|q| format!("{:?}? {}", q.qtype, q.qname));
        let answers = packet.answers.iter().take(SHOWN).map(|record| match &record.rdata {
            RData::A(a) => std::net::Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => std::net::Ipv6Addr::from(a.address).to_string(),
            RData::CNAME(name) => format!("CNAME {}", name.0),
            RData::PTR(name) => format!("PTR {}", name.0),
            other => format!("{:?}", other.type_code()),
        });
        Some(Self {
            id: packet.id(),
            is_response: packet.has_flags(PacketFlag::RESPONSE),
            rcode: packet.rcode(),
            question: question.map(|q| q.replace("TYPE(", "").replace(")?", "?")),
            answers: answers.collect(),
        })
    }
}

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, is_response, rcode, question, answers } = self;
        write!(f, "{id:#06x} {}", question.as_deref().unwrap_or("no question"))?;
        match (is_response, rcode) {
            (false, _) => Ok(()),
            (true, RCODE::NoError) if answers.is_empty() => write!(f, " = nothing"),
            (true, RCODE::NoError) => write!(f, " = {}", answers.join(", ")),
            (true, other) => write!(f, " = {other:?}"),
        }
    }
}

/// Answers in a line.
const SHOWN: usize = 4;
