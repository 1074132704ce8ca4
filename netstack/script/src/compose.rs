//! From a packet as a script writes it to the packet that the peer sends.

use crate::diagnostic::Diagnostic;
use crate::flow::Flow;
use crate::packet::{Body, Direction, Packet, Segment, TcpOption, build, fill, flags};
use crate::run::Run;
use crate::syntax::{
    BodySpec, FastOpenSpec, IcmpKind, IcmpSpec, OptionSpec, PacketSpec, TcpSpec, WindowSpec,
};
use crate::value::Value;

/// Makes the packet and notes what it means for its flow.
pub(crate) fn compose(run: &mut Run, spec: &PacketSpec) -> Result<Packet, Diagnostic> {
    let iss = match run.vars.get("peer_isn") {
        Some(Value::Int(iss)) => u32::try_from(*iss).unwrap_or(DEFAULT_PEER_ISN),
        _ => DEFAULT_PEER_ISN,
    };
    let port = match run.vars.get("local_port") {
        Some(Value::Int(port)) => u16::try_from(*port).unwrap_or(run.port),
        _ => run.port,
    };
    let mut flow = run.flows.opened_by_peer(&spec.flow, port, iss).clone();
    let ttl = match &spec.ip.ttl {
        Some(ttl) => run.fit(ttl)?,
        None => 64,
    };
    let tos = match &spec.ip.tos {
        Some(tos) => run.fit(tos)?,
        None => 0,
    };
    let label = match &spec.ip.label {
        Some(label) => run.fit(label)?,
        None => 0,
    };
    let body = match &spec.body {
        BodySpec::Tcp(tcp) => Body::Tcp(segment(run, &mut flow, tcp, spec)?),
        BodySpec::Udp(len) => {
            let len = run.fit(len)?;
            let (source_port, destination_port) = (flow.peer_port, flow.local_port);
            Body::Udp { source_port, destination_port, payload: fill(Direction::FromPeer, 0, len) }
        }
        BodySpec::Icmp(icmp) => error_message(run, &flow, icmp)?,
    };
    if let Some(slot) = run.flows.get_mut(&spec.flow) {
        *slot = flow;
    }
    Ok(Packet {
        source: run.setup.peer(),
        destination: run.setup.local(),
        ecn: spec.ip.ecn.unwrap_or(0),
        tos,
        ttl,
        df: spec.ip.df.unwrap_or(true),
        has_good_checksum: !spec.ip.bad_checksum,
        label,
        ip_options: spec.ip.options.clone(),
        extensions: spec.ip.extensions.clone(),
        body,
    })
}

fn segment(run: &mut Run, flow: &mut Flow, tcp: &TcpSpec, spec: &PacketSpec) -> Result<Segment, Diagnostic> {
    let missing = |what: &str| Diagnostic::new(&spec.place, format!("a packet of the peer needs its {what}"));
    let seq = run.number(tcp.seq.as_ref().ok_or_else(|| missing("sequence number"))?)?;
    let len: usize = match &tcp.len {
        Some(len) => run.fit(len)?,
        None => 0,
    };
    let has_ack = tcp.flags & flags::ACK != 0;
    let ack = match &tcp.ack {
        Some(ack) => flow.local_base().wrapping_add(low32(run.number(ack)?)),
        None if has_ack => return Err(missing("acknowledgment (`ack N`)")),
        None => 0,
    };
    let shift = if tcp.flags & flags::SYN != 0 { 0 } else { flow.peer_window_shift() };
    let window = match &tcp.win {
        Some(WindowSpec::Bytes(win)) => {
            let bytes = run.number(win)?;
            let field =
                u16::try_from(bytes >> shift).ok().filter(|field| i64::from(*field) << shift == bytes);
            field.ok_or_else(|| {
                let message = format!("a window of {bytes} cannot be written with a shift of {shift}");
                Diagnostic::new(&win.place, message)
            })?
        }
        Some(WindowSpec::Raw(win)) => run.fit(win)?,
        Some(WindowSpec::AtLeast(win)) => {
            return Err(Diagnostic::new(&win.place, "a packet of the peer needs an exact window"));
        }
        // Wide open.
        None => u16::MAX >> shift.min(3),
    };
    let urgent = match &tcp.urgent {
        Some(urgent) => run.fit(urgent)?,
        None => 0,
    };
    // The first byte after the SYN is at 0; a SYN's data comes one later than its number says.
    let syn = i64::from(tcp.flags & flags::SYN != 0);
    let payload = match &tcp.data {
        Some(text) => text.bytes().cycle().take(len.max(text.len())).collect(),
        None => fill(Direction::FromPeer, low32(seq + syn - 1), len),
    };
    let options = options(run, flow, tcp)?;
    let segment = Segment {
        source_port: flow.peer_port,
        destination_port: flow.local_port,
        seq: flow.peer_iss.wrapping_add(low32(seq)),
        ack,
        flags: tcp.flags,
        window,
        urgent,
        options,
        payload,
    };
    flow.note_sent_by_peer(&segment);
    Ok(segment)
}

