//! Packets of a run: those that it injects and those that it expects.

use std::time::Duration;

use super::Run;
use super::trace::seconds;
use crate::backend::Captured;
use crate::diagnostic::Diagnostic;
use crate::packet::{Body, Packet, build, parse};
use crate::syntax::{PacketSpec, Place};
use crate::{compare, compose};

impl Run {
    pub(super) fn inject(&mut self, spec: &PacketSpec) -> Result<(), Diagnostic> {
        let packet = compose::compose(self, spec)?;
        self.log(&packet, "<", self.backend.now());
        self.urgent_bytes += u32::from(packet.has_urgent());
        self.backend.inject(&build(&packet));
        Ok(())
    }

    pub(super) fn expect(
        &mut self,
        spec: &PacketSpec,
        window: (Duration, Duration),
    ) -> Result<(), Diagnostic> {
        let latest = self.latest(window.1);
        let Some((captured, packet)) = self.take_packet(latest)? else {
            let error = Diagnostic::new(&spec.place, format!("no packet came until {}", seconds(latest)));
            return Err(self.traced(error));
        };
        let mut wrong = compare::compare(self, spec, &packet)?;
        if captured.at + self.tolerance.early < window.0 {
            wrong.push(format!(
                "it came too early: at {}, expected at {}",
                seconds(captured.at),
                seconds(window.0)
            ));
        }
        if captured.at > latest {
            wrong.push(format!(
                "it came too late: at {}, expected at {}",
                seconds(captured.at),
                seconds(window.1)
            ));
        }
        if !wrong.is_empty() {
            let message = format!("the packet is not the expected one: {}", self.show(&packet));
            let mut error = Diagnostic::new(&spec.place, message);
            error.notes = wrong;
            return Err(self.traced(error));
        }
        self.previous = captured.at;
        Ok(())
    }

    /// Packets in any order.
    pub(super) fn expect_all(
        &mut self,
        specs: &[PacketSpec],
        window: (Duration, Duration),
        place: &Place,
    ) -> Result<(), Diagnostic> {
        let latest = self.latest(window.1);
        let mut left: Vec<&PacketSpec> = specs.iter().collect();
        while !left.is_empty() {
            let Some((captured, packet)) = self.take_packet(latest)? else {
                let message = format!("{} of {} packets did not come", left.len(), specs.len());
                return Err(self.traced(Diagnostic::new(place, message)));
            };
            let mut found = None;
            for (index, spec) in left.iter().enumerate() {
                if compare::compare(self, spec, &packet)?.is_empty() {
                    found = Some(index);
                    break;
                }
            }
            let Some(index) = found else {
                let message = format!("none of the expected packets: {}", self.show(&packet));
                return Err(self.traced(Diagnostic::new(place, message)));
            };
            left.remove(index);
            self.previous = captured.at;
        }
        Ok(())
    }

    /// Takes the next packet that scripts look at.
    pub(super) fn take_packet(&mut self, until: Duration) -> Result<Option<(Captured, Packet)>, Diagnostic> {
        while let Some(captured) = self.backend.next_packet(until) {
            let Some(packet) = parse(&captured.bytes) else {
                let place = Place { file: "".into(), line: 0, column: 0 };
                let error = Diagnostic::new(&place, "the stack sent a packet that makes no sense");
                return Err(self.traced(error.note(format!("{:02x?}", captured.bytes))));
            };
            if is_noise(&packet) {
                continue;
            }
            self.log(&packet, ">", captured.at);
            return Ok(Some((captured, packet)));
        }
        Ok(None)
    }
}

/// Neighbour discovery and group membership, which the kernel does on any device.
fn is_noise(packet: &Packet) -> bool {
    match &packet.body {
        Body::Icmp { kind, .. } if packet.source.is_ipv6() => (130..=137).contains(kind) || *kind == 143,
        // IGMP, and hop-by-hop options in front of MLD.
        Body::Other(protocol) => matches!(protocol, 0 | 2),
        _ => false,
    }
}
