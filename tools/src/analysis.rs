//! What happened on each TCP connection, judged from the capture alone.

mod connection;
mod half;
mod note;
mod reset;
mod rtt;

use std::collections::HashMap;
use std::time::Duration;

use crate::dissect::Segment;
use crate::flow::Endpoints;

pub(crate) use connection::Connection;
pub(crate) use half::Half;
pub(crate) use note::{Judgement, Note};
pub(crate) use reset::ResetReason;

/// All connections of a capture.
#[derive(Debug, Default)]
pub(crate) struct Analysis {
    /// In the order of their first segment.
    pub(crate) connections: Vec<Connection>,
    by_endpoints: HashMap<Endpoints, usize>,
}

impl Analysis {
    /// Takes the next segment; returns the index of its connection and what is to be said. `is_ce` is whether its IP
    /// header says that there was congestion.
    pub(crate) fn on_segment(
        &mut self,
        time: Duration,
        segment: &Segment,
        is_ce: bool,
    ) -> (usize, Judgement) {
        let known = self.by_endpoints.get(&segment.endpoints).or_else(|| {
            let reversed = segment.endpoints.reversed();
            self.by_endpoints.get(&reversed)
        });
        let (number, is_reuse) = match known.and_then(|&n| Some((n, self.connections.get(n)?))) {
            Some((number, connection)) if !connection.is_reused_by(segment) => (number, false),
            Some(_) => (self.add(time, segment), true),
            None => (self.add(time, segment), false),
        };
        let Some(connection) = self.connections.get_mut(number) else {
            return (number, Judgement::default());
        };
        let mut judgement = connection.on_segment(time, segment);
        if is_reuse {
            judgement.notes.push(Note::PortReuse);
        }
        if is_ce {
            judgement.notes.push(Note::CongestionExperienced);
        }
        connection.count(segment, &judgement);
        (number, judgement)
    }

    fn add(&mut self, time: Duration, segment: &Segment) -> usize {
        let number = self.connections.len();
        // A SYN-ACK comes from the server.
        let is_reply = segment.is_syn && segment.ack.is_some();
        let endpoints = if is_reply { segment.endpoints.reversed() } else { segment.endpoints };
        self.by_endpoints.remove(&endpoints.reversed());
        self.by_endpoints.insert(endpoints, number);
        self.connections.push(Connection::new(endpoints, time));
        number
    }
}

#[cfg(test)]
#[path = "analysis_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "analysis/simulation_tests.rs"]
mod simulation_tests;
