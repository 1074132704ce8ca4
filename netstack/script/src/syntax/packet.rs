//! Packets as scripts write them: `[ect0] P. 1:1001(1000) ack 1 win 65535 <ts 100 0>`.

use crate::diagnostic::Diagnostic;
use crate::packet::flags;
use crate::syntax::cursor::Cursor;
use crate::syntax::expression::{expression, sum, unary};
use crate::syntax::{
    BodySpec, Expr, ExprKind, FastOpenSpec, IcmpKind, IcmpSpec, IpSpec, Operator, OptionSpec, PacketSpec,
    TcpSpec, WindowSpec,
};
use crate::value::bytes_of;

/// Reads a packet after its `<` or `>`.
pub(super) fn packet(cursor: &mut Cursor<'_>) -> Result<PacketSpec, Diagnostic> {
    cursor.skip_blanks();
    let place = cursor.place();
    let flow = flow_label(cursor);
    let ip = ip(cursor)?;
    let body = if cursor.take_word("udp") {
        BodySpec::Udp(sum(cursor)?)
    } else if cursor.take_word("icmp") {
        BodySpec::Icmp(Box::new(icmp(cursor)?))
    } else {
        BodySpec::Tcp(Box::new(tcp(cursor)?))
    };
    Ok(PacketSpec { place, flow, ip, body })
}

/// `name:`, if it is there.
fn flow_label(cursor: &mut Cursor<'_>) -> String {
    let mark = cursor.mark();
    if let Some(name) = cursor.take_name()
        && cursor.take_adjacent(":")
    {
        return name.to_owned();
    }
    cursor.go_back(mark);
    String::new()
}

fn ip(cursor: &mut Cursor<'_>) -> Result<IpSpec, Diagnostic> {
    let mut ip = IpSpec::default();
    if !cursor.take("[") {
        return Ok(ip);
    }
    loop {
        match cursor
            .need_name("ect0, ect1, ce, noecn, ttl, tos, df, nodf, badsum, label, opts, hop, route or dst")?
        {
            "noecn" => ip.ecn = Some(0),
            "ect1" => ip.ecn = Some(1),
            "ect0" => ip.ecn = Some(2),
            "ce" => ip.ecn = Some(3),
            "ttl" => ip.ttl = Some(sum(cursor)?),
            "tos" => ip.tos = Some(sum(cursor)?),
            "df" => ip.df = Some(true),
            "nodf" => ip.df = Some(false),
            "badsum" => ip.bad_checksum = true,
            "label" => ip.label = Some(sum(cursor)?),
            "opts" => {
                ip.options = hex(cursor)?.unwrap_or_default();
                if ip.options.is_empty() || ip.options.len() > 40 || !ip.options.len().is_multiple_of(4) {
                    return cursor.error("IP options are 4 to 40 bytes in whole words");
                }
            }
            "hop" => ip.extensions.push((0, extension(cursor)?)),
            "route" => ip.extensions.push((43, extension(cursor)?)),
            "dst" => ip.extensions.push((60, extension(cursor)?)),
            other => return cursor.error(format!("unknown IP property `{other}`")),
        }
        if !cursor.take(",") {
            break;
        }
    }
    cursor.need("]")?;
    Ok(ip)
}

