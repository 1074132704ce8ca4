//! Printing packets and flows, as text or as JSON lines.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use crate::analysis::{Analysis, Connection, Half, Note};
use crate::dissect::Dissection;
use crate::source::Packet;

/// A packet as it is listed.
pub(crate) struct Line {
    number: u64,
    time: Duration,
    len: u32,
    summary: String,
    pub(crate) flow: Option<usize>,
    pub(crate) notes: Vec<Note>,
}

impl Line {
    /// Dissects and analyses the packet.
    pub(crate) fn new(number: u64, packet: &Packet, analysis: &mut Analysis) -> Self {
        let (time, len) = (packet.time, packet.original_len);
        let Some(dissection) = Dissection::of(packet) else {
            return Self { number, time, len, summary: "malformed".into(), flow: None, notes: Vec::new() };
        };
        let judged = dissection.tcp.as_ref().map(|segment| analysis.on_segment(time, segment));
        let (flow, notes) = judged.map_or((None, Vec::new()), |(flow, notes)| (Some(flow), notes));
        Self { number, time, len, summary: dissection.summary, flow, notes }
    }

    pub(crate) fn write(&self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        let Self { number, time, len, summary, flow, notes } = self;
        if as_json {
            let object = json!({
                "number": number, "time": time.as_secs_f64(), "length": len, "flow": flow, "summary": summary,
                "notes": notes,
            });
            return writeln!(out, "{object}");
        }
        write!(out, "{number:>6} {}.{:06} ", time.as_secs(), time.subsec_micros())?;
        match flow {
            Some(flow) => write!(out, "#{flow} {summary}")?,
            None => write!(out, "{summary}")?,
        }
        for note in notes {
            write!(out, " [{}]", name(*note))?;
        }
        writeln!(out)
    }
}

/// The note's name as JSON has it.
fn name(note: Note) -> String {
    serde_json::to_value(note).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Prints a connection with both directions.
pub(crate) fn write_flow(out: &mut impl Write, connection: &Connection, as_json: bool) -> io::Result<()> {
    let Connection { number, endpoints, first, last, is_reset, from_client, from_server } = connection;
    let duration = last.saturating_sub(*first);
    if as_json {
        let object = json!({
            "flow": number, "client": endpoints.source, "server": endpoints.destination,
            "start": first.as_secs_f64(), "duration": duration.as_secs_f64(), "reset": is_reset,
            "from_client": half_json(from_client), "from_server": half_json(from_server),
        });
        return writeln!(out, "{object}");
    }
    let end = match (is_reset, from_client.is_finished && from_server.is_finished) {
        (true, _) => "reset",
        (_, true) => "closed",
        _ => "open",
    };
    writeln!(out, "#{number} {endpoints} {:.6} s {end}", duration.as_secs_f64())?;
    for (arrow, half) in [("  ->", from_client), ("  <-", from_server)] {
        writeln!(out, "{arrow} {}", half_text(half))?;
    }
    Ok(())
}

fn half_json(half: &Half) -> serde_json::Value {
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    json!({
        "segments": half.segments, "bytes": half.bytes,
        "retransmitted_segments": half.retransmitted_segments, "retransmitted_bytes": half.retransmitted_bytes,
        "duplicate_acks": half.duplicate_acks, "zero_windows": half.zero_windows, "window": half.window(),
        "initial_sequence_number": half.initial(), "finished": half.is_finished,
        "rtt_us": half.rtt.mean().map(|mean| json!({
            "min": micros(half.rtt.min), "mean": micros(mean), "max": micros(half.rtt.max), "samples": half.rtt.samples,
        })),
    })
}

fn half_text(half: &Half) -> String {
    let mut text = format!("{} segments, {} bytes", half.segments, half.bytes);
    if half.retransmitted_segments > 0 {
        text +=
            &format!(", {} retransmitted ({} bytes)", half.retransmitted_segments, half.retransmitted_bytes);
    }
    if half.duplicate_acks > 0 {
        text += &format!(", {} duplicate acks", half.duplicate_acks);
    }
    if half.zero_windows > 0 {
        text += &format!(", {} zero windows", half.zero_windows);
    }
    if let Some(mean) = half.rtt.mean() {
        text += &format!(", rtt {:?}/{mean:?}/{:?}", half.rtt.min, half.rtt.max);
    }
    text
}
