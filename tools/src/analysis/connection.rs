//! One TCP connection: two directions that are judged with regard to each other.

use std::time::Duration;

use netstack_wire::seq::SeqNum;

use super::half::{self, Half};
use super::note::{Judgement, Note};
use super::reset::{Before, Evidence, ResetReason};
use crate::dissect::Segment;
use crate::flow::Endpoints;

/// One TCP connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// From the side that sent the first segment (the SYN, if it was captured).
    pub(crate) endpoints: Endpoints,
    pub(crate) first: Duration,
    pub(crate) last: Duration,
    pub(crate) reset: Option<ResetReason>,
    pub(crate) from_client: Half,
    pub(crate) from_server: Half,
    /// From the SYN to the acknowledgement of the SYN-ACK: a whole round trip wherever it was captured.
    pub(crate) handshake: Option<Duration>,
}

impl Connection {
    pub(super) fn new(endpoints: Endpoints, first: Duration) -> Self {
        Self {
            endpoints,
            first,
            last: first,
            reset: None,
            from_client: Half::default(),
            from_server: Half::default(),
            handshake: None,
        }
    }

    /// How it ended, in a word.
    pub(crate) fn end(&self) -> &'static str {
        match (self.reset, self.from_client.is_finished && self.from_server.is_finished) {
            (Some(_), _) => "reset",
            (None, true) => "closed",
            (None, false) => "open",
        }
    }

    /// Whether the segment is a SYN that opens another connection between the same ports.
    pub(super) fn is_reused_by(&self, segment: &Segment) -> bool {
        let done = self.reset.is_some() || (self.from_client.is_finished && self.from_server.is_finished);
        segment.is_syn && segment.ack.is_none() && done
    }

    pub(super) fn on_segment(&mut self, time: Duration, segment: &Segment) -> Judgement {
        self.last = time;
        let handshake = self.handshake;
        let is_from_client = segment.endpoints == self.endpoints;
        let (sender, receiver) = if is_from_client {
            (&mut self.from_client, &mut self.from_server)
        } else {
            (&mut self.from_server, &mut self.from_client)
        };
        let mut judgement = Judgement::default();
        if segment.is_rst {
            let reason = ResetReason::judge(&evidence(sender, receiver, handshake.is_some()));
            judgement.notes.push(Note::Reset);
            judgement.reset = Some(reason);
            self.reset.get_or_insert(reason);
        }
        // What the acknowledgement repeats is judged before the segment becomes the latest of its sender.
        sender.judge_pure_ack(segment, receiver, &mut judgement);
        sender.on_sent(time, segment, receiver, handshake, &mut judgement);
        sender.on_ack_sent(time, segment);
        if let Some(ack) = segment.ack {
            receiver.on_acked(time, SeqNum(ack), &mut judgement);
        }
        if half::is_duplicate_sack(segment) {
            judgement.notes.push(Note::DuplicateSack);
        }
        note_ecn(segment, &mut judgement);
        judgement.window = sender.window().and_then(|w| u32::try_from(w).ok());
        if is_from_client && self.handshake.is_none() && segment.ack.is_some() && !segment.is_rst {
            let is_third = self.from_client.has_syn && self.from_server.has_syn;
            self.handshake = is_third.then(|| time.saturating_sub(self.first));
        }
        judgement
    }

    /// Adds the notes to the figures of the segment's direction.
    pub(super) fn count(&mut self, segment: &Segment, judgement: &Judgement) {
        let is_from_client = segment.endpoints == self.endpoints;
        let half = if is_from_client { &mut self.from_client } else { &mut self.from_server };
        for &note in &judgement.notes {
            *half.notes.entry(note).or_default() += 1;
        }
        half.max_in_flight = half.max_in_flight.max(judgement.in_flight.unwrap_or(0));
    }
}

fn evidence(sender: &Half, receiver: &Half, is_open: bool) -> Evidence {
    let before = |half: &Half| match half {
        Half { segments: 0, .. } => Before::Nothing,
        Half { is_finished: true, .. } => Before::Closed,
        Half { has_syn: true, .. } if half.is_only_syn() && !is_open => Before::Syn,
        _ => Before::Open,
    };
    Evidence {
        sent: before(sender),
        received: before(receiver),
        unanswered: sender.unanswered,
        has_unacknowledged_data: receiver.has_outstanding_data(sender),
    }
}

fn note_ecn(segment: &Segment, judgement: &mut Judgement) {
    // In SYNs the flags negotiate (RFC 3168, 6.1.1).
    if segment.is_syn {
        return;
    }
    if segment.is_ece {
        judgement.notes.push(Note::EcnEcho);
    }
    if segment.is_cwr {
        judgement.notes.push(Note::WindowReduced);
    }
}
