//! Batches as `nft` sends them, whole and damaged, against a stack of its own.

use std::sync::Arc;

use netstack::Stack;
use sentry_abi::socket::Ucred;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::socket::base::SocketType;
use crate::socket::netlink::rtnetlink::answer;
use crate::socket::netlink::{NetlinkSocket, Privilege};

const ME: Ucred = Ucred { pid: 7, uid: 0, gid: 0 };
const CREATE: u16 = NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK;

fn socket(privilege: Privilege) -> Arc<NetlinkSocket> {
    let namespace = NetNamespace::new(Stack::builder().build());
    NetlinkSocket::new(namespace, SocketType::Raw, NETLINK_NETFILTER, ME, privilege).unwrap()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = RtAttr { len: u16::try_from(4 + value.len()).unwrap(), kind }.as_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes.resize(nl_align(bytes.len()), 0);
    bytes
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind, &parts.concat())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn word(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let body = [vec![family, 0, 0, 10], attributes.concat()].concat();
    let len = u32::try_from(16 + body.len()).unwrap();
    let header = NlMsgHdr { len, kind, flags: flags | NLM_F_REQUEST, seq: 5, pid: 0 };
    [header.as_bytes(), &body].concat()
}

fn nft(kind: u16, flags: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    message(SUBSYS_NFTABLES << 8 | kind, flags, FAMILY_V4, attributes)
}

fn batched(messages: &[Vec<u8>]) -> Vec<u8> {
    [message(BATCH_BEGIN, 0, 0, &[]), messages.concat(), message(BATCH_END, 0, 0, &[])].concat()
}

/// The numbers of errors and acknowledgements.
fn errors(socket: &NetlinkSocket, data: &[u8]) -> Vec<i32> {
    let mut errors = Vec::new();
    for datagram in answer(socket, 9, data, None) {
        let mut rest = datagram.as_slice();
        while let Some(message) = Request::next(&mut rest) {
            if message.header.kind == NLMSG_ERROR {
                errors.push(i32::read_from_prefix(message.body).unwrap().0);
            }
        }
    }
    errors
}

/// How many messages a list has.
fn count(socket: &NetlinkSocket, kind: u16, attributes: &[Vec<u8>]) -> usize {
    let list = answer(socket, 9, &nft(kind, NLM_F_DUMP, attributes), None).concat();
    let mut rest = list.as_slice();
    std::iter::from_fn(|| Request::next(&mut rest))
        .filter(|message| message.header.kind != NLMSG_DONE)
        .count()
}

fn table() -> Vec<u8> {
    nft(MSG_NEWTABLE, CREATE, &[text(1, "t")])
}

fn chain(name: &str, hook: Option<u32>) -> Vec<u8> {
    let mut attributes = vec![text(1, "t"), text(3, name)];
    if let Some(hook) = hook {
        attributes.push(nest(4, &[word(1, hook), word(2, 0)]));
        attributes.push(text(7, "filter"));
    }
    nft(MSG_NEWCHAIN, CREATE, &attributes)
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nest(LIST_ELEM, &[text(EXPR_NAME, name), nest(EXPR_DATA, data)])
}

fn rule(chain: &str, expressions: &[Vec<u8>]) -> Vec<u8> {
    nft(MSG_NEWRULE, CREATE, &[text(1, "t"), text(2, chain), nest(4, expressions)])
}

fn verdict(code: i32, chain: &str) -> Vec<u8> {
    let verdict = nest(2, &[word(1, code.cast_unsigned()), text(2, chain)]);
    expression("immediate", &[word(1, 0), nest(2, &[verdict])])
}

/// A table with a bit of everything.
fn example() -> Vec<Vec<u8>> {
    let set = [text(1, "t"), text(2, "s"), word(3, 4), word(4, 7), word(5, 4), word(10, 1)];
    let element = |number: u32, flags| nest(1, &[nest(1, &[word(1, number)]), word(3, flags)]);
    let elements = [text(1, "t"), text(2, "s"), nest(3, &[element(1, 0), element(9, 1)])];
    let load = expression("payload", &[word(1, 1), word(2, 1), word(3, 12), word(4, 4)]);
    let lookup = expression("lookup", &[text(1, "s"), word(2, 1)]);
    let mask = || nest(4, &[attribute(1, &[255, 255, 255, 0])]);
    let bits = expression("bitwise", &[word(1, 1), word(2, 1), word(3, 4), mask(), nest(5, &[word(1, 0)])]);
    let compare = expression("cmp", &[word(1, 1), word(2, 0), nest(3, &[word(1, 0x0a00_0000)])]);
    let limit = expression(
        "limit",
        &[attribute(1, &5_u64.to_be_bytes()), attribute(2, &1_u64.to_be_bytes()), word(3, 5), word(4, 0)],
    );
    let object = [text(1, "t"), text(2, "c"), word(3, 1), nest(4, &[])];
    vec![
        table(),
        nft(MSG_NEWSET, CREATE, &set),
        nft(MSG_NEWSETELEM, CREATE, &elements),
        nft(MSG_NEWOBJ, CREATE, &object),
        chain("input", Some(1)),
        chain("own", None),
        rule("own", &[load.clone(), bits, compare, expression("counter", &[])]),
        rule("input", &[load, lookup, limit, verdict(-3, "own")]),
        rule("input", &[expression("objref", &[word(1, 1), text(2, "c")])]),
        rule("input", &[expression("meta", &[word(1, 1), word(2, 6)]), expression("reject", &[word(1, 1)])]),
    ]
}

