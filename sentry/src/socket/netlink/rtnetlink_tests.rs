//! Requests as iproute2 and glibc send them, against a stack of its own.

use netstack::Stack;
use sentry_abi::socket::Ucred;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::socket::NetNamespace;
use crate::socket::base::SocketType;
use crate::socket::netlink::Privilege;

const ME: Ucred = Ucred { pid: 7, uid: 1000, gid: 100 };

fn socket(privilege: Privilege) -> std::sync::Arc<NetlinkSocket> {
    let namespace = NetNamespace::new(Stack::builder().build());
    NetlinkSocket::new(namespace, SocketType::Raw, NETLINK_ROUTE, ME, privilege).unwrap()
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + body.len()).unwrap();
    let header = NlMsgHdr { len, kind, flags: flags | NLM_F_REQUEST, seq: 5, pid: 0 };
    [header.as_bytes(), body].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = RtAttr { len: u16::try_from(4 + value.len()).unwrap(), kind }.as_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes.resize(nl_align(bytes.len()), 0);
    bytes
}

/// The messages of an answer: type and body.
fn ask(socket: &NetlinkSocket, data: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut messages = Vec::new();
    for datagram in answer(socket, 9, data, None) {
        let mut rest = datagram.as_slice();
        while let Some(message) = Request::next(&mut rest) {
            assert_eq!((message.header.seq, message.header.pid), (5, 9));
            messages.push((message.header.kind, message.body.to_vec()));
        }
    }
    messages
}

#[track_caller]
fn error_of(messages: &[(u16, Vec<u8>)]) -> i32 {
    let [(NLMSG_ERROR, body)] = messages else { panic!("{messages:?}") };
    i32::read_from_prefix(body).unwrap().0
}

#[test]
fn a_dump_of_links_shows_the_loopback_and_ends() {
    let messages =
        ask(&socket(Privilege::Ordinary), &request(RTM_GETLINK, NLM_F_DUMP, IfInfoMsg::default().as_bytes()));
    let [(RTM_NEWLINK, link), (NLMSG_DONE, _)] = &messages[..] else { panic!("{messages:?}") };
    let message = Request { header: NlMsgHdr::default(), body: link };
    let (info, attributes) = message.split::<IfInfoMsg>();
    assert_eq!((info.index, info.kind), (1, 772));
    assert_eq!(attributes.str(IFLA_IFNAME), Some("lo"));
    assert_eq!(attributes.find(IFLA_BROADCAST).map(<[u8]>::len), Some(6));
    assert_eq!(attributes.find(IFLA_STATS64).map(<[u8]>::len), Some(200));
}

#[test]
fn a_dump_request_of_one_byte_is_taken() {
    let messages = ask(&socket(Privilege::Ordinary), &request(RTM_GETADDR, NLM_F_DUMP, &[2]));
    assert_eq!(messages.len(), 2, "127.0.0.1 and the end: {messages:?}");
}

#[test]
fn changes_need_the_capability() {
    let body = IfInfoMsg { index: 1, flags: 0, change: 1, ..IfInfoMsg::default() };
    let data = request(RTM_NEWLINK, NLM_F_ACK, body.as_bytes());
    assert_eq!(error_of(&ask(&socket(Privilege::Ordinary), &data)), -1);
    let admin = socket(Privilege::Admin);
    assert_eq!(error_of(&ask(&admin, &data)), 0);
    assert!(!admin.namespace().stack().nics()[0].is_up);
}

#[test]
fn an_address_comes_and_goes_and_is_announced() {
    let admin = socket(Privilege::Admin);
    let listener = NetlinkSocket::new(
        admin.namespace().clone(),
        SocketType::Raw,
        NETLINK_ROUTE,
        ME,
        Privilege::Ordinary,
    )
    .unwrap();
    listener.join(RTNLGRP_IPV4_IFADDR);
    let fixed = IfAddrMsg { family: 2, prefix_len: 24, index: 1, ..IfAddrMsg::default() };
    let body = [fixed.as_bytes(), &attribute(IFA_LOCAL, &[10, 9, 8, 7])].concat();
    for (kind, want) in [(RTM_NEWADDR, 0), (RTM_NEWADDR, -17), (RTM_DELADDR, 0), (RTM_DELADDR, -99)] {
        assert_eq!(error_of(&ask(&admin, &request(kind, NLM_F_ACK, &body))), want, "{kind}");
    }
    assert_eq!(listener.readiness(), crate::wait::Readiness::IN | crate::wait::Readiness::OUT);
}

#[test]
fn the_rules_are_the_default_ones() {
    let body = FibRuleHdr { family: 2, ..FibRuleHdr::default() };
    let messages = ask(&socket(Privilege::Ordinary), &request(RTM_GETRULE, NLM_F_DUMP, body.as_bytes()));
    assert_eq!(messages.len(), 4);
}

/// `fib_nl2rule`: a rule that goes on elsewhere says where, no other does, and it is further down.
#[test]
fn goto_and_its_target_come_together() {
    let admin = socket(Privilege::Admin);
    let add = |action, target: Option<u32>| {
        let fixed = FibRuleHdr { family: 2, action, ..FibRuleHdr::default() };
        let goto = target.map(|target| attribute(FRA_GOTO, target.as_bytes())).unwrap_or_default();
        let body = [fixed.as_bytes(), &attribute(FRA_PRIORITY, 10_u32.as_bytes()), &goto].concat();
        error_of(&ask(&admin, &request(RTM_NEWRULE, NLM_F_ACK, &body)))
    };
    assert_eq!(add(FR_ACT_GOTO, None), -22);
    assert_eq!(add(FR_ACT_NOP, Some(20)), -22);
    assert_eq!(add(FR_ACT_GOTO, Some(10)), -22);
    assert_eq!(add(FR_ACT_GOTO, Some(11)), 0);
}

#[test]
fn what_is_not_built_is_refused() {
    let rule = FibRuleHdr { family: 2, action: FR_ACT_NOP, ..FibRuleHdr::default() };
    let realm = attribute(FRA_FLOW, 4_u32.as_bytes());
    let data = request(RTM_NEWRULE, NLM_F_ACK, &[rule.as_bytes(), &realm].concat());
    assert_eq!(error_of(&ask(&socket(Privilege::Admin), &data)), -95);
    // No family is no family of rules (`fib_nl_newrule`).
    let data = request(RTM_NEWRULE, NLM_F_ACK, FibRuleHdr::default().as_bytes());
    assert_eq!(error_of(&ask(&socket(Privilege::Admin), &data)), -97);
    let data = request(60, 0, &[0; 16]);
    assert_eq!(error_of(&ask(&socket(Privilege::Admin), &data)), -95);
}
