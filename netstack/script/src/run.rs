//! Runs one script with one set of parameters on one backend.

use std::collections::HashMap;
use std::time::Duration;

use crate::backend::{Backend, Captured, Reply, Setup, SocketId, Ticket, Tolerance};
use crate::call::{Call, decode};
use crate::diagnostic::Diagnostic;
use crate::evaluate::{Figures, NoFigures, Variables, evaluate, explain};
use crate::flow::{Flows, ports};
use crate::packet::{Body, Direction, Packet, Shown, fill, flags, parse};
use crate::syntax::{
    Action, BackendName, CallSpec, Expr, ExprKind, PacketSpec, Place, Script, Statement, StatementKind, When,
    Why,
};
use crate::value::Value;
use crate::{compare, compose};

/// Makes a backend for a run.
pub type Start<'a> = &'a dyn Fn(&Setup) -> Result<Box<dyn Backend>, String>;

/// Runs `script` with `params` on what `start` makes.
///
/// # Errors
/// Where and how the run differed from the script.
pub fn run(
    script: &Script,
    params: &Variables,
    name: BackendName,
    start: Start<'_>,
) -> Result<(), Diagnostic> {
    let top = Place { file: script.file.display().to_string().into(), line: 1, column: 1 };
    let mut plan = Plan { setup: default_setup(), tolerance: None, vars: params.clone(), name };
    plan.walk(&script.body)?;
    let backend = start(&plan.setup).map_err(|error| Diagnostic::new(&top, error))?;
    let tolerance = match plan.tolerance {
        Some(span) => Tolerance { early: span, late: span, ..backend.tolerance() },
        None => backend.tolerance(),
    };
    let mut run = Run {
        backend,
        flows: Flows::new(plan.setup.local()),
        setup: plan.setup,
        tolerance,
        vars: params.clone(),
        streams: HashMap::new(),
        urgent_bytes: 0,
        pending: Vec::new(),
        previous: Duration::ZERO,
        port: DEFAULT_PORT,
        trace: Vec::new(),
    };
    run.statements(&script.body)?;
    run.finish(&top)
}

/// All deviations that a script explains.
#[must_use]
pub fn deviations(script: &Script) -> Vec<Why> {
    fn walk(statements: &[Statement], out: &mut Vec<Why>) {
        for statement in statements {
            match &statement.kind {
                StatementKind::PerBackend { why, .. } => out.push(why.clone()),
                StatementKind::For(_, _, _, body) => walk(body, out),
                StatementKind::If(_, then, otherwise) => {
                    walk(then, out);
                    walk(otherwise, out);
                }
                _ => {}
            }
        }
    }
    let mut out: Vec<Why> = script.only.iter().map(|(_, why)| why.clone()).collect();
    walk(&script.body, &mut out);
    out
}

fn default_setup() -> Setup {
    Setup { sysctls: Vec::new(), config: Vec::new(), mtu: 1500, is_v6: false }
}

/// Collects the settings of a script before its first event.
struct Plan {
    setup: Setup,
    tolerance: Option<Duration>,
    vars: Variables,
    name: BackendName,
}

impl Plan {
    fn walk(&mut self, statements: &[Statement]) -> Result<(), Diagnostic> {
        for statement in statements {
            self.statement(&statement.kind).map_err(|error| error.with_text(&statement.text))?;
        }
        Ok(())
    }