#[test]
fn a_batch_takes_effect_as_a_whole() {
    let socket = socket(Privilege::Admin);
    assert_eq!(errors(&socket, &batched(&example())), [0; 10]);
    let named = [text(1, "t"), text(2, "s")];
    let lists = [(MSG_GETTABLE, 1), (MSG_GETCHAIN, 2), (MSG_GETRULE, 4), (MSG_GETSET, 1), (MSG_GETOBJ, 1)];
    for (kind, expected) in lists {
        assert_eq!(count(&socket, kind, &[]), expected, "list {kind}");
    }
    assert_eq!(count(&socket, MSG_GETSETELEM, &named), 1);
    // The last of these fails, so the first two do not happen either.
    let failing = [table(), chain("more", None), rule("nowhere", &[verdict(1, "")])];
    assert_eq!(errors(&socket, &batched(&failing)), [0, 0, -2]);
    assert_eq!(count(&socket, MSG_GETCHAIN, &[]), 2);
    // A batch without an end neither.
    let endless = [message(BATCH_BEGIN, 0, 0, &[]), chain("more", None)].concat();
    assert_eq!(errors(&socket, &endless), [0]);
    assert_eq!(count(&socket, MSG_GETCHAIN, &[]), 2);
    // What is used cannot be removed; a table goes with all that is in it.
    let used = nft(MSG_DELCHAIN, NLM_F_ACK, &[text(1, "t"), text(3, "own")]);
    assert_eq!(errors(&socket, &batched(&[used])), [-16]);
    let all = nft(MSG_DELTABLE, NLM_F_ACK, &[text(1, "t")]);
    assert_eq!(errors(&socket, &batched(&[all])), [0]);
    assert_eq!(count(&socket, MSG_GETRULE, &[]), 0);
}

#[test]
fn circles_are_found_when_packets_can_get_there() {
    let socket = socket(Privilege::Admin);
    let mut messages = vec![table(), chain("a", None), chain("b", None), chain("input", Some(1))];
    messages.extend([rule("a", &[verdict(-3, "b")]), rule("b", &[verdict(-4, "a")])]);
    assert_eq!(errors(&socket, &batched(&messages)), [0; 6]);
    assert_eq!(errors(&socket, &batched(&[rule("input", &[verdict(-3, "a")])])), [0, -31]);
    let to_base = rule("a", &[verdict(-3, "input")]);
    assert_eq!(errors(&socket, &batched(&[to_base])), [-95]);
}

#[test]
fn what_there_is_no_module_for_is_not_there() {
    let socket = socket(Privilege::Admin);
    assert_eq!(errors(&socket, &batched(&[table()])), [0]);
    let hook = nest(3, &[word(1, 0), word(2, 0)]);
    let flow_table = nft(MSG_NEWFLOWTABLE, CREATE, &[text(1, "t"), text(2, "f"), hook]);
    let helper =
        nft(MSG_NEWOBJ, CREATE, &[text(1, "t"), text(2, "h"), word(3, 3), nest(4, &[text(1, "ftp")])]);
    for refused in [flow_table, helper] {
        assert_eq!(errors(&socket, &batched(&[refused])), [-2]);
    }
}

#[test]
fn only_administrators_may_look() {
    let socket = socket(Privilege::Ordinary);
    assert_eq!(errors(&socket, &nft(MSG_GETTABLE, NLM_F_DUMP, &[])), [-1]);
    assert_eq!(errors(&socket, &batched(&[table()])), [-1]);
}

#[test]
fn bad_attributes_are_pointed_at() {
    let socket = socket(Privilege::Admin);
    socket.set_extended_acks(true);
    let refused = nft(MSG_NEWCHAIN, CREATE, &[text(3, "c"), text(1, "nowhere")]);
    let answers = answer(&socket, 9, &batched(&[refused]), None).concat();
    let ack = Request::next(&mut answers.as_slice()).unwrap();
    assert_eq!(ack.header.flags & NLM_F_ACK_TLVS, NLM_F_ACK_TLVS);
    let attributes = &ack.body[ack.body.len() - 8..];
    // Behind the headers of 20 bytes and the first attribute of 8.
    assert_eq!(Attributes::within(attributes).u32(NLMSGERR_ATTR_OFFS), Some(28));
}

/// Damages messages in ways that a seed decides.
struct Damage(u64);

impl Damage {
    /// xorshift64.
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below
    }

    fn apply(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.next(4) {
            let at = self.next(bytes.len());
            match self.next(5) {
                0 => bytes[at] = u8::try_from(self.next(256)).unwrap(),
                1 => bytes[at] ^= 1 << self.next(8),
                2 => bytes[at] = bytes[at].wrapping_add(1),
                3 => bytes[at] = [0, 1, 4, 255][self.next(4)],
                _ => {
                    let other = self.next(bytes.len());
                    bytes.swap(at, other);
                }
            }
        }
    }
}

#[test]
fn damaged_messages_do_no_harm() {
    let socket = socket(Privilege::Admin);
    let sound = example();
    for seed in 1..4000_u64 {
        let mut damage = Damage(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut messages = sound.clone();
        let victim = damage.next(messages.len());
        // Behind the header, so that the message stays where it is.
        let mut body = messages[victim].split_off(16);
        damage.apply(&mut body);
        messages[victim].extend(body);
        answer(&socket, 9, &batched(&messages), None);
        // Anything at all, too.
        let mut whole = batched(&sound);
        damage.apply(&mut whole);
        answer(&socket, 9, &whole, None);
        for kind in [MSG_GETTABLE, MSG_GETCHAIN, MSG_GETRULE, MSG_GETSET, MSG_GETOBJ] {
            count(&socket, kind, &[]);
        }
        if seed % 16 == 0 {
            answer(&socket, 9, &batched(&[message(SUBSYS_NFTABLES << 8 | MSG_DELTABLE, 0, 0, &[])]), None);
        }
    }
}
