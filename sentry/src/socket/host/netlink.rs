//! What a guest may ask of the host's routing service and of its list of sockets: to look (rtnetlink(7), sock_diag(7)).

use sentry_abi::netlink::{
    NETLINK_SOCK_DIAG, NLM_F_CAPPED, NLM_F_REQUEST, NLMSG_ERROR, NLMSG_MIN_TYPE, NlMsgHdr, RTM_GETADDR,
    RTM_GETLINK, RTM_GETNEIGH, RTM_GETROUTE, RTM_GETRULE, SOCK_DIAG_BY_FAMILY, nl_align,
};
use sentry_abi::socket::{AF_INET, AF_INET6};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;

/// What the kernel would answer to a datagram with a request that would change something or is not known, which is
/// not passed on then: that it is not permitted. `port` is the socket's. `None` where the host may be asked.
pub(super) fn refusal(protocol: i32, mut rest: &[u8], port: u32) -> Option<Vec<u8>> {
    while let Ok((header, _)) = NlMsgHdr::read_from_prefix(rest) {
        // netlink_rcv_skb: what is no request is not handled.
        let is_handled = header.flags & NLM_F_REQUEST != 0 && header.kind >= NLMSG_MIN_TYPE;
        if is_handled && let Err(errno) = check(protocol, &header, rest) {
            return Some(error_message(&header, port, errno));
        }
        let len = usize::try_from(header.len).unwrap_or(usize::MAX).max(size_of::<NlMsgHdr>());
        // A length that leaves the datagram ends it for the kernel, too.
        let Some(next) = rest.get(nl_align(len.min(rest.len()))..) else { break };
        rest = next;
    }
    None
}

/// Judges the first message of `rest`.
fn check(protocol: i32, header: &NlMsgHdr, rest: &[u8]) -> Result<(), Errno> {
    if protocol != NETLINK_SOCK_DIAG {
        return if READABLE.contains(&header.kind) { Ok(()) } else { Err(Errno::EPERM) };
    }
    if header.kind != SOCK_DIAG_BY_FAMILY {
        return Err(Errno::EPERM);
    }
    // The first byte of each family's request. Sockets of other families are the sandbox's own, of which the host
    // knows nothing; ss(8) looks into /proc/net then.
    match rest.get(size_of::<NlMsgHdr>()).copied().map(u16::from) {
        Some(AF_INET | AF_INET6) => Ok(()),
        _ => Err(Errno::ENOENT),
    }
}

/// `NLMSG_ERROR` with the header of the request, as `rtnetlink_rcv_msg` refuses who has no `CAP_NET_ADMIN`.
fn error_message(request: &NlMsgHdr, port: u32, errno: Errno) -> Vec<u8> {
    let header = NlMsgHdr { len: ERROR_LEN, kind: NLMSG_ERROR, flags: NLM_F_CAPPED, pid: port, ..*request };
    let code = -i32::from(errno.code());
    [header.as_bytes(), code.as_bytes(), request.as_bytes()].concat()
}

/// Two headers and an errno.
const ERROR_LEN: u32 = 36;

const READABLE: [u16; 5] = [RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE];

#[cfg(test)]
mod tests {
    use sentry_abi::netlink::{NETLINK_ROUTE, NLM_F_DUMP, RTM_NEWROUTE};

    use super::*;

    fn message(kind: u16, len: u32) -> Vec<u8> {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut bytes = NlMsgHdr { len, kind, flags, ..NlMsgHdr::default() }.as_bytes().to_vec();
        bytes.resize(32, 0);
        bytes
    }

    #[test]
    fn looking_is_allowed_and_changing_is_not_wherever_it_stands() {
        assert_eq!(refusal(NETLINK_ROUTE, &message(RTM_GETLINK, 32), 7), None);
        let refused = refusal(NETLINK_ROUTE, &message(RTM_NEWROUTE, 32), 7).unwrap();
        assert_eq!((refused.len(), &refused[16..20]), (36, (-1_i32).as_bytes()));
        let hidden = [message(RTM_GETLINK, 32), message(RTM_NEWROUTE, 32)].concat();
        assert!(refusal(NETLINK_ROUTE, &hidden, 7).is_some());
    }

    #[test]
    fn odd_lengths_hide_nothing() {
        for len in [0, 5, 16, 17, 31] {
            let hidden = [message(RTM_GETLINK, 32), message(RTM_NEWROUTE, len)].concat();
            assert!(refusal(NETLINK_ROUTE, &hidden, 7).is_some(), "{len}");
        }
        assert_eq!(refusal(NETLINK_ROUTE, &message(RTM_GETLINK, u32::MAX), 7), None);
        assert_eq!(refusal(NETLINK_ROUTE, &[1, 2, 3], 7), None);
    }

    #[test]
    fn of_the_lists_of_sockets_those_of_the_internet_are_shown() {
        const SOCK_DESTROY: u16 = 21;
        let of_family = |family: u16| {
            let mut bytes = message(SOCK_DIAG_BY_FAMILY, 32);
            bytes[16] = u8::try_from(family).unwrap();
            bytes
        };
        assert_eq!(refusal(NETLINK_SOCK_DIAG, &of_family(AF_INET), 7), None);
        assert_eq!(refusal(NETLINK_SOCK_DIAG, &of_family(AF_INET6), 7), None);
        let unix = refusal(NETLINK_SOCK_DIAG, &of_family(sentry_abi::socket::AF_UNIX), 7).unwrap();
        assert_eq!(&unix[16..20], (-2_i32).as_bytes());
        let mut destroy = message(SOCK_DESTROY, 32);
        destroy[16] = 2;
        assert!(refusal(NETLINK_SOCK_DIAG, &destroy, 7).is_some());
        assert!(refusal(NETLINK_SOCK_DIAG, &message(SOCK_DIAG_BY_FAMILY, 16)[..16], 7).is_some());
    }
}
