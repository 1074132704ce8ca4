//! Control messages to and from sockets of the host.

use sentry_abi::inet::{IP_PKTINFO, IP_TOS, IP_TTL, IPV6_HOPLIMIT, IPV6_PKTINFO, IPV6_TCLASS, UDP_SEGMENT};
use sentry_abi::socket::{
    CMSG_HDR_LEN, CmsgHdr, SCM_RIGHTS, SOL_IP, SOL_IPV6, SOL_SOCKET, SOL_UDP, cmsg_align,
};
use smallvec::SmallVec;
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;
use crate::socket::control::ControlMessage;

/// What a guest may send along: values only, no pointers and no descriptors.
const SENDABLE: [(i32, i32); 7] = [
    (SOL_IP, IP_PKTINFO),
    (SOL_IP, IP_TOS),
    (SOL_IP, IP_TTL),
    (SOL_IPV6, IPV6_PKTINFO),
    (SOL_IPV6, IPV6_HOPLIMIT),
    (SOL_IPV6, IPV6_TCLASS),
    (SOL_UDP, UDP_SEGMENT),
];

/// Lays out what a guest sends along.
///
/// # Errors
/// `EINVAL` for a message that is not known.
pub(super) fn encode(messages: &[ControlMessage]) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    for message in messages {
        let ControlMessage::Bytes { level, kind, data } = message else { continue };
        if !SENDABLE.contains(&(*level, *kind)) {
            return Err(Errno::EINVAL);
        }
        let header = CmsgHdr { len: (CMSG_HDR_LEN + data.len()) as u64, level: *level, kind: *kind };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out.resize(cmsg_align(out.len()), 0);
    }
    Ok(out)
}

/// Splits what the host's kernel delivered.
pub(super) fn decode(mut rest: &[u8]) -> Vec<ControlMessage> {
    let mut messages = Vec::new();
    while let Ok((header, _)) = CmsgHdr::read_from_prefix(rest) {
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        // A message that was cut (MSG_CTRUNC) is not passed on in part.
        let Some(data) = rest.get(CMSG_HDR_LEN..len) else { break };
        // Internet sockets carry no descriptors; one that came all the same would have to be closed, not shown.
        if (header.level, header.kind) != (SOL_SOCKET, SCM_RIGHTS) {
            let data = SmallVec::from_slice(data);
            messages.push(ControlMessage::Bytes { level: header.level, kind: header.kind, data });
        }
        rest = rest.get(cmsg_align(len)..).unwrap_or(&[]);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way_to_the_host_and_back() {
        let sent =
            [ControlMessage::value(SOL_IP, IP_TTL, &7_i32), ControlMessage::value(SOL_IP, IP_TOS, &[8_u8])];
        let bytes = encode(&sent).unwrap();
        assert_eq!(bytes.len(), 48);
        let back = decode(&bytes);
        assert_eq!(format!("{back:?}"), format!("{sent:?}"));
    }

    #[test]
    fn unknown_messages_are_refused_and_cut_ones_dropped() {
        let odd = ControlMessage::value(SOL_IP, 99, &0_i32);
        assert_eq!(encode(&[odd]).unwrap_err(), Errno::EINVAL);
        let bytes = encode(&[ControlMessage::value(SOL_IP, IP_TTL, &7_i32)]).unwrap();
        assert!(decode(&bytes[..18]).is_empty());
    }
}
