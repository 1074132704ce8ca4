//! Receiving datagrams: from IP packets to the sockets. Those that follow each other are handed over together.

use std::sync::Arc;

use netstack_wire::checksum::{self, Accumulator};
use netstack_wire::ip::Protocol;
use netstack_wire::udp::{self, UdpRepr};

use crate::bpf;
use crate::filter::AssignedSocket;
use crate::forward;
use crate::ip::icmp::{Notice, Quote};
use crate::ip::{Cast, IcmpReason, IpMeta, Rx, reject, zone_of};
use crate::outbox::Outbox;
use crate::packet::{Checksum, GsoKind, Packet};
use crate::port_table::{Found, Target};
use crate::socket::datagram::{DatagramEndpoint, Queued};
use crate::socket::membership;
use crate::stack::Core;
use crate::tcp::Flow;

/// Datagrams of one sender for one socket, which a batch of frames brought one after the other: the socket is looked up,
/// locked and notified once.
#[derive(Default)]
pub(crate) struct Run {
    to: Option<(Target, Arc<DatagramEndpoint>)>,
    datagrams: Vec<Queued>,
}

impl Run {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.to.is_none()
    }

    pub(crate) fn clear(&mut self) {
        self.to = None;
        self.datagrams.clear();
    }
}

/// Takes a UDP datagram for us.
pub(crate) fn input(rx: &mut Rx<'_>, ip: &IpMeta, mut packet: Packet) {
    let counters = &rx.core.counters;
    if !packet.make_contiguous(ip.offset, udp::HEADER_LEN) {
        return counters.udp_in_errors.increment();
    }
    let Some(header) = UdpRepr::parse(packet.contiguous(ip.offset)) else {
        return counters.udp_in_errors.increment();
    };
    let len = usize::from(header.len);
    if len > ip.len {
        return counters.udp_in_errors.increment();
    }
    packet.truncate(ip.offset + len);
    if packet.meta.checksum == Checksum::Plain && !has_right_checksum(ip, &header, &packet) {
        return counters.udp_in_checksum_errors.increment();
    }
    let target = Target {
        local: ip.destination,
        local_port: header.destination_port,
        remote: ip.source,
        remote_port: header.source_port,
        nic: ip.nic,
    };
    if ip.cast != Cast::Unicast {
        release_run(rx.core, rx.outbox);
        if let Some(AssignedSocket::Datagram(endpoint)) = packet.meta.assigned_socket() {
            return deliver(rx, ip, &header, packet, &endpoint);
        }
        let wanted = |endpoint: &Arc<DatagramEndpoint>| membership::wants(endpoint, ip);
        let mut is_wanted = false;
        for endpoint in rx.core.udp.lookup_all(&target).iter().filter(|endpoint| wanted(endpoint)) {
            is_wanted = true;
            deliver(rx, ip, &header, packet.clone(), endpoint);
        }
        if !is_wanted {
            counters.udp_ignored_multi.increment();
        }
        return;
    }
    let run = rx.outbox.run();
    let joins = run.datagrams.len() < MAX_RUN && run.to.as_ref().is_some_and(|(to, _)| *to == target);
    if !joins {
        release_run(rx.core, rx.outbox);
        let endpoint = match rx.core.udp.lookup(&target, || flow_hash(rx.core, &target)) {
            Some(Found::One(endpoint)) => endpoint,
            // The program looks at each datagram.
            Some(Found::Group(group)) => {
                let subject = bpf::subject_of(rx, ip, &packet, ip.offset + udp::HEADER_LEN);
                let index = usize::try_from(group.program.run(&subject)).ok();
                return deliver(rx, ip, &header, packet, &group.pick(index));
            }
            None if forward::offer_datagram(rx, ip, &header, &packet) => return,
            None => {
                counters.udp_no_ports.increment();
                return reject(rx, ip, &packet, IcmpReason::PortUnreachable);
            }
        };
        if endpoint.filter.is_set() {
            return deliver(rx, ip, &header, packet, &endpoint);
        }
        rx.outbox.run().to = Some((target, endpoint));
    }
    rx.outbox.run().datagrams.push(datagram(ip, &header, packet));
}

