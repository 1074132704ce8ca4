//! Whether a packet of the stack is the one that a script expects.

use crate::compose::low32;
use crate::diagnostic::Diagnostic;
use crate::flow::{Flow, ports};
use crate::packet::{Body, Direction, Packet, Segment, TcpOption, fill, flags};
use crate::run::Run;
use crate::syntax::{BodySpec, FastOpenSpec, IcmpKind, OptionSpec, PacketSpec, TcpSpec, WindowSpec};

/// Lists what is different; empty if nothing is. Learns the flow's numbers from SYNs.
pub(crate) fn compare(run: &mut Run, spec: &PacketSpec, packet: &Packet) -> Result<Vec<String>, Diagnostic> {
    let mut wrong = Vec::new();
    if packet.destination != run.setup.peer() {
        wrong.push(format!("it goes to {}, expected {}", packet.destination, run.setup.peer()));
    }
    if !packet.has_good_checksum {
        wrong.push("its checksum is wrong".to_owned());
    }
    compare_ip(run, spec, packet, &mut wrong)?;
    match (&spec.body, &packet.body) {
        (BodySpec::Tcp(expected), Body::Tcp(segment)) => {
            learn_flow(run, spec, packet, segment);
            match flow_of(run, spec, packet) {
                Ok(mut flow) => {
                    if wrong.is_empty() && expected.flags & flags::SYN == segment.flags & flags::SYN {
                        flow.note_sent_by_stack(segment);
                    }
                    compare_segment(run, &flow, expected, segment, &mut wrong)?;
                    if let Some(slot) = run.flows.get_mut(&spec.flow) {
                        *slot = flow;
                    }
                }
                Err(message) => wrong.push(message),
            }
        }
        (BodySpec::Udp(len), Body::Udp { payload, source_port, destination_port }) => {
            if run.flows.of(packet).is_none() && run.flows.get(&spec.flow).is_none() {
                run.flows.opened_by_stack(&spec.flow, *source_port, *destination_port, 0);
            }
            if let Err(message) = flow_of(run, spec, packet) {
                wrong.push(message);
            }
            let len: usize = run.fit(len)?;
            if payload.len() != len {
                wrong.push(format!("it carries {} bytes, expected {len}", payload.len()));
            }
            if *payload != fill(Direction::FromStack, 0, payload.len()) {
                wrong.push("its payload is wrong".to_owned());
            }
        }
        (BodySpec::Icmp(expected), Body::Icmp { kind, code, .. }) => {
            if icmp_kind(*kind, *code, packet.source.is_ipv6()) != Some(expected.kind) {
                wrong.push(format!("it has type {kind} and code {code}, expected {:?}", expected.kind));
            }
        }
        _ => wrong.push("it is of another protocol".to_owned()),
    }
    Ok(wrong)
}

fn compare_ip(
    run: &mut Run,
    spec: &PacketSpec,
    packet: &Packet,
    wrong: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let ip = &spec.ip;
    if let Some(ecn) = ip.ecn
        && ecn != packet.ecn
    {
        let names = ["noecn", "ect1", "ect0", "ce"];
        let name = |ecn: u8| names.get(usize::from(ecn)).copied().unwrap_or("?");
        wrong.push(format!("its ECN field is {}, expected {}", name(packet.ecn), name(ecn)));
    }
    if let Some(df) = ip.df
        && df != packet.df
    {
        wrong.push(format!("\"don't fragment\" is {}, expected {df}", packet.df));
    }
    if packet.ip_options != ip.options {
        wrong.push(format!("its IP options are {:02x?}, expected {:02x?}", packet.ip_options, ip.options));
    }
    if packet.extensions != ip.extensions {
        wrong.push(format!(
            "its extension headers are {:02x?}, expected {:02x?}",
            packet.extensions, ip.extensions
        ));
    }
    if let Some(label) = &ip.label {
        let expected = low32(run.number(label)?);
        if packet.label != expected {
            wrong.push(format!("its flow label is {:#x}, expected {expected:#x}", packet.label));
        }
    }
    for (name, expr, value) in [("TTL", &ip.ttl, packet.ttl), ("TOS", &ip.tos, packet.tos)] {
        if let Some(expr) = expr {
            let expected: u8 = run.fit(expr)?;
            if expected != value {
                wrong.push(format!("its {name} is {value}, expected {expected}"));
            }
        }
    }
    Ok(())
}

