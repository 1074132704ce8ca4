//! What can be said about a segment.

use std::time::Duration;

use serde::Serialize;

use super::ResetReason;

/// Something worth knowing about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Note {
    /// All of its data was sent before, or a timeout's time after what follows it.
    Retransmission,
    /// The same, right after the acknowledgements that asked for it (RFC 5681, 3.2).
    FastRetransmission,
    /// Its data was acknowledged before it was sent again.
    SpuriousRetransmission,
    /// Part of its data was sent before.
    PartialRetransmission,
    /// It comes after what follows it, too early for a retransmission.
    OutOfOrder,
    /// Data before it was not captured (yet).
    LostSegment,
    /// A repeated acknowledgement without data while data is outstanding (RFC 5681, 2).
    DuplicateAck,
    /// It says that data arrived twice (RFC 2883).
    DuplicateSack,
    /// The receiver has no room.
    ZeroWindow,
    /// One byte into a closed window.
    WindowProbe,
    /// The answer to one, with the window still closed.
    WindowProbeAck,
    /// Its data fills the receiver's window to the last byte.
    WindowFull,
    /// It changes nothing but the window.
    WindowUpdate,
    /// Below the next expected sequence number by one (RFC 9293, 3.8.4).
    KeepAlive,
    /// The answer to one.
    KeepAliveAck,
    /// It acknowledges data that was not captured.
    AckOfUnseenData,
    /// A SYN for a connection that is open.
    UnexpectedSyn,
    /// The ports of an earlier connection are used again.
    PortReuse,
    /// A router marked the packet (CE, RFC 3168).
    CongestionExperienced,
    /// The receiver repeats the mark to the sender.
    EcnEcho,
    /// The sender says that it has slowed down.
    WindowReduced,
    /// The connection was reset.
    Reset,
}

impl Note {
    /// All of them, for help and for names in filters.
    pub(crate) const ALL: [Self; 22] = [
        Self::Retransmission,
        Self::FastRetransmission,
        Self::SpuriousRetransmission,
        Self::PartialRetransmission,
        Self::OutOfOrder,
        Self::LostSegment,
        Self::DuplicateAck,
        Self::DuplicateSack,
        Self::ZeroWindow,
        Self::WindowProbe,
        Self::WindowProbeAck,
        Self::WindowFull,
        Self::WindowUpdate,
        Self::KeepAlive,
        Self::KeepAliveAck,
        Self::AckOfUnseenData,
        Self::UnexpectedSyn,
        Self::PortReuse,
        Self::CongestionExperienced,
        Self::EcnEcho,
        Self::WindowReduced,
        Self::Reset,
    ];

    /// As JSON and filters have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Retransmission => "retransmission",
            Self::FastRetransmission => "fast-retransmission",
            Self::SpuriousRetransmission => "spurious-retransmission",
            Self::PartialRetransmission => "partial-retransmission",
            Self::OutOfOrder => "out-of-order",
            Self::LostSegment => "lost-segment",
            Self::DuplicateAck => "duplicate-ack",
            Self::DuplicateSack => "duplicate-sack",
            Self::ZeroWindow => "zero-window",
            Self::WindowProbe => "window-probe",
            Self::WindowProbeAck => "window-probe-ack",
            Self::WindowFull => "window-full",
            Self::WindowUpdate => "window-update",
            Self::KeepAlive => "keep-alive",
            Self::KeepAliveAck => "keep-alive-ack",
            Self::AckOfUnseenData => "ack-of-unseen-data",
            Self::UnexpectedSyn => "unexpected-syn",
            Self::PortReuse => "port-reuse",
            Self::CongestionExperienced => "congestion-experienced",
            Self::EcnEcho => "ecn-echo",
            Self::WindowReduced => "window-reduced",
            Self::Reset => "reset",
        }
    }

    /// Whether data was sent again, for whatever reason.
    pub(crate) const fn is_retransmission(self) -> bool {
        matches!(
            self,
            Self::Retransmission
                | Self::FastRetransmission
                | Self::SpuriousRetransmission
                | Self::PartialRetransmission
        )
    }
}

/// All that analysis says about a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) notes: Vec<Note>,
    /// Which duplicate of the acknowledgement it is, if it is one.
    pub(crate) duplicate_ack: Option<u32>,
    /// From the newest data that it acknowledges to itself.
    pub(crate) rtt: Option<Duration>,
    /// What its sender has sent and not seen acknowledged, with this segment. Absent without data.
    pub(crate) in_flight: Option<u32>,
    /// The window that it offers, in bytes.
    pub(crate) window: Option<u32>,
    pub(crate) reset: Option<ResetReason>,
}

impl Judgement {
    /// The notes with their numbers.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        self.notes.iter().map(|note| match (note, self.duplicate_ack, self.reset) {
            (Note::DuplicateAck, Some(number), _) => format!("{} #{number}", note.name()),
            (Note::Reset, _, Some(reason)) => format!("{}: {reason}", note.name()),
            _ => note.name().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn names_are_those_of_json_and_no_note_is_forgotten() {
        for (index, note) in Note::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(note).unwrap(), note.name());
            assert_eq!(note as usize, index);
        }
        assert_eq!(Note::Reset as usize + 1, Note::ALL.len());
    }
}
