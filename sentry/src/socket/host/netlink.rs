//! What a guest may ask of the host's routing service: to look (rtnetlink(7)).

use sentry_abi::netlink::{
    NLM_F_CAPPED, NLM_F_REQUEST, NLMSG_ERROR, NLMSG_MIN_TYPE, NlMsgHdr, RTM_GETADDR, RTM_GETLINK,
    RTM_GETNEIGH, RTM_GETROUTE, RTM_GETRULE, nl_align,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::Errno;

/// What the kernel would answer to a datagram with a request that would change something or is not known, which is
/// not passed on then: that it is not permitted. `port` is the socket's. `None` where the host may be asked.
pub(super) fn refusal(mut rest: &[u8], port: u32) -> Option<Vec<u8>> {
    while let Ok((header, _)) = NlMsgHdr::read_from_prefix(rest) {
        // netlink_rcv_skb: what is no request is not handled.
        let is_handled = header.flags & NLM_F_REQUEST != 0 && header.kind >= NLMSG_MIN_TYPE;
        if is_handled && !READABLE.contains(&header.kind) {
            return Some(error_message(&header, port));
        }
        let len = usize::try_from(header.len).unwrap_or(usize::MAX).max(size_of::<NlMsgHdr>());
        // A length that leaves the datagram ends it for the kernel, too.
        let Some(next) = rest.get(nl_align(len.min(rest.len()))..) else { break };
        rest = next;
    }
    None
}

/// `NLMSG_ERROR` with the header of the request, as `rtnetlink_rcv_msg` refuses who has no `CAP_NET_ADMIN`.
fn error_message(request: &NlMsgHdr, port: u32) -> Vec<u8> {
    let header = NlMsgHdr { len: ERROR_LEN, kind: NLMSG_ERROR, flags: NLM_F_CAPPED, pid: port, ..*request };
    let code = -i32::from(Errno::EPERM.code());
    [header.as_bytes(), code.as_bytes(), request.as_bytes()].concat()
}

/// Two headers and an errno.
const ERROR_LEN: u32 = 36;

const READABLE: [u16; 5] = [RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE];

#[cfg(test)]
mod tests {
    use sentry_abi::netlink::{NLM_F_DUMP, RTM_NEWROUTE};

    use super::*;

    fn message(kind: u16, len: u32) -> Vec<u8> {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut bytes = NlMsgHdr { len, kind, flags, ..NlMsgHdr::default() }.as_bytes().to_vec();
        bytes.resize(32, 0);
        bytes
    }

    #[test]
    fn looking_is_allowed_and_changing_is_not_wherever_it_stands() {
        assert_eq!(refusal(&message(RTM_GETLINK, 32), 7), None);
        let refused = refusal(&message(RTM_NEWROUTE, 32), 7).unwrap();
        assert_eq!((refused.len(), &refused[16..20]), (36, (-1_i32).as_bytes()));
        let hidden = [message(RTM_GETLINK, 32), message(RTM_NEWROUTE, 32)].concat();
        assert!(refusal(&hidden, 7).is_some());
    }

    #[test]
    fn odd_lengths_hide_nothing() {
        for len in [0, 5, 16, 17, 31] {
            let hidden = [message(RTM_GETLINK, 32), message(RTM_NEWROUTE, len)].concat();
            assert!(refusal(&hidden, 7).is_some(), "{len}");
        }
        assert_eq!(refusal(&message(RTM_GETLINK, u32::MAX), 7), None);
        assert_eq!(refusal(&[1, 2, 3], 7), None);
    }
}
