//! A packet as a line.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use crate::dissect::Dissection;
use crate::examine::Examined;

/// Prints a packet with what is known about it.
pub(crate) fn write_packet(out: &mut impl Write, packet: &Examined, as_json: bool) -> io::Result<()> {
    if as_json { writeln!(out, "{}", object(packet)) } else { writeln!(out, "{}", line(packet)) }
}

/// The packet's line of text.
pub(crate) fn line(packet: &Examined) -> String {
    let time = packet.packet.time;
    let mut text = format!("{:>6} {}.{:06} ", packet.number, time.as_secs(), time.subsec_micros());
    if let Some(flow) = packet.flow {
        text += &format!("#{flow} ");
    }
    text += summary(packet);
    for note in packet.judgement.texts() {
        text += &format!(" [{note}]");
    }
    if let Some(rtt) = packet.judgement.rtt {
        text += &format!(" rtt {rtt:?}");
    }
    let remarks = packet.remarks.text();
    if !remarks.is_empty() {
        text += &format!(" {{{remarks}}}");
    }
    text
}

fn summary(packet: &Examined) -> &str {
    packet.dissection.as_ref().map_or("malformed", |dissection: &Dissection| &dissection.summary)
}

fn object(packet: &Examined) -> serde_json::Value {
    let judgement = &packet.judgement;
    let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    let mut object = json!({
        "number": packet.number, "time": packet.packet.time.as_secs_f64(), "length": packet.packet.original_len,
        "flow": packet.flow, "summary": summary(packet), "notes": judgement.notes,
    });
    let optional = [
        ("interface", json!(packet.packet.interface.name)),
        ("direction", json!(packet.packet.course)),
        ("duplicate_ack", json!(judgement.duplicate_ack)),
        ("rtt_us", json!(judgement.rtt.map(micros))),
        ("in_flight", json!(judgement.in_flight)),
        ("window", json!(judgement.window)),
        ("reset", json!(judgement.reset)),
    ];
    let remarks = match json!(packet.remarks) {
        serde_json::Value::Object(remarks) => remarks,
        _ => serde_json::Map::new(),
    };
    if let Some(fields) = object.as_object_mut() {
        let known = optional.into_iter().filter(|(_, value)| !value.is_null());
        fields.extend(known.map(|(key, value)| (key.to_owned(), value)));
        fields.extend(remarks);
    }
    object
}