/// The options; without any written, timestamps if they are in use.
fn options(run: &mut Run, flow: &mut Flow, tcp: &TcpSpec) -> Result<Vec<TcpOption>, Diagnostic> {
    let millis = run.millis();
    let automatic = TcpOption::Timestamps(flow.peer_timestamp(millis), flow.last_timestamp());
    let wants_timestamps = flow.has_timestamps() && tcp.flags & (flags::SYN | flags::RST) == 0;
    let specs = tcp.options.as_deref().unwrap_or_default();
    let is_said =
        specs.iter().any(|option| matches!(option, OptionSpec::Timestamps(..) | OptionSpec::NoTimestamps));
    let mut options = Vec::new();
    if wants_timestamps && !is_said {
        options.extend([TcpOption::Nop, TcpOption::Nop, automatic.clone()]);
    }
    for spec in specs {
        options.push(match spec {
            OptionSpec::Any | OptionSpec::NoTimestamps => continue,
            OptionSpec::Mss(mss) => TcpOption::Mss(match mss {
                Some(mss) => run.fit(mss)?,
                None => 1460,
            }),
            OptionSpec::WindowScale(shift) => TcpOption::WindowScale(match shift {
                Some(shift) => run.fit(shift)?,
                None => 7,
            }),
            OptionSpec::SackPermitted => TcpOption::SackPermitted,
            OptionSpec::Sack(blocks) => {
                let base = flow.local_base();
                let mut out = Vec::new();
                for (start, end) in blocks {
                    let (start, end) = (low32(run.number(start)?), low32(run.number(end)?));
                    out.push((base.wrapping_add(start), base.wrapping_add(end)));
                }
                TcpOption::Sack(out)
            }
            OptionSpec::Timestamps(value, echo) => {
                let value = match value {
                    Some(value) => {
                        let value = low32(run.number(value)?);
                        flow.set_peer_timestamp(value, millis);
                        value
                    }
                    None => flow.peer_timestamp(millis),
                };
                let echo = match echo {
                    Some(echo) => match low32(run.number(echo)?) {
                        // A SYN echoes nothing.
                        0 if tcp.flags & flags::ACK == 0 => 0,
                        echo => flow.absolute_timestamp(echo),
                    },
                    None => flow.last_timestamp(),
                };
                TcpOption::Timestamps(value, echo)
            }
            OptionSpec::Nop => TcpOption::Nop,
            OptionSpec::End => TcpOption::End,
            OptionSpec::FastOpen(FastOpenSpec::Bytes(bytes)) => TcpOption::FastOpen(bytes.clone()),
            OptionSpec::FastOpen(FastOpenSpec::Learnt | FastOpenSpec::Any) => {
                TcpOption::FastOpen(run.flows.cookie())
            }
            OptionSpec::FastOpen(FastOpenSpec::Request) => TcpOption::FastOpen(Vec::new()),
            OptionSpec::Other(kind, body) => TcpOption::Other(run.fit(kind)?, body.clone()),
        });
    }
    Ok(options)
}

/// An ICMP error about a packet that the stack has sent.
fn error_message(run: &mut Run, flow: &Flow, icmp: &IcmpSpec) -> Result<Body, Diagnostic> {
    let mtu: u32 = match &icmp.mtu {
        Some(mtu) => run.fit(mtu)?,
        None => 0,
    };
    let body = match &icmp.quoted_seq {
        Some(seq) => Body::Tcp(Segment {
            source_port: flow.local_port,
            destination_port: flow.peer_port,
            seq: flow.local_base().wrapping_add(low32(run.number(seq)?)),
            flags: flags::ACK,
            ..Segment::default()
        }),
        None => {
            Body::Udp { source_port: flow.local_port, destination_port: flow.peer_port, payload: Vec::new() }
        }
    };
    let quoted = build(&Packet {
        source: run.setup.local(),
        destination: run.setup.peer(),
        ecn: 0,
        tos: 0,
        ttl: 60,
        df: true,
        has_good_checksum: true,
        label: 0,
        ip_options: Vec::new(),
        extensions: Vec::new(),
        body,
    });
    let (kind, code) = number_of(icmp.kind, run.setup.is_v6);
    Ok(Body::Icmp { kind, code, rest: mtu, quoted })
}

/// RFC 792, RFC 1191, RFC 4443: type and code.
fn number_of(kind: IcmpKind, is_v6: bool) -> (u8, u8) {
    match (kind, is_v6) {
        (IcmpKind::Net, false) => (3, 0),
        (IcmpKind::Host, false) => (3, 1),
        (IcmpKind::Protocol, false) => (3, 2),
        (IcmpKind::Port, false) => (3, 3),
        (IcmpKind::FragmentationNeeded, false) => (3, 4),
        (IcmpKind::Prohibited, false) => (3, 13),
        (IcmpKind::TimeExceeded, false) => (11, 0),
        (IcmpKind::SourceQuench, _) => (4, 0),
        (IcmpKind::Net, true) => (1, 0),
        (IcmpKind::Prohibited, true) => (1, 1),
        (IcmpKind::Host, true) => (1, 3),
        (IcmpKind::Port, true) => (1, 4),
        (IcmpKind::FragmentationNeeded, true) => (2, 0),
        (IcmpKind::TimeExceeded, true) => (3, 0),
        // Parameter problem: unrecognized next header.
        (IcmpKind::Protocol, true) => (4, 1),
    }
}

/// Sequence numbers wrap around.
pub(crate) fn low32(number: i64) -> u32 {
    // The low half.
    (number & 0xffff_ffff) as u32
}

/// Unlike zero, it shows when somebody forgets to add it.
const DEFAULT_PEER_ISN: u32 = 0x1000_0000;
