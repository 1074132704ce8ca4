//! Segments that reach a listener after another thread has found no connection for them, and has then been overtaken.
//!
//! The order is not left to threads: giving a segment to the listener is what the slower thread does once it has looked.

use std::sync::Arc;

use netstack_wire::ipv4;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{TcpFlags, TcpOptions, TcpRepr, TcpView};

use crate::link::channel::ChannelLink;
use crate::link::{Capabilities, Medium};
use crate::options::{Family, RecvFlags};
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::tcp::{Flow, Payload};
use crate::tcp_endpoint::input::{dispatch, segment_of, to_listener};
use crate::{Stack, TcpSocket};

const ISS: u32 = 1000;
const PORT: u16 = 80;

struct Host {
    stack: Stack,
    link: Arc<ChannelLink>,
    listener: TcpSocket,
    flow: Flow,
}

/// Which way a segment takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The thread looks for the connection now.
    Direct,
    /// It looked before there was one.
    Late,
}

impl Host {
    fn new() -> Self {
        let stack = Stack::builder().manual_clock().deterministic(1).build();
        let link = ChannelLink::new(Medium::Ip, 1500, Capabilities::default(), 64);
        let nic = stack.add_nic("tun0", link.clone()).unwrap();
        stack.add_address(nic, "10.0.0.2/24".parse().unwrap()).unwrap();
        let listener = TcpSocket::new(&stack, Family::V4);
        listener.bind(format!("10.0.0.2:{PORT}").parse().unwrap()).unwrap();
        listener.listen(8).unwrap();
        let flow = Flow {
            local_addr: "10.0.0.2".parse().unwrap(),
            remote_addr: "10.0.0.1".parse().unwrap(),
            local_port: PORT,
            remote_port: 4000,
            zone: 0,
        };
        Self { stack, link, listener, flow }
    }

    /// Gives a segment to the stack, and returns the flags and numbers of what it sends.
    fn input(
        &self,
        way: Way,
        flags: TcpFlags,
        seq: u32,
        ack: u32,
        data: &'static [u8],
    ) -> Vec<(TcpFlags, u32)> {
        let repr = TcpRepr {
            src_port: self.flow.remote_port,
            dst_port: PORT,
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags,
            window: 8000,
            urgent: 0,
            options: TcpOptions::default(),
        };
        let payload =
            if data.is_empty() { Payload::default() } else { Payload::from(bytes::Bytes::from(data)) };
        let segment = segment_of(0, repr, payload);
        let core = &self.stack.core;
        let mut outbox = Outbox::default();
        match way {
            Way::Direct => {
                let nic = self.stack.nics().iter().find(|nic| nic.name == "tun0").map(|nic| nic.id).unwrap();
                dispatch(core, &self.flow, nic, segment, &mut outbox);
            }
            Way::Late => to_listener(core, &self.flow, segment, None, &mut outbox),
        }
        outbox.flush(core);
        let seen = |frame: Packet| {
            let repr = TcpRepr::parse(&TcpView::new(&frame.to_vec()[ipv4::MIN_HEADER_LEN..]).unwrap());
            (repr.flags, repr.seq.0)
        };
        self.link.take().into_iter().map(seen).collect()
    }

    /// Opens a connection; returns the number of its SYN-ACK.
    fn open(&self) -> u32 {
        let answers = self.input(Way::Direct, TcpFlags::SYN, ISS, 0, b"");
        let [(flags, iss)] = answers[..] else { panic!("{answers:?}") };
        assert_eq!(flags, TcpFlags::SYN | TcpFlags::ACK);
        assert_eq!(self.input(Way::Direct, TcpFlags::ACK, ISS + 1, iss + 1, b""), []);
        iss
    }

    fn half_open(&self) -> usize {
        self.listener.listen_queue_lens().1
    }
}

#[test]
fn data_that_was_late_for_the_handshake_reaches_the_connection() {
    let host = Host::new();
    let iss = host.open();
    let answers = host.input(Way::Late, TcpFlags::ACK | TcpFlags::PSH, ISS + 1, iss + 1, b"data");
    assert!(answers.iter().all(|(flags, _)| !flags.contains(TcpFlags::RST)), "{answers:?}");
    let (connection, _) = host.listener.try_accept().unwrap();
    let mut got = Vec::new();
    connection.try_recv(&mut got, RecvFlags::default()).unwrap();
    assert_eq!(got, b"data");
    assert_eq!(host.stack.core.counters.tcp_drop_bad_cookie.get(), 0);
}

#[test]
fn a_second_syn_that_was_late_for_the_handshake_leaves_nothing_behind() {
    let host = Host::new();
    let iss = host.open();
    let answers = host.input(Way::Late, TcpFlags::SYN, ISS, 0, b"");
    // RFC 5961 section 4.2: a challenge ACK.
    assert_eq!(answers, [(TcpFlags::ACK, iss + 1)]);
    assert_eq!(host.half_open(), 0);
    assert!(host.listener.try_accept().is_ok());
}

/// Without cookies about, an ACK for nothing is just that (Linux counts no `SyncookiesFailed` then).
#[test]
fn an_ack_for_nothing_is_no_failed_cookie() {
    let host = Host::new();
    let answers = host.input(Way::Direct, TcpFlags::ACK, 5000, 7000, b"");
    assert_eq!(answers, [(TcpFlags::RST, 7000)]);
    let counters = &host.stack.core.counters;
    assert_eq!((counters.tcp_drop_bad_cookie.get(), counters.tcp_drop_listen_unexpected.get()), (0, 1));
}