    fn statement(&mut self, kind: &StatementKind) -> Result<(), Diagnostic> {
        match kind {
            StatementKind::Sysctl(name, value) => {
                let value = self.value(value)?;
                self.setup.sysctls.push((name.clone(), value));
            }
            StatementKind::Config(name, value) => {
                let value = self.value(value)?;
                self.setup.config.push((name.clone(), value));
            }
            StatementKind::Mtu(expr) => match self.value(expr)? {
                Value::Int(mtu) => self.setup.mtu = u32::try_from(mtu).unwrap_or(u32::MAX),
                other => return Err(Diagnostic::new(&expr.place, format!("an MTU is no {}", other.kind()))),
            },
            StatementKind::Family(expr) => match self.value(expr)? {
                Value::Int(4) => self.setup.is_v6 = false,
                Value::Int(6) => self.setup.is_v6 = true,
                other => return Err(Diagnostic::new(&expr.place, format!("there is no family {other}"))),
            },
            StatementKind::Tolerance(expr) => {
                self.tolerance = Some(duration(&self.value(expr)?, &expr.place)?);
            }
            StatementKind::Let(name, expr) => {
                // What depends on events is computed when they happen.
                if let Ok(value) = self.value(expr) {
                    self.vars.insert(name.clone(), value);
                }
            }
            StatementKind::If(condition, then, otherwise) => match self.value(condition) {
                Ok(Value::Bool(true)) => self.walk(then)?,
                Ok(Value::Bool(false)) => self.walk(otherwise)?,
                _ => {}
            },
            StatementKind::PerBackend { linux, netstack, why: _ } => self.walk(match self.name {
                BackendName::Linux => linux,
                BackendName::Netstack => netstack,
            })?,
            StatementKind::For(..) | StatementKind::Event(..) => {}
        }
        Ok(())
    }

    fn value(&self, expr: &Expr) -> Result<Value, Diagnostic> {
        evaluate(expr, &self.vars, &mut NoFigures)
    }
}

/// The state of a run.
pub(crate) struct Run {
    backend: Box<dyn Backend>,
    pub(crate) setup: Setup,
    pub(crate) flows: Flows,
    tolerance: Tolerance,
    pub(crate) vars: Variables,
    /// How far each socket has sent and received.
    streams: HashMap<SocketId, Stream>,
    /// Urgent bytes announced to the stack that a read has not been seen to pass over.
    urgent_bytes: u32,
    pending: Vec<Pending>,
    /// When the event before happened.
    previous: Duration,
    /// The port that was bound last: where the peer connects to.
    pub(crate) port: u16,
    trace: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Stream {
    sent: u32,
    received: u32,
    is_datagram: bool,
}

/// A call that may wait, and when it has to return.
struct Pending {
    ticket: Ticket,
    spec: CallSpec,
    call: Call,
    place: Place,
    text: String,
    earliest: Duration,
    latest: Duration,
}

impl Figures for Box<dyn Backend> {
    fn field(&mut self, socket: SocketId, field: &str) -> Option<Value> {
        self.info(socket, field)
    }

    fn counter(&mut self, name: &str) -> Option<i64> {
        Backend::counter(self.as_mut(), name)
    }
}

impl Run {
    fn statements(&mut self, statements: &[Statement]) -> Result<(), Diagnostic> {
        for statement in statements {
            if let Err(error) = self.statement(statement) {
                return Err(error.with_text(&statement.text));
            }
        }
        Ok(())
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), Diagnostic> {
        match &statement.kind {
            // Done before the start.
            StatementKind::Sysctl(..)
            | StatementKind::Config(..)
            | StatementKind::Mtu(_)
            | StatementKind::Family(_)
            | StatementKind::Tolerance(_) => Ok(()),
            StatementKind::Let(name, expr) => {
                let value = self.value(expr)?;
                self.vars.insert(name.clone(), value);
                Ok(())
            }
            StatementKind::For(name, from, to, body) => {
                let (from, to) = (self.number(from)?, self.number(to)?);
                for index in from..=to {
                    self.vars.insert(name.clone(), Value::Int(index));
                    self.statements(body)?;
                }
                Ok(())
            }
            StatementKind::If(condition, then, otherwise) => match self.value(condition)? {
                Value::Bool(true) => self.statements(then),
                Value::Bool(false) => self.statements(otherwise),
                other => {
                    Err(Diagnostic::new(&condition.place, format!("a condition is no {}", other.kind())))
                }
            },
            StatementKind::PerBackend { linux, netstack, why: _ } => match self.backend.name() {
                BackendName::Linux => self.statements(linux),
                BackendName::Netstack => self.statements(netstack),
            },
            StatementKind::Event(when, action) => self.event(when, action, statement),
        }
    }