/// Hands a datagram over by itself, unless the program of its socket does not want it.
fn deliver(rx: &Rx<'_>, ip: &IpMeta, header: &UdpRepr, mut packet: Packet, endpoint: &DatagramEndpoint) {
    if endpoint.filter.admits(rx, ip, &mut packet, ip.offset, udp::HEADER_LEN) {
        enqueue(rx.core, datagram(ip, header, packet), endpoint);
    } else {
        endpoint.count_drop();
        rx.core.counters.udp_in_errors.increment();
    }
}

/// Gives the datagrams that were held to their socket.
#[inline]
pub(crate) fn release_run(core: &Core, outbox: &mut Outbox) {
    let run = outbox.run();
    if let Some((_, endpoint)) = run.to.take() {
        let (taken, dropped) = endpoint.enqueue_run(run.datagrams.drain(..));
        core.counters.udp_in_datagrams.add(taken);
        if dropped > 0 {
            core.counters.udp_rcvbuf_errors.add(dropped);
        }
    }
}

fn datagram(ip: &IpMeta, header: &UdpRepr, packet: Packet) -> Queued {
    let gso = packet.meta.gso.filter(|gso| gso.kind == GsoKind::Udp && gso.size > 0);
    let (options, tags) = (ip.options(&packet), packet.meta.tags());
    let data = packet.into_payload(ip.offset + udp::HEADER_LEN);
    let whole = Queued::new(ip, header.source_port, header.destination_port, data);
    let segment_size = gso.map(|gso| gso.size).filter(|&size| usize::from(size) < whole.len);
    Queued { segment_size, ..whole }.with_options(options).with_tags(tags)
}

/// Hands one datagram over.
pub(super) fn enqueue(core: &Core, datagram: Queued, endpoint: &DatagramEndpoint) {
    let (taken, dropped) = endpoint.enqueue_run(std::iter::once(datagram));
    core.counters.udp_in_datagrams.add(taken);
    core.counters.udp_rcvbuf_errors.add(dropped);
}

fn has_right_checksum(ip: &IpMeta, header: &UdpRepr, packet: &Packet) -> bool {
    if header.checksum == 0 {
        // RFC 768 allows it, RFC 8200 section 8.1 does not.
        return ip.source.is_ipv4();
    }
    let pseudo = checksum::pseudo_header(ip.source, ip.destination, Protocol::UDP.0, u32::from(header.len));
    let mut total = Accumulator::new(pseudo);
    let mut skip = ip.offset;
    for piece in packet.slices() {
        let now = skip.min(piece.len());
        skip -= now;
        total.add(&piece[now..]);
    }
    total.is_valid()
}

fn flow_hash(core: &Core, target: &Target) -> u64 {
    core.secrets.hash_flow(&Flow {
        local_addr: target.local,
        remote_addr: target.remote,
        local_port: target.local_port,
        remote_port: target.remote_port,
        zone: zone_of(target.remote, target.nic),
    })
}

/// An ICMP error about a datagram of ours; false if no socket can have sent it.
pub(crate) fn on_icmp(core: &Core, quote: &Quote<'_>, notice: &Notice) -> bool {
    let Some(header) = UdpRepr::parse(quote.bytes) else { return false };
    let nic = core.topology.load().local_address(quote.source).map(|local| local.nic);
    let Some(nic) = nic.or_else(|| forward::nic_about(core, quote.destination)) else { return false };
    let target = Target {
        local: quote.source,
        local_port: header.source_port,
        remote: quote.destination,
        remote_port: header.destination_port,
        nic,
    };
    let found = core.udp.lookup(&target, || flow_hash(core, &target));
    let Some(endpoint) = found.map(Found::by_hash) else { return false };
    let payload = quote.bytes.get(udp::HEADER_LEN..).unwrap_or_default();
    endpoint.on_icmp(notice, (quote.destination, header.destination_port), payload);
    true
}

/// Bounds what a batch holds back; Linux's NAPI hands over at least as often.
const MAX_RUN: usize = 64;
