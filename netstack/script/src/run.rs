//! Runs one script with one set of parameters on one backend.

mod calls;
mod packets;
mod trace;

use std::collections::HashMap;
use std::time::Duration;

use self::calls::{Pending, Stream};
use self::trace::seconds;
use crate::backend::{Backend, Setup, SocketId, Tolerance};
use crate::diagnostic::Diagnostic;
use crate::evaluate::{Figures, Variables, duration, evaluate, explain};
use crate::flow::Flows;
use crate::plan::Plan;
use crate::syntax::{
    Action, BackendName, Expr, ExprKind, Place, Script, Statement, StatementKind, When, Why,
};
use crate::value::Value;

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
    let plan = Plan::new(&script.body, params, name)?;
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

    /// Waits for the calls that have not returned, and sees that no packet is left.
    fn finish(&mut self, top: &Place) -> Result<(), Diagnostic> {
        self.wait_for_pending()?;
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
}

/// The port that the peer connects to when the script has bound none.
const DEFAULT_PORT: u16 = 8080;
/// How long `*` waits.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
