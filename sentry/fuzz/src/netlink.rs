//! Netlink messages: rtnetlink, and nftables' batches.

use sentry::socket::netlink::{NetlinkSocket, Privilege};
use sentry::socket::{NetNamespace, SocketType};
use sentry_abi::netlink::{NETLINK_NETFILTER, NETLINK_ROUTE};
use sentry_abi::socket::Ucred;

use crate::network;

/// Carries out requests of rtnetlink, and lists everything afterwards.
pub fn rtnetlink(data: &[u8]) {
    let namespace = network::namespace();
    let socket = open(&namespace, NETLINK_ROUTE);
    check(&socket.answer(data));
    // RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE: each with a dump of both families.
    for kind in [18, 22, 26, 30, 34] {
        for family in [0, 2, 10] {
            list(&socket, kind, family);
        }
    }
    network::traffic(namespace.stack());
}

/// Carries out a batch of nftables, has packets meet the rules, and lists everything afterwards.
pub fn nftables(data: &[u8]) {
    let namespace = network::namespace();
    let socket = open(&namespace, NETLINK_NETFILTER);
    check(&socket.answer(data));
    network::traffic(namespace.stack());
    // NFT_MSG_GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM, GETGEN, GETOBJ, GETFLOWTABLE.
    for kind in [1, 4, 7, 10, 13, 16, 19, 23] {
        for family in [0, 1, 2, 10] {
            list(&socket, NFTABLES << 8 | kind, family);
        }
    }
}

fn open(namespace: &std::sync::Arc<NetNamespace>, protocol: i32) -> std::sync::Arc<NetlinkSocket> {
    let owner = Ucred { pid: 7, uid: 0, gid: 0 };
    let namespace = std::sync::Arc::clone(namespace);
    NetlinkSocket::new(namespace, SocketType::Raw, protocol, owner, Privilege::Admin)
        .expect("a known protocol")
}

/// Asks for a list, which must end.
fn list(socket: &NetlinkSocket, kind: u16, family: u8) {
    let mut request = Vec::new();
    request.extend_from_slice(&(HEADER_LEN as u32 + 16).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    request.push(family);
    request.extend_from_slice(&[0; 15]);
    let answer = socket.answer(&request);
    check(&answer);
}

/// Datagrams are made of whole messages, and messages of whole attributes behind a header that fits.
fn check(answers: &[Vec<u8>]) {
    for datagram in answers {
        let mut rest = datagram.as_slice();
        assert!(!rest.is_empty(), "an empty datagram");
        while !rest.is_empty() {
            let len = rest.first_chunk().map(|len| u32::from_ne_bytes(*len)).expect("a length");
            let len = usize::try_from(len).expect("32 bits");
            assert!((HEADER_LEN..=rest.len()).contains(&len), "{len} of {}: {datagram:?}", rest.len());
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// `sizeof(struct nlmsghdr)`.
const HEADER_LEN: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
