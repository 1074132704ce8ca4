//! Lines about packets, in the words of Linux's packet log.

use std::fmt::Write;
use std::sync::Arc;

use netstack_wire::ip::Protocol;

use super::rule::LogPrefix;
use super::subject::Subject;
use crate::ip::Transit;

/// Takes the lines that [`Target::Log`](super::Target::Log) writes. It is called on the way of a packet: it should be quick, must
/// not block and must not use the stack.
pub trait FilterLog: Send + Sync {
    /// Takes a line; `level` is syslog(2)'s.
    fn line(&self, level: u8, text: &str);
}

/// Writes a line about a packet, if somebody takes it.
pub(super) fn write(subject: &Subject<'_>, prefix: &LogPrefix) {
    let Some(log) = subject.core.filter.log.read().as_ref().map(Arc::clone) else { return };
    let mut line = prefix.prefix.clone();
    // Writing into a string does not fail.
    let _ = describe(&mut line, subject);
    log.line(prefix.level, line.trim_end());
}

fn describe(line: &mut String, subject: &Subject<'_>) -> std::fmt::Result {
    let transit = &*subject.transit;
    let (input, output) = (subject.input_name(), subject.output_name());
    write!(
        line,
        "IN={} OUT={} ",
        input.as_deref().unwrap_or_default(),
        output.as_deref().unwrap_or_default()
    )?;
    if let Some(mac) = transit.link_source {
        write!(line, "MACSRC={mac} ")?;
    }
    let l3 = transit.l3();
    match transit.is_v4() {
        true => {
            write!(line, "SRC={} DST={} LEN={} ", transit.source, transit.destination, transit.len())?;
            let tos = transit.tos();
            write!(line, "TOS=0x{:02X} PREC=0x{:02X} TTL={} ", tos & 0x1e, tos & 0xe0, transit.ttl())?;
            write!(line, "ID={} ", u16::from_be_bytes([l3[4], l3[5]]))?;
            for (bit, word) in [(0x80, "CE "), (0x40, "DF "), (0x20, "MF ")] {
                line.push_str(if l3[6] & bit != 0 { word } else { "" });
            }
        }
        false => {
            write!(line, "SRC={} DST={} ", transit.source, transit.destination)?;
            let word = u32::from_be_bytes([l3[0], l3[1], l3[2], l3[3]]);
            write!(line, "LEN={} TC={} HOPLIMIT={} ", transit.len(), transit.tos(), transit.ttl())?;
            write!(line, "FLOWLBL={} ", word & 0xf_ffff)?;
        }
    }
    transport(line, transit)?;
    match transit.packet.meta.mark {
        0 => Ok(()),
        mark => write!(line, "MARK=0x{mark:x} "),
    }
}

fn transport(line: &mut String, transit: &Transit) -> std::fmt::Result {
    let header = transit.transport();
    let half = |at: usize| header.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    match transit.protocol {
        Protocol::TCP if header.len() >= 20 => {
            write!(line, "PROTO=TCP SPT={} DPT={} WINDOW={} RES=0x00 ", half(0), half(2), half(14))?;
            for (bit, word) in
                [(0x20, "URG "), (0x10, "ACK "), (8, "PSH "), (4, "RST "), (2, "SYN "), (1, "FIN ")]
            {
                line.push_str(if header[13] & bit != 0 { word } else { "" });
            }
            write!(line, "URGP={} ", half(18))
        }
        Protocol::UDP if header.len() >= 8 => {
            write!(line, "PROTO=UDP SPT={} DPT={} LEN={} ", half(0), half(2), half(4))
        }
        Protocol::ICMP | Protocol::ICMPV6 if header.len() >= 2 => {
            let name = if transit.is_v4() { "ICMP" } else { "ICMPv6" };
            write!(line, "PROTO={name} TYPE={} CODE={} ", header[0], header[1])?;
            match header[0] {
                0 | 8 | 128 | 129 if header.len() >= 8 => write!(line, "ID={} SEQ={} ", half(4), half(6)),
                _ => Ok(()),
            }
        }
        protocol => write!(line, "PROTO={} ", protocol.0),
    }
}
