//! A monitor that writes pcapng, with what it knows as comments.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{PacketMonitor, Seen};
use crate::link::sniffer::PcapWriter;
use crate::nic::NicId;
use crate::sync::Mutex;

/// Writes each packet to a recording. A discarded one gets a comment with a line `drop: REASON ...`, which `netcap` and
/// Wireshark show; others can add lines of theirs.
pub struct PcapMonitor {
    writer: Arc<PcapWriter>,
    /// The recording's numbers of the NICs.
    interfaces: Mutex<HashMap<NicId, u32>>,
    notes: Option<Box<Notes>>,
}

/// Adds lines `key: value` about a packet. Called like [`PacketMonitor::packet`].
pub type Notes = dyn Fn(&Seen<'_>, &mut String) + Send + Sync;

impl PcapMonitor {
    /// Writes to `writer`.
    #[must_use]
    pub fn new(writer: Arc<PcapWriter>) -> Self {
        Self { writer, interfaces: Mutex::default(), notes: None }
    }

    /// Adds what `notes` knows about each packet.
    #[must_use]
    pub fn with_notes(mut self, notes: Box<Notes>) -> Self {
        self.notes = Some(notes);
        self
    }
}

impl PacketMonitor for PcapMonitor {
    fn packet(&self, seen: &Seen<'_>) {
        let mut comment = String::new();
        if !seen.discarded.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(comment, "drop: {}", seen.discarded.join(" "));
        }
        if let Some(notes) = &self.notes {
            notes(seen, &mut comment);
        }
        let mut interfaces = self.interfaces.lock();
        let number = *interfaces
            .entry(seen.nic)
            .or_insert_with(|| self.writer.add_interface(seen.interface, seen.medium));
        drop(interfaces);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.writer.record_noted(number, seen.direction, seen.packet, now, comment.trim_end());
    }
}
