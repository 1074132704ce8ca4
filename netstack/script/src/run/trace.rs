//! What a failure shows of the packets before it.

use std::time::Duration;

use super::Run;
use crate::diagnostic::Diagnostic;
use crate::flow::ports;
use crate::packet::{Body, Packet, Shown, flags};

/// Packets shown around a failure.
const TRACE_LINES: usize = 16;

impl Run {
    pub(super) fn show(&self, packet: &Packet) -> String {
        let flow = self.flows.of(packet);
        let (local, peer) = flow.map_or((0, 0), |flow| (flow.local_base(), flow.peer_iss));
        let is_ours = packet.source == self.setup.local();
        let (seq_base, ack_base) = if is_ours { (local, peer) } else { (peer, local) };
        let label = match flow {
            Some(flow) if flow.label.is_empty() => String::new(),
            Some(flow) => format!("{}: ", flow.label),
            None => match ports(packet) {
                Some((source, destination)) => format!("(unknown flow, ports {source} to {destination}) "),
                None => String::new(),
            },
        };
        format!("{label}{}", Shown { packet, seq_base, ack_base })
    }

    pub(super) fn log(&mut self, packet: &Packet, direction: &str, at: Duration) {
        // The first SYN of a flow shows zero, not its number.
        let shown = match &packet.body {
            Body::Tcp(segment)
                if segment.has(flags::SYN)
                    && direction == ">"
                    && self.flows.of(packet).is_none_or(|flow| flow.local_iss != Some(segment.seq)) =>
            {
                let ack_base = self.flows.of(packet).map_or(0, |flow| flow.peer_iss);
                Shown { packet, seq_base: segment.seq, ack_base }.to_string()
            }
            _ => self.show(packet),
        };
        self.trace.push(format!("{} {direction} {shown}", seconds(at)));
    }

    pub(super) fn traced(&self, mut error: Diagnostic) -> Diagnostic {
        let skip = self.trace.len().saturating_sub(TRACE_LINES);
        error.notes.push(format!("packets up to {}:", seconds(self.backend.now())));
        error.notes.extend(self.trace[skip..].iter().map(|line| format!("    {line}")));
        error
    }
}

pub(super) fn seconds(at: Duration) -> String {
    format!("{:.6}", at.as_secs_f64())
}