/// A SYN of a flow that the script has not named yet tells its ports.
fn learn_flow(run: &mut Run, spec: &PacketSpec, packet: &Packet, segment: &Segment) {
    let is_opening = segment.flags & (flags::SYN | flags::ACK) == flags::SYN;
    if is_opening && run.flows.of(packet).is_none() {
        let peer_iss = match run.vars.get("peer_isn") {
            Some(crate::value::Value::Int(iss)) => low32(*iss),
            _ => 0x1000_0000,
        };
        run.flows.opened_by_stack(&spec.flow, segment.source_port, segment.destination_port, peer_iss);
    }
}

fn flow_of(run: &Run, spec: &PacketSpec, packet: &Packet) -> Result<Flow, String> {
    let name = |label: &str| {
        if label.is_empty() { "the main flow".to_owned() } else { format!("flow `{label}`") }
    };
    match run.flows.of(packet) {
        Some(flow) if flow.label == spec.flow => Ok(flow.clone()),
        Some(flow) => Err(format!("it belongs to {}, expected {}", name(&flow.label), name(&spec.flow))),
        None => Err(format!("its ports {:?} belong to no flow of the script", ports(packet))),
    }
}

fn compare_segment(
    run: &mut Run,
    flow: &Flow,
    spec: &TcpSpec,
    segment: &Segment,
    wrong: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    // PSH depends on how the data was cut; it counts only where the script writes it.
    let mask = if spec.flags & flags::PSH == 0 && !segment.payload.is_empty() { !flags::PSH } else { !0 };
    if spec.flags & mask != segment.flags & mask {
        let (got, expected) = (flags::show(segment.flags), flags::show(spec.flags));
        wrong.push(format!("its flags are {got}, expected {expected}"));
    }
    let seq = segment.seq.wrapping_sub(flow.local_base());
    if let Some(expr) = &spec.seq {
        let expected = low32(run.number(expr)?);
        if seq != expected {
            wrong.push(format!("its sequence number is {seq}, expected {expected}"));
        }
    }
    let len = segment.payload.len();
    let expected_len = match &spec.len {
        Some(len) => run.fit(len)?,
        None => 0,
    };
    if (spec.seq.is_some() || spec.len.is_some()) && len != expected_len {
        wrong.push(format!("it carries {len} bytes, expected {expected_len}"));
    }
    if let Some(expr) = &spec.ack {
        let (ack, expected) = (segment.ack.wrapping_sub(flow.peer_iss), low32(run.number(expr)?));
        if ack != expected {
            wrong.push(format!("it acknowledges {ack}, expected {expected}"));
        }
    }
    compare_window(run, flow, spec, segment, wrong)?;
    if let Some(expr) = &spec.urgent {
        let expected: u16 = run.fit(expr)?;
        if segment.urgent != expected {
            wrong.push(format!("its urgent pointer is {}, expected {expected}", segment.urgent));
        }
    }
    let syn = u32::from(segment.has(flags::SYN));
    if spec.data.is_none()
        && segment.payload != fill(Direction::FromStack, seq.wrapping_add(syn).wrapping_sub(1), len)
    {
        wrong.push("its payload is not what was sent there".to_owned());
    }
    compare_options(run, flow, spec, segment, wrong)
}

fn compare_window(
    run: &mut Run,
    flow: &Flow,
    spec: &TcpSpec,
    segment: &Segment,
    wrong: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let shift = if segment.has(flags::SYN) { 0 } else { flow.local_window_shift() };
    let bytes = i64::from(segment.window) << shift;
    match &spec.win {
        None => {}
        Some(WindowSpec::Bytes(expr)) => {
            let expected = run.number(expr)?;
            // What the scale cannot express is rounded.
            if bytes != expected && (bytes - expected).abs() >= 1 << shift {
                wrong.push(format!("its window is {bytes}, expected {expected}"));
            }
        }
        Some(WindowSpec::Raw(expr)) => {
            let expected: u16 = run.fit(expr)?;
            if segment.window != expected {
                wrong.push(format!("its window field is {}, expected {expected}", segment.window));
            }
        }
        Some(WindowSpec::AtLeast(expr)) => {
            let least = run.number(expr)?;
            if bytes < least {
                wrong.push(format!("its window is {bytes}, expected at least {least}"));
            }
        }
    }
    Ok(())
}

