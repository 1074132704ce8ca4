//! The phases of loss recovery and the memory that lets a spurious one be undone.

use super::info::RecoveryPhase;
use super::prr::Prr;
use netstack_wire::seq::SeqNum;

/// Where the sender stands with respect to losses.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    pub(super) phase: Phase,
    /// What to restore should the reduction turn out to be spurious.
    pub(super) undo: Option<Undo>,
    /// TSval of the first retransmission among those outstanding (RFC 3522). It outlives a recovery: a retransmission of
    /// new data that was lost during it is answered later.
    first_retransmit: Option<u32>,
    /// Duplicate ACKs in a row (connections without SACK).
    pub(super) dup_acks: u32,
    /// Consecutive retransmission timeouts.
    pub(super) timeouts: u32,
}

/// The phases; "disorder" is the open phase while something is selectively acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Open,
    /// Reducing after an ECN echo or a tail loss, until `high` is acknowledged.
    Cwr {
        high: SeqNum,
        prr: Prr,
    },
    /// Fast recovery until `high` is acknowledged (RFC 6675 RecoveryPoint).
    Recovery {
        high: SeqNum,
        prr: Prr,
    },
    /// After a timeout, until `high` is acknowledged.
    Loss {
        high: SeqNum,
        frto: Frto,
    },
}

/// F-RTO's progress (RFC 5682 section 3.1, the SACK-enhanced form).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Frto {
    /// Not tried, or decided.
    Off,
    /// Waiting for the first ACK after the timeout.
    FirstAck,
    /// New data was sent; whether what follows is acknowledged decides.
    SentNew,
}

/// The window before a reduction and what must be seen to believe that it was unnecessary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undo {
    /// SND.UNA when the reduction began.
    pub(super) marker: SeqNum,
    pub(super) cwnd: u32,
    pub(super) ssthresh: u32,
    /// Bytes retransmitted since whose duplicates no DSACK has reported yet.
    pub(super) unreported: u32,
    /// Whether anything was retransmitted at all.
    pub(super) has_retransmitted: bool,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Open, undo: None, first_retransmit: None, dup_acks: 0, timeouts: 0 }
    }

    /// Whether nothing has happened that it would have to remember.
    pub(super) fn is_unused(&self) -> bool {
        let Self { phase: _, undo, first_retransmit, dup_acks, timeouts } = self;
        self.is_open() && undo.is_none() && first_retransmit.is_none() && *dup_acks == 0 && *timeouts == 0
    }

    /// Fast recovery or loss: retransmissions go first and RACK is certain.
    pub(super) fn is_recovering(&self) -> bool {
        matches!(self.phase, Phase::Recovery { .. } | Phase::Loss { .. })
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Counts bytes sent, for PRR.
    pub(super) fn on_sent(&mut self, bytes: u32) {
        if let Phase::Cwr { prr, .. } | Phase::Recovery { prr, .. } = &mut self.phase {
            prr.on_sent(bytes);
        }
    }

    /// Notes a retransmission of `bytes` whose timestamp is `tsval`.
    pub(super) fn on_retransmitted(&mut self, bytes: u32, tsval: Option<u32>) {
        if let Some(undo) = &mut self.undo {
            undo.unreported = undo.unreported.saturating_add(bytes);
            undo.has_retransmitted = true;
        }
        self.first_retransmit = self.first_retransmit.or(tsval);
    }

    /// Remembers the window before a reduction; `outstanding` bytes are in flight as retransmissions already.
    pub(super) fn remember(&mut self, marker: SeqNum, cwnd: u32, ssthresh: u32, outstanding: u32) {
        if outstanding == 0 {
            self.first_retransmit = None;
        }
        let has_retransmitted = outstanding > 0;
        self.undo = Some(Undo { marker, cwnd, ssthresh, unreported: outstanding, has_retransmitted });
    }

    /// A DSACK reported `bytes` from `start` on as duplicates.
    pub(super) fn on_dsack(&mut self, start: SeqNum, bytes: u32) {
        if let Some(undo) = &mut self.undo
            && start.ge(undo.marker)
        {
            undo.unreported = undo.unreported.saturating_sub(bytes);
        }
    }

    /// RFC 3522 (Eifel): an ACK that echoes a timestamp from before the first retransmission answers the original.
    pub(super) fn is_eifel(&self, echo: Option<u32>) -> bool {
        match (self.undo.and(self.first_retransmit), echo) {
            (Some(first), Some(echo)) => echo.wrapping_sub(first).cast_signed() < 0,
            _ => false,
        }
    }

    /// RFC 3708: each retransmission has been reported as a duplicate.
    pub(super) fn is_all_reported(&self) -> bool {
        self.undo.is_some_and(|undo| undo.has_retransmitted && undo.unreported == 0)
    }

    pub(super) fn name(&self, is_disordered: bool) -> RecoveryPhase {
        match self.phase {
            Phase::Open if is_disordered => RecoveryPhase::Disorder,
            Phase::Open => RecoveryPhase::Open,
            Phase::Cwr { .. } => RecoveryPhase::Cwr,
            Phase::Recovery { .. } => RecoveryPhase::Recovery,
            Phase::Loss { .. } => RecoveryPhase::Loss,
        }
    }
}
