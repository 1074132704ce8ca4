//! What is in a capture, counted.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use crate::dissect::Content;
use crate::examine::Examined;

/// Counts over the packets of a capture.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    packets: u64,
    bytes: u64,
    first: Option<Duration>,
    last: Duration,
    protocols: BTreeMap<&'static str, u64>,
    interfaces: BTreeMap<String, u64>,
    notes: BTreeMap<&'static str, u64>,
    drops: BTreeMap<String, u64>,
    processes: BTreeMap<String, u64>,
}

impl Summary {
    /// Counts a packet.
    pub(crate) fn add(&mut self, packet: &Examined) {
        self.packets += 1;
        self.bytes += u64::from(packet.packet.original_len);
        let time = packet.packet.time;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = self.last.max(time);
        *self.protocols.entry(protocol(packet)).or_default() += 1;
        let interface = &packet.packet.interface;
        let name = interface.name.clone().unwrap_or_else(|| interface.number.to_string());
        *self.interfaces.entry(name).or_default() += 1;
        for note in &packet.judgement.notes {
            *self.notes.entry(note.name()).or_default() += 1;
        }
        if let Some(reason) = &packet.remarks.drop {
            *self.drops.entry(reason.clone()).or_default() += 1;
        }
        for process in packet.remarks.processes() {
            *self.processes.entry(process.to_string()).or_default() += 1;
        }
    }

    /// Prints the counts; `flows` is the number of flows.
    pub(crate) fn write(&self, out: &mut impl Write, flows: usize, as_json: bool) -> io::Result<()> {
        let Self { packets, bytes, first, last, protocols, interfaces, notes, drops, processes } = self;
        let duration = last.saturating_sub(first.unwrap_or_default());
        if as_json {
            let object = json!({
                "packets": packets, "bytes": bytes, "flows": flows, "duration": duration.as_secs_f64(),
                "protocols": protocols, "interfaces": interfaces, "notes": notes, "drops": drops,
                "processes": processes,
            });
            return writeln!(out, "{object}");
        }
        writeln!(out, "{packets} packets, {bytes} bytes, {flows} flows in {:.6} s", duration.as_secs_f64())?;
        section(out, "interfaces", interfaces)?;
        section(out, "protocols", protocols)?;
        section(out, "analysis", notes)?;
        section(out, "dropped by the stack", drops)?;
        section(out, "processes", processes)
    }
}

fn section<K: std::fmt::Display>(
    out: &mut impl Write,
    title: &str,
    counts: &BTreeMap<K, u64>,
) -> io::Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}:")?;
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, count) in sorted {
        writeln!(out, "{count:>8} {name}")?;
    }
    Ok(())
}

fn protocol(packet: &Examined) -> &'static str {
    match packet.dissection.as_ref().map(|d| &d.content) {
        None => "malformed",
        Some(Content::Tcp(_)) => "tcp",
        Some(Content::Udp(datagram)) if datagram.dns.is_some() => "dns",
        Some(Content::Udp(_)) => "udp",
        Some(Content::Icmp(icmp)) if icmp.is_v6 => "icmp6",
        Some(Content::Icmp(_)) => "icmp",
        Some(Content::Arp) => "arp",
        Some(Content::Other(Some(_))) => "other ip",
        Some(Content::Other(None)) => "other",
    }
}