    fn event(&mut self, when: &When, action: &Action, statement: &Statement) -> Result<(), Diagnostic> {
        let window = self.window(when, &statement.place)?;
        match action {
            Action::Expect(spec) => self.expect(spec, window),
            Action::ExpectAll(specs) => self.expect_all(specs, window, &statement.place),
            Action::Call(spec) if matches!(when, When::Between(..)) => {
                self.wait_until(window.0)?;
                self.start_call(spec, window.1, statement)
            }
            action => {
                self.wait_until(window.0)?;
                self.now(action, statement)
            }
        }
    }

    /// Does what happens at this very time.
    fn now(&mut self, action: &Action, statement: &Statement) -> Result<(), Diagnostic> {
        match action {
            Action::Inject(spec) => self.inject(spec),
            Action::Silence => match self.take_packet(self.backend.now())? {
                None => Ok(()),
                Some((captured, packet)) => {
                    let message = format!(
                        "expected silence, got a packet at {}: {}",
                        seconds(captured.at),
                        self.show(&packet)
                    );
                    Err(self.traced(Diagnostic::new(&statement.place, message)))
                }
            },
            Action::Ignore => {
                while self.take_packet(self.backend.now())?.is_some() {}
                Ok(())
            }
            Action::Assert(expr) => match self.value(expr)? {
                Value::Bool(true) => Ok(()),
                _ => {
                    let mut notes = Vec::new();
                    explain(expr, &self.vars, &mut self.backend, &mut notes);
                    let mut error = Diagnostic::new(&expr.place, "the assertion does not hold");
                    error.notes = notes;
                    Err(self.traced(error))
                }
            },
            Action::Call(spec) => {
                let call = self.decode(spec, &statement.place)?;
                let reply = self.backend.call(&call);
                self.check_reply(spec, &call, reply, &statement.place)
            }
            Action::Expect(_) | Action::ExpectAll(_) => Ok(()),
        }
    }

    /// The times between which an event has to happen.
    fn window(&mut self, when: &When, place: &Place) -> Result<(Duration, Duration), Diagnostic> {
        let mut absolute = |expr: &Expr, is_relative: bool| {
            let span = duration(&self.value(expr)?, &expr.place)?;
            Ok::<_, Diagnostic>(if is_relative { self.previous + span } else { span })
        };
        let (from, to) = match when {
            When::Now => (self.previous, self.previous),
            When::At(expr) => {
                let at = absolute(expr, false)?;
                (at, at)
            }
            When::After(expr) => {
                let at = absolute(expr, true)?;
                (at, at)
            }
            When::Between(from, from_relative, to, to_relative) => {
                (absolute(from, *from_relative)?, absolute(to, *to_relative)?)
            }
            When::Any => (Duration::ZERO, self.previous + LONGEST_WAIT),
        };
        if to < from {
            return Err(Diagnostic::new(place, "the time range ends before it begins"));
        }
        Ok((from, to))
    }

    /// Lets time pass; on a real clock it may have passed already.
    fn wait_until(&mut self, at: Duration) -> Result<(), Diagnostic> {
        self.backend.advance(at);
        self.previous = at.max(self.backend.now());
        self.collect_finished()
    }

    fn latest(&self, at: Duration) -> Duration {
        let wait = at.saturating_sub(self.previous);
        at + self.tolerance.late + wait * self.tolerance.late_percent / 100
    }

    fn inject(&mut self, spec: &PacketSpec) -> Result<(), Diagnostic> {
        let packet = compose::compose(self, spec)?;
        self.log(&packet, "<", self.backend.now());
        self.urgent_bytes += u32::from(packet.has_urgent());
        self.backend.inject(&crate::packet::build(&packet));
        Ok(())
    }