/// Options in their order; padding does not count. Without any written, a segment has timestamps if they are in use,
/// and nothing else.
fn compare_options(
    run: &mut Run,
    flow: &Flow,
    spec: &TcpSpec,
    segment: &Segment,
    wrong: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let is_padding = |option: &TcpOption| matches!(option, TcpOption::Nop | TcpOption::End);
    let mut got: Vec<&TcpOption> = segment.options.iter().filter(|option| !is_padding(option)).collect();
    let is_syn = segment.has(flags::SYN);
    let Some(specs) = &spec.options else {
        if is_syn || segment.has(flags::RST) {
            return Ok(());
        }
        let has_timestamps = segment.timestamps().is_some();
        if has_timestamps != flow.has_timestamps() {
            let verb = if has_timestamps { "carries" } else { "lacks" };
            wrong.push(format!("it {verb} timestamps"));
        }
        if got.iter().any(|option| !matches!(option, TcpOption::Timestamps(..))) {
            wrong.push("it carries options that are not expected".to_owned());
        }
        return Ok(());
    };
    let is_said = |option: &OptionSpec| matches!(option, OptionSpec::Timestamps(..) | OptionSpec::Any);
    if !is_syn && flow.has_timestamps() && !specs.iter().any(is_said) {
        got.retain(|option| !matches!(option, TcpOption::Timestamps(..)));
    }
    let mut got = got.into_iter();
    for option in specs {
        match option {
            OptionSpec::Any => return Ok(()),
            OptionSpec::Nop | OptionSpec::End | OptionSpec::NoTimestamps => continue,
            _ => {}
        }
        let Some(found) = got.next() else {
            wrong.push(format!("an option is missing: {option:?}"));
            return Ok(());
        };
        if !is_option(run, flow, option, found)? {
            wrong.push(format!("an option is {found:?}, which is not the one expected there"));
        }
    }
    for extra in got {
        wrong.push(format!("there is another option: {extra:?}"));
    }
    Ok(())
}

fn is_option(run: &mut Run, flow: &Flow, spec: &OptionSpec, option: &TcpOption) -> Result<bool, Diagnostic> {
    let mut is = |expr: &Option<crate::syntax::Expr>, value: u32| match expr {
        Some(expr) => Ok::<_, Diagnostic>(low32(run.number(expr)?) == value),
        None => Ok(true),
    };
    Ok(match (spec, option) {
        (OptionSpec::Mss(expected), TcpOption::Mss(mss)) => is(expected, u32::from(*mss))?,
        (OptionSpec::WindowScale(expected), TcpOption::WindowScale(shift)) => {
            is(expected, u32::from(*shift))?
        }
        (OptionSpec::SackPermitted, TcpOption::SackPermitted) => true,
        (OptionSpec::Timestamps(value, echo), TcpOption::Timestamps(got_value, got_echo)) => {
            is(value, flow.relative_timestamp(*got_value))? && is(echo, *got_echo)?
        }
        (OptionSpec::Sack(expected), TcpOption::Sack(blocks)) => {
            let mut is_equal = expected.len() == blocks.len();
            for ((start, end), (got_start, got_end)) in expected.iter().zip(blocks) {
                let base = flow.peer_iss;
                is_equal &= low32(run.number(start)?) == got_start.wrapping_sub(base)
                    && low32(run.number(end)?) == got_end.wrapping_sub(base);
            }
            is_equal
        }
        (OptionSpec::FastOpen(expected), TcpOption::FastOpen(cookie)) => match expected {
            FastOpenSpec::Request => cookie.is_empty(),
            FastOpenSpec::Any => !cookie.is_empty(),
            FastOpenSpec::Learnt => *cookie == run.flows.cookie(),
            FastOpenSpec::Bytes(bytes) => cookie == bytes,
        },
        (OptionSpec::Other(kind, body), TcpOption::Other(got_kind, got_body)) => {
            low32(run.number(kind)?) == u32::from(*got_kind) && (body.is_empty() || body == got_body)
        }
        _ => false,
    })
}

fn icmp_kind(kind: u8, code: u8, is_v6: bool) -> Option<IcmpKind> {
    match (kind, code, is_v6) {
        (3, 0, false) | (1, 0, true) => Some(IcmpKind::Net),
        (3, 1, false) | (1, 3, true) => Some(IcmpKind::Host),
        (3, 2, false) | (4, 1, true) => Some(IcmpKind::Protocol),
        (3, 3, false) | (1, 4, true) => Some(IcmpKind::Port),
        (3, 4, false) | (2, 0, true) => Some(IcmpKind::FragmentationNeeded),
        (3, 13, false) | (1, 1, true) => Some(IcmpKind::Prohibited),
        (11, 0, false) | (3, 0, true) => Some(IcmpKind::TimeExceeded),
        _ => None,
    }
}
