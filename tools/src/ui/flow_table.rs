//! The flows of a capture as sortable rows.

use std::cmp::Ordering;
use std::time::Duration;

use super::cursor::Cursor;
use crate::examine::{Examiner, FlowView, Subject};
use crate::report;

/// The flows as they stood when last looked at.
#[derive(Debug, Default)]
pub(super) struct FlowTable {
    pub(super) rows: Vec<Row>,
    pub(super) cursor: Cursor,
    pub(super) column: Column,
    pub(super) is_reversed: bool,
}

/// What is shown of a flow.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) number: usize,
    pub(super) protocol: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Data sent again, or requests without an answer.
    pub(super) trouble: u64,
    /// The mean round trip of the side that spoke first, or the slowest answer.
    pub(super) rtt: Option<Duration>,
    pub(super) duration: Duration,
    pub(super) drops: u64,
    pub(super) end: String,
}

/// What flows are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Column {
    #[default]
    Number,
    Protocol,
    From,
    To,
    Packets,
    Bytes,
    Trouble,
    Rtt,
    Duration,
    Drops,
    End,
}

impl Column {
    /// From left to right.
    pub(super) const ALL: [Self; 11] = [
        Self::Number,
        Self::Protocol,
        Self::From,
        Self::To,
        Self::Packets,
        Self::Bytes,
        Self::Trouble,
        Self::Rtt,
        Self::Duration,
        Self::Drops,
        Self::End,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Number => "flow",
            Self::Protocol => "protocol",
            Self::From => "from",
            Self::To => "to",
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Trouble => "trouble",
            Self::Rtt => "rtt",
            Self::Duration => "seconds",
            Self::Drops => "drops",
            Self::End => "end",
        }
    }

    /// The column on the left or right of it.
    pub(super) fn neighbour(self, is_right: bool) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        let next = if is_right { at + 1 } else { at.saturating_sub(1) };
        Self::ALL.get(next).copied().unwrap_or(self)
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        match self {
            Self::Number => a.number.cmp(&b.number),
            Self::Protocol => a.protocol.cmp(&b.protocol),
            Self::From => a.from.cmp(&b.from),
            Self::To => a.to.cmp(&b.to),
            Self::Packets => a.packets.cmp(&b.packets),
            Self::Bytes => a.bytes.cmp(&b.bytes),
            Self::Trouble => a.trouble.cmp(&b.trouble),
            Self::Rtt => a.rtt.cmp(&b.rtt),
            Self::Duration => a.duration.cmp(&b.duration),
            Self::Drops => a.drops.cmp(&b.drops),
            Self::End => a.end.cmp(&b.end),
        }
    }
}

impl FlowTable {
    /// Takes the flows as they are now; the chosen one stays chosen.
    pub(super) fn refresh(&mut self, examiner: &Examiner, height: usize) {
        let chosen = self.chosen();
        self.rows = examiner.flows().map(|flow| Row::of(&flow)).collect();
        self.sort(chosen, height);
    }

    /// Sorts by another column.
    pub(super) fn sort_by(&mut self, column: Column, is_reversed: bool, height: usize) {
        let chosen = self.chosen();
        (self.column, self.is_reversed) = (column, is_reversed);
        self.sort(chosen, height);
    }

    /// The number of the chosen flow.
    pub(super) fn chosen(&self) -> Option<usize> {
        self.rows.get(self.cursor.row).map(|row| row.number)
    }

    fn sort(&mut self, chosen: Option<usize>, height: usize) {
        let Self { rows, column, is_reversed, .. } = self;
        rows.sort_by(|a, b| {
            let order = column.compare(a, b);
            if *is_reversed { order.reverse() } else { order }.then(a.number.cmp(&b.number))
        });
        let row = self.rows.iter().position(|row| Some(row.number) == chosen).unwrap_or(0);
        self.cursor.go(row, self.rows.len(), height);
    }
}

impl Row {
    fn of(flow: &FlowView<'_>) -> Self {
        let drops = flow.drops.values().sum();
        match flow.subject {
            Subject::Tcp(connection) => {
                let halves = [&connection.from_client, &connection.from_server];
                Self {
                    number: flow.number,
                    protocol: "TCP".to_owned(),
                    from: connection.endpoints.source.to_string(),
                    to: connection.endpoints.destination.to_string(),
                    packets: halves.iter().map(|half| half.segments).sum(),
                    bytes: halves.iter().map(|half| half.bytes).sum(),
                    trouble: halves.iter().map(|half| half.retransmitted_segments).sum(),
                    rtt: connection.from_client.rtt().mean().or(connection.handshake),
                    duration: connection.last.saturating_sub(connection.first),
                    drops,
                    end: report::end_of(connection),
                }
            }
            Subject::Other(conversation) => Self {
                number: flow.number,
                protocol: conversation.protocol.clone(),
                from: conversation.from.clone(),
                to: conversation.to.clone(),
                packets: conversation.packets.iter().sum(),
                bytes: conversation.bytes.iter().sum(),
                trouble: conversation.unanswered,
                rtt: conversation.slowest,
                duration: conversation.last.saturating_sub(conversation.first),
                drops,
                end: conversation.note.clone().unwrap_or_default(),
            },
        }
    }
}
