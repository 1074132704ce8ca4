//! A flow with both of its directions.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use crate::analysis::{Connection, Half};
use crate::conversation::Conversation;
use crate::examine::{FlowView, Subject};

/// Prints a flow.
pub(crate) fn write_flow(out: &mut impl Write, flow: &FlowView<'_>, as_json: bool) -> io::Result<()> {
    let FlowView { number, subject, drops, processes } = flow;
    if as_json {
        let mut object = match subject {
            Subject::Tcp(connection) => connection_json(*number, connection),
            Subject::Other(conversation) => conversation_json(*number, conversation),
        };
        if let Some(fields) = object.as_object_mut() {
            if !drops.is_empty() {
                fields.insert("drops".into(), json!(drops));
            }
            if !processes.is_empty() {
                fields.insert("processes".into(), json!(processes));
            }
        }
        return writeln!(out, "{object}");
    }
    match subject {
        Subject::Tcp(connection) => write_connection(out, *number, connection)?,
        Subject::Other(conversation) => write_conversation(out, *number, conversation)?,
    }
    for process in *processes {
        writeln!(out, "  process {process}")?;
    }
    for (reason, count) in *drops {
        writeln!(out, "  dropped {count}: {reason}")?;
    }
    Ok(())
}

fn write_connection(out: &mut impl Write, number: usize, connection: &Connection) -> io::Result<()> {
    let duration = connection.last.saturating_sub(connection.first).as_secs_f64();
    write!(out, "#{number} {} {duration:.6} s {}", connection.endpoints, end_of(connection))?;
    match connection.handshake {
        Some(handshake) => writeln!(out, ", handshake {handshake:?}")?,
        None => writeln!(out)?,
    }
    for (arrow, half) in [("  ->", &connection.from_client), ("  <-", &connection.from_server)] {
        writeln!(out, "{arrow} {}", half_text(half))?;
    }
    Ok(())
}

/// How a connection ended, with the reason.
pub(crate) fn end_of(connection: &Connection) -> String {
    match connection.reset {
        Some(reason) => format!("reset ({reason})"),
        None => connection.end().to_owned(),
    }
}

/// One direction in a line.
pub(crate) fn half_text(half: &Half) -> String {
    let mut text = format!("{} segments, {} bytes", half.segments, half.bytes);
    if half.retransmitted_segments > 0 {
        text +=
            &format!(", {} retransmitted ({} bytes)", half.retransmitted_segments, half.retransmitted_bytes);
    }
    for (note, count) in &half.notes {
        text += &format!(", {count} {}", note.name());
    }
    if let Some(mean) = half.rtt().mean() {
        text += &format!(", rtt {:?}/{mean:?}/{:?}", half.rtt().min, half.rtt().max);
    }
    if half.max_in_flight > 0 {
        text += &format!(", at most {} in flight", half.max_in_flight);
    }
    text
}

fn connection_json(number: usize, connection: &Connection) -> serde_json::Value {
    let Connection { endpoints, first, last, reset, from_client, from_server, handshake } = connection;
    json!({
        "flow": number, "protocol": "TCP", "client": endpoints.source, "server": endpoints.destination,
        "start": first.as_secs_f64(), "duration": last.saturating_sub(*first).as_secs_f64(),
        "end": connection.end(), "reset": reset, "handshake_us": handshake.map(micros),
        "from_client": half_json(from_client), "from_server": half_json(from_server),
    })
}

fn half_json(half: &Half) -> serde_json::Value {
    let notes: serde_json::Map<String, serde_json::Value> =
        half.notes.iter().map(|(note, count)| (note.name().to_owned(), json!(count))).collect();
    let rtt = half.rtt();
    json!({
        "segments": half.segments, "bytes": half.bytes,
        "retransmitted_segments": half.retransmitted_segments, "retransmitted_bytes": half.retransmitted_bytes,
        "notes": notes, "window": half.window(), "max_in_flight": half.max_in_flight,
        "initial_sequence_number": half.initial(), "finished": half.is_finished,
        "rtt_us": rtt.mean().map(|mean| json!({
            "min": micros(rtt.min), "mean": micros(mean), "max": micros(rtt.max), "samples": rtt.samples,
        })),
    })
}

fn write_conversation(out: &mut impl Write, number: usize, flow: &Conversation) -> io::Result<()> {
    let Conversation { protocol, from, to, first, last, packets, bytes, unanswered, slowest, note, .. } =
        flow;
    let duration = last.saturating_sub(*first).as_secs_f64();
    writeln!(out, "#{number} {protocol} {from} > {to} {duration:.6} s")?;
    let [there, back] = packets;
    let [bytes_there, bytes_back] = bytes;
    write!(out, "  -> {there} packets, {bytes_there} bytes; <- {back} packets, {bytes_back} bytes")?;
    if *unanswered > 0 {
        write!(out, "; {unanswered} unanswered")?;
    }
    if let Some(slowest) = slowest {
        write!(out, "; slowest answer {slowest:?}")?;
    }
    if let Some(note) = note {
        write!(out, "; last {note}")?;
    }
    writeln!(out)
}

fn conversation_json(number: usize, flow: &Conversation) -> serde_json::Value {
    let Conversation { protocol, from, to, first, last, packets, bytes, unanswered, slowest, note, .. } =
        flow;
    json!({
        "flow": number, "protocol": protocol, "from": from, "to": to, "start": first.as_secs_f64(),
        "duration": last.saturating_sub(*first).as_secs_f64(), "packets": packets, "bytes": bytes,
        "unanswered": unanswered, "slowest_answer_us": slowest.map(micros), "last": note,
    })
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