    fn expect(&mut self, spec: &PacketSpec, window: (Duration, Duration)) -> Result<(), Diagnostic> {
        let latest = self.latest(window.1);
        let Some((captured, packet)) = self.take_packet(latest)? else {
            let error = Diagnostic::new(&spec.place, format!("no packet came until {}", seconds(latest)));
            return Err(self.traced(error));
        };
        let mut wrong = compare::compare(self, spec, &packet)?;
        if captured.at + self.tolerance.early < window.0 {
            wrong.push(format!(
                "it came too early: at {}, expected at {}",
                seconds(captured.at),
                seconds(window.0)
            ));
        }
        if captured.at > latest {
            wrong.push(format!(
                "it came too late: at {}, expected at {}",
                seconds(captured.at),
                seconds(window.1)
            ));
        }
        if !wrong.is_empty() {
            let message = format!("the packet is not the expected one: {}", self.show(&packet));
            let mut error = Diagnostic::new(&spec.place, message);
            error.notes = wrong;
            return Err(self.traced(error));
        }
        self.previous = captured.at;
        Ok(())
    }

    /// Packets in any order.
    fn expect_all(
        &mut self,
        specs: &[PacketSpec],
        window: (Duration, Duration),
        place: &Place,
    ) -> Result<(), Diagnostic> {
        let latest = self.latest(window.1);
        let mut left: Vec<&PacketSpec> = specs.iter().collect();
        while !left.is_empty() {
            let Some((captured, packet)) = self.take_packet(latest)? else {
                let message = format!("{} of {} packets did not come", left.len(), specs.len());
                return Err(self.traced(Diagnostic::new(place, message)));
            };
            let mut found = None;
            for (index, spec) in left.iter().enumerate() {
                if compare::compare(self, spec, &packet)?.is_empty() {
                    found = Some(index);
                    break;
                }
            }
            let Some(index) = found else {
                let message = format!("none of the expected packets: {}", self.show(&packet));
                return Err(self.traced(Diagnostic::new(place, message)));
            };
            left.remove(index);
            self.previous = captured.at;
        }
        Ok(())
    }

    /// Takes the next packet that scripts look at.
    fn take_packet(&mut self, until: Duration) -> Result<Option<(Captured, Packet)>, Diagnostic> {
        while let Some(captured) = self.backend.next_packet(until) {
            let Some(packet) = parse(&captured.bytes) else {
                let place = Place { file: "".into(), line: 0, column: 0 };
                let error = Diagnostic::new(&place, "the stack sent a packet that makes no sense");
                return Err(self.traced(error.note(format!("{:02x?}", captured.bytes))));
            };
            if is_noise(&packet) {
                continue;
            }
            self.log(&packet, ">", captured.at);
            return Ok(Some((captured, packet)));
        }
        Ok(None)
    }

    fn decode(&mut self, spec: &CallSpec, place: &Place) -> Result<Call, Diagnostic> {
        let args: Result<Vec<Value>, Diagnostic> = spec.args.iter().map(|arg| self.value(arg)).collect();
        let streams = &self.streams;
        let data = |socket: SocketId, len: usize| {
            let stream = streams.get(&socket).copied().unwrap_or_default();
            fill(Direction::FromStack, if stream.is_datagram { 0 } else { stream.sent }, len)
        };
        decode(&spec.name, &args?, data).map_err(|message| Diagnostic::new(place, message))
    }

    fn start_call(
        &mut self,
        spec: &CallSpec,
        latest: Duration,
        statement: &Statement,
    ) -> Result<(), Diagnostic> {
        let call = self.decode(spec, &statement.place)?;
        let ticket = self.backend.start(call.clone());
        self.pending.push(Pending {
            ticket,
            spec: spec.clone(),
            call,
            place: statement.place.clone(),
            text: statement.text.to_string(),
            earliest: latest,
            latest: self.latest(latest),
        });
        Ok(())
    }

    /// Looks at the calls that have returned.
    fn collect_finished(&mut self) -> Result<(), Diagnostic> {
        let mut index = 0;
        while index < self.pending.len() {
            let Some((at, reply)) = self.backend.finished(self.pending[index].ticket) else {
                index += 1;
                continue;
            };
            let pending = self.pending.remove(index);
            let is_early = at + self.tolerance.early < pending.earliest;
            if is_early || at > pending.latest {
                let message = format!(
                    "{} returned at {} ({}), expected at {}",
                    pending.spec.name,
                    seconds(at),
                    show_reply(&reply),
                    seconds(pending.earliest)
                );
                return Err(self.traced(Diagnostic::new(&pending.place, message).with_text(&pending.text)));
            }
            self.check_reply(&pending.spec, &pending.call, reply, &pending.place)
                .map_err(|error| error.with_text(&pending.text))?;
        }
        Ok(())
    }

