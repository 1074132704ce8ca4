//! DHCP messages (RFC 2131 section 2, options of RFC 2132), as far as a server with one client needs them.
//!
//! ```text
//! op htype hlen hops | xid | secs flags | ciaddr | yiaddr | siaddr | giaddr | chaddr (16) | sname (64) | file (128)
//! cookie (4) | options: code length value ...
//! ```

use std::net::Ipv4Addr;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Which servers are there?
    Discover,
    /// May I have this address?
    Request,
    /// I have one; tell me the rest.
    Inform,
}

/// A client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) asked: Asked,
    xid: [u8; 4],
    flags: [u8; 2],
    client: Ipv4Addr,
    hardware: [u8; 16],
    /// The address asked for, by option or because the client has it.
    pub(crate) wanted: Option<Ipv4Addr>,
    /// The server that the client has chosen.
    pub(crate) server: Option<Ipv4Addr>,
}

/// What a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Offer,
    Acknowledge,
    Refuse,
}

impl Query {
    /// Reads a client's message; `None` for anything else.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let fixed = message.get(..FIXED_LEN)?;
        let is_query = fixed[0] == BOOT_REQUEST && fixed[1] == ETHERNET && fixed[2] == 6;
        if !is_query || message.get(FIXED_LEN..FIXED_LEN + 4)? != COOKIE {
            return None;
        }
        let (mut kind, mut wanted, mut server) = (None, None, None);
        let mut rest = &message[FIXED_LEN + 4..];
        while let [code, tail @ ..] = rest {
            match *code {
                0 => {
                    rest = tail;
                    continue;
                }
                END => break,
                _ => {}
            }
            let len = usize::from(*tail.first()?);
            let value = tail.get(1..1 + len)?;
            match *code {
                MESSAGE_TYPE => kind = value.first().copied(),
                REQUESTED_ADDRESS => wanted = address(value),
                SERVER_IDENTIFIER => server = address(value),
                _ => {}
            }
            rest = &tail[1 + len..];
        }
        let asked = match kind? {
            1 => Asked::Discover,
            3 => Asked::Request,
            8 => Asked::Inform,
            _ => return None,
        };
        let client = address(&fixed[12..16])?;
        Some(Self {
            asked,
            xid: fixed[4..8].try_into().ok()?,
            flags: fixed[10..12].try_into().ok()?,
            client,
            hardware: fixed[28..44].try_into().ok()?,
            wanted: wanted.or((!client.is_unspecified()).then_some(client)),
            server,
        })
    }

    /// The answer with that address and those options.
    pub(crate) fn answer(&self, answer: Answer, yours: Ipv4Addr, options: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut message = vec![0; FIXED_LEN];
        message[..3].copy_from_slice(&[BOOT_REPLY, ETHERNET, 6]);
        message[4..8].copy_from_slice(&self.xid);
        message[10..12].copy_from_slice(&self.flags);
        message[12..16].copy_from_slice(&self.client.octets());
        message[16..20].copy_from_slice(&yours.octets());
        message[28..44].copy_from_slice(&self.hardware);
        message.extend_from_slice(&COOKIE);
        let kind = match answer {
            Answer::Offer => 2,
            Answer::Acknowledge => 5,
            Answer::Refuse => 6,
        };
        message.extend_from_slice(&[MESSAGE_TYPE, 1, kind]);
        for (code, value) in options {
            // The options of this server are a few bytes long.
            message.extend_from_slice(&[*code, u8::try_from(value.len()).unwrap_or(0)]);
            message.extend_from_slice(value);
        }
        message.push(END);
        // RFC 951 section 3: 300 bytes, and old clients insist.
        message.resize(message.len().max(300), 0);
        message
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

const FIXED_LEN: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const MESSAGE_TYPE: u8 = 53;
const REQUESTED_ADDRESS: u8 = 50;
const END: u8 = 255;
pub(crate) const SERVER_IDENTIFIER: u8 = 54;
pub(crate) const SUBNET_MASK: u8 = 1;
pub(crate) const ROUTER: u8 = 3;
pub(crate) const NAME_SERVER: u8 = 6;
pub(crate) const INTERFACE_MTU: u8 = 26;
pub(crate) const LEASE_TIME: u8 = 51;

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: u8, options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; FIXED_LEN];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[4..8].copy_from_slice(&[1, 2, 3, 4]);
        message[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        message.extend_from_slice(&COOKIE);
        message.extend_from_slice(&[0, 53, 1, kind]);
        message.extend_from_slice(options);
        message.push(END);
        message
    }

    #[test]
    fn request_is_read_and_answered() {
        let bytes = query(3, &[50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]);
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(query.asked, Asked::Request);
        assert_eq!((query.wanted, query.server), (Some([10, 0, 2, 15].into()), Some([10, 0, 2, 2].into())));
        let answer =
            query.answer(Answer::Acknowledge, [10, 0, 2, 15].into(), &[(LEASE_TIME, vec![0, 0, 1, 0])]);
        assert_eq!((answer.len(), answer[0], &answer[4..8]), (300, 2, &[1, 2, 3, 4][..]));
        assert_eq!(&answer[16..20], &[10, 0, 2, 15]);
        assert_eq!(&answer[240..250], &[53, 1, 5, 51, 4, 0, 0, 1, 0, 255]);
    }

    #[test]
    fn nonsense_is_ignored() {
        assert_eq!(Query::parse(&[]), None);
        assert_eq!(Query::parse(&query(3, &[50, 200, 1])), None);
        assert_eq!(Query::parse(&query(7, &[])), None);
        let whole = query(1, &[]);
        for len in 0..FIXED_LEN + 8 {
            assert_eq!(Query::parse(&whole[..len]), None, "{len}");
        }
        let mut reply = whole;
        reply[0] = 2;
        assert_eq!(Query::parse(&reply), None);
    }
}