/// An extension header of IPv6 without its first two bytes.
fn extension(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Diagnostic> {
    let body = hex(cursor)?.unwrap_or_default();
    if body.len() % 8 != 6 {
        return cursor
            .error("an extension header is 6, 14, 22, ... bytes long after its next header and length");
    }
    Ok(body)
}

fn tcp(cursor: &mut Cursor<'_>) -> Result<TcpSpec, Diagnostic> {
    cursor.skip_blanks();
    let mark = cursor.mark();
    let letters = cursor.take_while(|c| !c.is_whitespace());
    let Some(flags) = flags::parse(letters) else {
        cursor.go_back(mark);
        return cursor.expected("TCP flags (S F R P . U E W, or `-` for none), `udp` or `icmp`");
    };
    let mut tcp = TcpSpec {
        flags,
        seq: None,
        len: None,
        ack: None,
        win: None,
        urgent: None,
        options: None,
        data: None,
    };
    cursor.skip_blanks();
    if cursor.peek().is_some_and(|c| c.is_ascii_digit() || c == '(' || c == '-') || is_sequence(cursor) {
        sequence(cursor, &mut tcp)?;
    }
    loop {
        if cursor.take_word("ack") {
            tcp.ack = Some(sum(cursor)?);
        } else if cursor.take_word("win") {
            tcp.win = window(cursor)?;
        } else if cursor.take_word("rawwin") {
            tcp.win = Some(WindowSpec::Raw(sum(cursor)?));
        } else if cursor.take_word("urg") {
            tcp.urgent = Some(sum(cursor)?);
        } else if cursor.take_word("data") {
            tcp.data = Some(cursor.need_string()?);
        } else if cursor.take("<") {
            tcp.options = Some(options(cursor)?);
        } else {
            return Ok(tcp);
        }
    }
}

/// Whether a sequence number that begins with a variable is next.
fn is_sequence(cursor: &mut Cursor<'_>) -> bool {
    let mark = cursor.mark();
    let name = cursor.take_name();
    cursor.go_back(mark);
    name.is_some_and(|name| !["ack", "win", "rawwin", "urg", "data"].contains(&name))
}

fn window(cursor: &mut Cursor<'_>) -> Result<Option<WindowSpec>, Diagnostic> {
    if cursor.take("*") {
        return Ok(None);
    }
    if cursor.take(">=") {
        return Ok(Some(WindowSpec::AtLeast(sum(cursor)?)));
    }
    Ok(Some(WindowSpec::Bytes(sum(cursor)?)))
}

/// `1:1001(1000)`, `1(1000)` or `1`.
fn sequence(cursor: &mut Cursor<'_>, tcp: &mut TcpSpec) -> Result<(), Diagnostic> {
    let (start, len) = sequence_start(cursor)?;
    if let Some(len) = len {
        (tcp.seq, tcp.len) = (Some(start), Some(len));
        return Ok(());
    }
    if !cursor.take_adjacent(":") {
        tcp.seq = Some(start);
        return Ok(());
    }
    let place = cursor.place();
    let (end, len) = sequence_start(cursor)?;
    let written = match len {
        Some(len) => len,
        None => {
            cursor.need("(")?;
            let len = expression(cursor)?;
            cursor.need(")")?;
            len
        }
    };
    // The length has to be the difference; the run checks it, as both may depend on variables.
    let difference = ExprKind::Binary(Box::new(end), Operator::Subtract, Box::new(start.clone()));
    let difference = Expr { place: place.clone(), kind: difference };
    let len = ExprKind::Function("same".to_owned(), vec![written, difference]);
    (tcp.seq, tcp.len) = (Some(start), Some(Expr { place, kind: len }));
    Ok(())
}

/// A sum, with `(len)` after it taken for itself even after a variable (`next(1000)` is no function here).
fn sequence_start(cursor: &mut Cursor<'_>) -> Result<(Expr, Option<Expr>), Diagnostic> {
    let expr = sum(cursor)?;
    let mut len = None;
    let expr = split_call(expr, &mut len);
    if len.is_none() && cursor.take_adjacent("(") {
        len = Some(expression(cursor)?);
        cursor.need(")")?;
    }
    Ok((expr, len))
}

/// Turns `a + b(len)` into `a + b` and `len`.
fn split_call(expr: Expr, len: &mut Option<Expr>) -> Expr {
    let Expr { place, kind } = expr;
    let kind = match kind {
        ExprKind::Function(name, mut args) if args.len() == 1 => {
            *len = args.pop();
            ExprKind::Name(name)
        }
        ExprKind::Binary(left, operator, right) => {
            ExprKind::Binary(left, operator, Box::new(split_call(*right, len)))
        }
        other => other,
    };
    Expr { place, kind }
}

fn options(cursor: &mut Cursor<'_>) -> Result<Vec<OptionSpec>, Diagnostic> {
    let mut options = Vec::new();
    if cursor.take(">") {
        return Ok(options);
    }
    loop {
        options.push(option(cursor)?);
        if !cursor.take(",") {
            break;
        }
    }
    cursor.need(">")?;
    Ok(options)
}

fn option(cursor: &mut Cursor<'_>) -> Result<OptionSpec, Diagnostic> {
    if cursor.take("*") {
        return Ok(OptionSpec::Any);
    }
    let name = cursor.need_name("a TCP option (mss, wscale, sackOK, sack, ts, nots, nop, eol, fo, kind)")?;
    Ok(match name {
        "mss" => OptionSpec::Mss(or_any(cursor)?),
        "wscale" => OptionSpec::WindowScale(or_any(cursor)?),
        "sackOK" => OptionSpec::SackPermitted,
        "nop" => OptionSpec::Nop,
        "eol" => OptionSpec::End,
        "nots" => OptionSpec::NoTimestamps,
        "ts" => timestamps(cursor)?,
        "sack" => {
            let mut blocks = Vec::new();
            while cursor.take("") && cursor.peek().is_some_and(|c| c.is_alphanumeric() || c == '(') {
                let start = sum(cursor)?;
                cursor.need(":")?;
                blocks.push((start, sum(cursor)?));
            }
            OptionSpec::Sack(blocks)
        }
        "fo" => OptionSpec::FastOpen(fast_open(cursor)?),
        "kind" => {
            let kind = sum(cursor)?;
            OptionSpec::Other(kind, hex(cursor)?.unwrap_or_default())
        }
        other => return cursor.error(format!("unknown TCP option `{other}`")),
    })
}

fn or_any(cursor: &mut Cursor<'_>) -> Result<Option<Expr>, Diagnostic> {
    if cursor.take("*") { Ok(None) } else { unary(cursor).map(Some) }
}

fn timestamps(cursor: &mut Cursor<'_>) -> Result<OptionSpec, Diagnostic> {
    cursor.skip_blanks();
    if matches!(cursor.peek(), Some(',' | '>')) {
        return Ok(OptionSpec::Timestamps(None, None));
    }
    let value = or_any(cursor)?;
    cursor.skip_blanks();
    let echo = if matches!(cursor.peek(), Some(',' | '>')) { None } else { or_any(cursor)? };
    Ok(OptionSpec::Timestamps(value, echo))
}

fn fast_open(cursor: &mut Cursor<'_>) -> Result<FastOpenSpec, Diagnostic> {
    if cursor.take("*") {
        return Ok(FastOpenSpec::Any);
    }
    if cursor.take_word("cookie") {
        return Ok(FastOpenSpec::Learnt);
    }
    Ok(hex(cursor)?.map_or(FastOpenSpec::Request, FastOpenSpec::Bytes))
}

fn hex(cursor: &mut Cursor<'_>) -> Result<Option<Vec<u8>>, Diagnostic> {
    cursor.skip_blanks();
    let digits = cursor.take_while(|c| c.is_ascii_hexdigit());
    if digits.is_empty() {
        return Ok(None);
    }
    match bytes_of(digits) {
        Some(bytes) => Ok(Some(bytes)),
        None => cursor.error("an even number of hexadecimal digits is needed"),
    }
}

fn icmp(cursor: &mut Cursor<'_>) -> Result<IcmpSpec, Diagnostic> {
    let name = cursor.need_name("the name of an ICMP error")?;
    let kind = match name {
        "net_unreachable" => IcmpKind::Net,
        "host_unreachable" => IcmpKind::Host,
        "protocol_unreachable" => IcmpKind::Protocol,
        "port_unreachable" => IcmpKind::Port,
        "frag_needed" => IcmpKind::FragmentationNeeded,
        "prohibited" => IcmpKind::Prohibited,
        "time_exceeded" => IcmpKind::TimeExceeded,
        "source_quench" => IcmpKind::SourceQuench,
        other => return cursor.error(format!("unknown ICMP error `{other}`")),
    };
    let mut icmp = IcmpSpec { kind, mtu: None, quoted_seq: None };
    loop {
        if cursor.take_word("mtu") {
            icmp.mtu = Some(sum(cursor)?);
        } else if cursor.take_word("seq") {
            icmp.quoted_seq = Some(sum(cursor)?);
        } else {
            return Ok(icmp);
        }
    }
}