    fn check_reply(
        &mut self,
        spec: &CallSpec,
        call: &Call,
        reply: Reply,
        place: &Place,
    ) -> Result<(), Diagnostic> {
        let value =
            self.settle(call, &reply).map_err(|message| self.traced(Diagnostic::new(place, message)))?;
        if let Some(expected) = &spec.result {
            let expected = self.value(expected)?;
            if !is_same(&expected, &value) {
                let message = format!("{} gave {}, expected {expected}", spec.name, show_reply(&reply));
                return Err(self.traced(Diagnostic::new(place, message)));
            }
        } else if let Reply::Error(error) = &reply {
            let message = format!("{} failed with {error}", spec.name);
            return Err(self.traced(Diagnostic::new(place, message)));
        }
        if let Some(target) = &spec.target {
            self.vars.insert(target.clone(), value);
        }
        Ok(())
    }

    /// Notes what a call has done, checks received bytes, and gives its result as a value.
    fn settle(&mut self, call: &Call, reply: &Reply) -> Result<Value, String> {
        if let (Call::Bind(_, port), Reply::Number(0)) = (call, reply) {
            self.port = *port;
        }
        Ok(match reply {
            Reply::Number(number) => {
                if let Call::Send(socket, _, flags) = call
                    && !flags.oob
                {
                    let stream = self.streams.entry(*socket).or_default();
                    stream.sent = stream.sent.wrapping_add(u32::try_from(*number).unwrap_or(0));
                } else if let Call::Send(socket, ..) | Call::SendTo(socket, ..) = call {
                    let stream = self.streams.entry(*socket).or_default();
                    stream.sent = stream.sent.wrapping_add(u32::try_from(*number).unwrap_or(0));
                }
                Value::Int(*number)
            }
            Reply::Data(data) => {
                if let Call::Recv(socket, _, flags) = call {
                    let stream = self.streams.entry(*socket).or_default();
                    let mut at = if stream.is_datagram { 0 } else { stream.received };
                    if !flags.oob {
                        let mut difference = first_difference(data, at);
                        if difference.is_some() && self.urgent_bytes > 0 {
                            // The urgent byte is not in the stream.
                            self.urgent_bytes -= 1;
                            at = at.wrapping_add(1);
                            difference = first_difference(data, at);
                        }
                        if let Some(bad) = difference {
                            return Err(format!("byte {bad} of the received stream is wrong"));
                        }
                        if !flags.peek {
                            stream.received = at.wrapping_add(u32::try_from(data.len()).unwrap_or(0));
                        }
                    }
                }
                Value::Int(i64::try_from(data.len()).unwrap_or(i64::MAX))
            }
            Reply::Socket(id) => {
                let is_datagram = matches!(call, Call::Socket(crate::call::Protocol::Udp));
                self.streams.insert(*id, Stream { is_datagram, ..Stream::default() });
                Value::Socket(*id)
            }
            Reply::Name(name) | Reply::Error(name) => Value::Name(name.clone()),
        })
    }

    /// Waits for the calls that have not returned, and sees that no packet is left.
    fn finish(&mut self, top: &Place) -> Result<(), Diagnostic> {
        while let Some(latest) = self.pending.iter().map(|pending| pending.latest).max() {
            self.collect_finished()?;
            let Some(pending) = self.pending.first() else { break };
            if self.backend.now() >= latest {
                let message = format!("{} has not returned until {}", pending.spec.name, seconds(latest));
                let error = Diagnostic::new(&pending.place, message).with_text(&pending.text);
                return Err(self.traced(error));
            }
            let step = self.backend.now() + POLL_STEP;
            self.backend.advance(step.min(latest));
        }
        match self.take_packet(self.backend.now())? {
            None => Ok(()),
            Some((captured, packet)) => {
                let message = format!(
                    "the script ends, but a packet was sent at {}: {}",
                    seconds(captured.at),
                    self.show(&packet)
                );
                Err(self.traced(Diagnostic::new(top, message)))
            }
        }
    }

