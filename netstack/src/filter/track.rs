//! A packet's flow: found, begun, and entered into the table.

use std::sync::Arc;

use netstack_wire::checksum::{Accumulator, pseudo_header};
use netstack_wire::ip::Protocol;
use netstack_wire::tcp::{TcpRepr, TcpView};

use super::hook::Passage;
use super::icmp;
use super::rule::Hook;
use crate::conntrack::{Conn, ConnState, Direction, Identified, Tracked, Tracking, Transport, Tuple};
use crate::ip::Transit;
use crate::packet::{Checksum, Packet};
use crate::stack::Core;

impl Passage {
    /// Finds or begins the packet's flow.
    pub(super) fn track(&mut self, core: &Arc<Core>, hook: Hook, transit: &mut Transit) {
        if self.is_untracked || self.is_carried || !self.needs_tracking() {
            return;
        }
        self.state = ConnState::INVALID;
        if hook == Hook::Prerouting && !has_right_checksum(transit) {
            return core.counters.conntrack_invalid.increment();
        }
        let identified =
            Tuple::identify(transit.source, transit.destination, transit.protocol, transit.transport());
        match identified {
            Identified::Flow(tuple) => self.track_flow(core, tuple, transit),
            Identified::Error => self.track_error(core, transit),
            Identified::Link => self.state = ConnState::UNTRACKED,
            Identified::Invalid => {}
        }
        if self.state == ConnState::INVALID {
            core.counters.conntrack_invalid.increment();
        }
    }

    fn track_flow(&mut self, core: &Arc<Core>, tuple: Tuple, transit: &Transit) {
        let segment = match transit.protocol {
            Protocol::TCP => TcpView::new(transit.transport())
                .ok()
                .map(|view| (TcpRepr::parse(&view), transit.packet.len() - view.header_len())),
            _ => None,
        };
        let transport = match &segment {
            // A packet is at most 64 KiB long. A short payload may be in the head, behind the header.
            Some((segment, payload_len)) => Transport::Tcp { segment, payload_len: *payload_len as u32 },
            None => Transport::Other,
        };
        let table = &core.filter.conntrack.table;
        if let Some((conn, direction)) = table.find(&tuple, self.now) {
            match conn.on_packet(self.now, direction, &transport, transit.len()) {
                tracked @ (Tracked::Valid | Tracked::Refused) => {
                    if tracked == Tracked::Refused {
                        table.remove(&conn);
                    }
                    self.state = conn.state(direction);
                    self.tracking = Some(Tracking { conn, direction, is_related: false });
                    return;
                }
                Tracked::Invalid => return,
                Tracked::Reopened => table.remove(&conn),
            }
        }
        if let Some(conn) = Conn::begin(self.now, tuple, &transport, transit.len()) {
            self.state = ConnState::NEW;
            let direction = Direction::Original;
            self.tracking = Some(Tracking { conn: Arc::new(conn), direction, is_related: false });
        }
    }

    fn track_error(&mut self, core: &Core, transit: &mut Transit) {
        let Some((conn, direction)) = icmp::related(core, transit, self.now) else { return };
        self.state = ConnState::RELATED;
        if conn.is_translated() {
            self.before = Some(transit.clone());
            icmp::translate(transit, &conn, direction);
        }
        self.tracking = Some(Tracking { conn, direction: direction.opposite(), is_related: true });
    }

    /// Enters a new flow that got through; false if there is no room for it.
    pub(super) fn confirm(&mut self, core: &Arc<Core>) -> bool {
        let Some(tracking) = self.tracking.as_ref().filter(|tracking| !tracking.conn.is_confirmed()) else {
            return true;
        };
        let cell = &core.filter.conntrack;
        match cell.table.confirm(&tracking.conn, self.now) {
            Ok(outcome) => {
                if outcome == crate::conntrack::Confirmed::Evicting {
                    core.counters.conntrack_early_drops.increment();
                }
                cell.arm(core, self.now);
                true
            }
            Err(_) => {
                core.counters.conntrack_drops.increment();
                false
            }
        }
    }
}

/// A damaged packet must not change what is known of its flow.
fn has_right_checksum(transit: &Transit) -> bool {
    let packet: &Packet = &transit.packet;
    let has_sum =
        matches!(transit.protocol, Protocol::TCP | Protocol::UDP | Protocol::ICMP | Protocol::ICMPV6);
    if packet.meta.checksum != Checksum::Plain || !has_sum || transit.is_later_fragment {
        return true;
    }
    let is_absent = transit.protocol == Protocol::UDP && transit.transport().get(6..8) == Some(&[0, 0]);
    if is_absent && transit.is_v4() {
        return true;
    }
    let mut sum = match transit.protocol {
        Protocol::ICMP => Accumulator::default(),
        protocol => {
            let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
            Accumulator::new(pseudo_header(transit.source, transit.destination, protocol.0, len))
        }
    };
    packet.slices().for_each(|piece| sum.add(piece));
    sum.is_valid()
}
