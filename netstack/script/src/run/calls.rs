//! System calls of a run: their arguments, their results, and those that wait.

use std::time::Duration;

use super::Run;
use super::trace::seconds;
use crate::backend::{Reply, SocketId, Ticket};
use crate::call::{Call, Protocol, decode};
use crate::diagnostic::Diagnostic;
use crate::packet::{Direction, fill};
use crate::syntax::{CallSpec, Place, Statement};
use crate::value::Value;

/// How often a real clock looks at calls that wait.
const POLL_STEP: Duration = Duration::from_millis(5);

/// How far a socket has sent and received.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Stream {
    sent: u32,
    received: u32,
    is_datagram: bool,
}

/// A call that may wait, and when it has to return.
pub(super) struct Pending {
    ticket: Ticket,
    spec: CallSpec,
    call: Call,
    place: Place,
    text: String,
    earliest: Duration,
    latest: Duration,
}

impl Run {
    pub(super) fn decode(&mut self, spec: &CallSpec, place: &Place) -> Result<Call, Diagnostic> {
        let args: Result<Vec<Value>, Diagnostic> = spec.args.iter().map(|arg| self.value(arg)).collect();
        let streams = &self.streams;
        let data = |socket: SocketId, len: usize| {
            let stream = streams.get(&socket).copied().unwrap_or_default();
            fill(Direction::FromStack, if stream.is_datagram { 0 } else { stream.sent }, len)
        };
        decode(&spec.name, &args?, data).map_err(|message| Diagnostic::new(place, message))
    }

    pub(super) fn start_call(
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
    pub(super) fn collect_finished(&mut self) -> Result<(), Diagnostic> {
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

    /// Lets time pass until no call waits.
    pub(super) fn wait_for_pending(&mut self) -> Result<(), Diagnostic> {
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
        Ok(())
    }

    pub(super) fn check_reply(
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
                if let Call::Send(socket, ..) | Call::SendTo(socket, ..) = call {
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
                let is_datagram = matches!(call, Call::Socket(Protocol::Udp));
                self.streams.insert(*id, Stream { is_datagram, ..Stream::default() });
                Value::Socket(*id)
            }
            Reply::Name(name) | Reply::Error(name) => Value::Name(name.clone()),
        })
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