    pub(crate) fn value(&mut self, expr: &Expr) -> Result<Value, Diagnostic> {
        // Counting through a socket or the counters needs what is sent so far to be processed; it is.
        evaluate(expr, &self.vars, &mut self.backend)
    }

    pub(crate) fn number(&mut self, expr: &Expr) -> Result<i64, Diagnostic> {
        match self.value(expr)? {
            Value::Int(number) => Ok(number),
            Value::Name(name) if matches!(expr.kind, ExprKind::Name(_)) => {
                Err(Diagnostic::new(&expr.place, format!("the variable `{name}` is not set")))
            }
            other => Err(Diagnostic::new(&expr.place, format!("expected a number, found {}", other.kind()))),
        }
    }

    /// A number that fits.
    pub(crate) fn fit<T: TryFrom<i64>>(&mut self, expr: &Expr) -> Result<T, Diagnostic> {
        let number = self.number(expr)?;
        T::try_from(number).map_err(|_| Diagnostic::new(&expr.place, format!("{number} is out of range")))
    }

    pub(crate) fn millis(&self) -> u32 {
        // A script runs for minutes at most.
        u32::try_from(self.backend.now().as_millis()).unwrap_or(u32::MAX)
    }

    fn show(&self, packet: &Packet) -> String {
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

    fn log(&mut self, packet: &Packet, direction: &str, at: Duration) {
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

    fn traced(&self, mut error: Diagnostic) -> Diagnostic {
        let skip = self.trace.len().saturating_sub(TRACE_LINES);
        error.notes.push(format!("packets up to {}:", seconds(self.backend.now())));
        error.notes.extend(self.trace[skip..].iter().map(|line| format!("    {line}")));
        error
    }
}

/// Neighbour discovery and group membership, which the kernel does on any device.
fn is_noise(packet: &Packet) -> bool {
    match &packet.body {
        Body::Icmp { kind, .. } if packet.source.is_ipv6() => (130..=137).contains(kind) || *kind == 143,
        // IGMP, and hop-by-hop options in front of MLD.
        Body::Other(protocol) => matches!(protocol, 0 | 2),
        _ => false,
    }
}

fn first_difference(data: &[u8], offset: u32) -> Option<usize> {
    let expected = fill(Direction::FromPeer, offset, data.len());
    data.iter().zip(&expected).position(|(a, b)| a != b)
}

fn is_same(expected: &Value, value: &Value) -> bool {
    match (expected, value) {
        (Value::Name(a), Value::Name(b)) => {
            let sorted = |text: &str| {
                let mut parts: Vec<String> = text.split('|').map(str::to_owned).collect();
                parts.sort_unstable();
                parts
            };
            sorted(a) == sorted(b)
        }
        (Value::Bool(truth), Value::Int(number)) => i64::from(*truth) == *number,
        (Value::Name(name), _) if name == "any" => true,
        (a, b) => a == b || a.as_time().is_some() && a.as_time() == b.as_time(),
    }
}

fn show_reply(reply: &Reply) -> String {
    match reply {
        Reply::Number(number) => number.to_string(),
        Reply::Data(data) => format!("{} bytes", data.len()),
        Reply::Socket(_) => "a socket".to_owned(),
        Reply::Name(name) => name.clone(),
        Reply::Error(error) => format!("the error {error}"),
    }
}

fn duration(value: &Value, place: &Place) -> Result<Duration, Diagnostic> {
    let nanos = value.as_time().and_then(|nanos| u64::try_from(nanos).ok());
    match nanos {
        Some(nanos) => Ok(Duration::from_nanos(nanos)),
        None => Err(Diagnostic::new(place, format!("expected a time, found {}", value.kind()))),
    }
}

fn seconds(at: Duration) -> String {
    format!("{:.6}", at.as_secs_f64())
}

/// The port that the peer connects to when the script has bound none.
const DEFAULT_PORT: u16 = 8080;
/// How long `*` waits.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often a real clock looks at calls that wait.
const POLL_STEP: Duration = Duration::from_millis(5);
/// Packets shown around a failure.
const TRACE_LINES: usize = 16;
