//! The packets read so far, and which of them the filter shows.

use crate::analysis::Note;
use crate::dissect::Dissection;
use crate::examine::{Examined, Examiner};
use crate::filter::Filter;
use crate::source::Packet;

/// The packets read so far, and which of them the filter shows.
///
/// Dissections are made again where they are needed: kept, they would double the memory that a capture takes.
#[derive(Debug, Default)]
pub(super) struct Capture {
    packets: Vec<Kept>,
    pub(super) examiner: Examiner,
    filter: Filter,
    /// Indices of packets.
    shown: Vec<usize>,
    /// How many packets the filter has seen.
    filtered: usize,
}

/// A packet without its dissection.
#[derive(Debug)]
struct Kept {
    examined: Examined,
    is_malformed: bool,
}

/// How much attention a packet deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Concern {
    None,
    /// Something that connections survive.
    Trouble,
    /// Dropped, reset or malformed.
    Failure,
}

impl Capture {
    /// Takes the next packet.
    pub(super) fn add(&mut self, packet: Packet) {
        let mut examined = self.examiner.examine(packet);
        if self.filtered == self.packets.len() {
            self.filtered += 1;
            if self.filter.matches(&examined) {
                self.shown.push(self.packets.len());
            }
        }
        let is_malformed = examined.dissection.take().is_none();
        self.packets.push(Kept { examined, is_malformed });
    }

    /// Shows what another filter lets through, once `advance` has tried it on all packets.
    pub(super) fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        self.shown.clear();
        self.filtered = 0;
    }

    /// Tries the filter on at most `count` more packets; returns whether there were any.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        let end = self.packets.len().min(self.filtered.saturating_add(count));
        let begin = std::mem::replace(&mut self.filtered, end);
        let is_all = self.filter.is_empty();
        for index in begin..end {
            let Some(kept) = self.packets.get_mut(index) else { break };
            if is_all || kept.dissected(|examined| self.filter.matches(examined)) {
                self.shown.push(index);
            }
        }
        end > begin
    }

    /// How many packets the filter has seen, and how many there are.
    pub(super) fn progress(&self) -> (usize, usize) {
        (self.filtered, self.packets.len())
    }

    /// How many packets are shown.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// The first row whose packet has this index or a later one.
    pub(super) fn row_of(&self, index: usize) -> usize {
        self.shown.partition_point(|&shown| shown < index)
    }

    /// The index of the packet in a row.
    pub(super) fn index(&self, row: usize) -> Option<usize> {
        self.shown.get(row).copied()
    }

    /// The packet in a row.
    pub(super) fn examined(&self, row: usize) -> Option<Examined> {
        let kept = self.packets.get(self.index(row)?)?;
        let mut examined = kept.examined.clone();
        examined.dissection = Dissection::of(&examined.packet);
        Some(examined)
    }

    /// The flow of the packet in a row.
    pub(super) fn flow(&self, row: usize) -> Option<usize> {
        self.packets.get(self.index(row)?)?.examined.flow
    }

    /// Shows `look` the packet in a row.
    pub(super) fn look<T>(&mut self, row: usize, look: impl FnOnce(&Examined) -> T) -> Option<T> {
        let index = self.index(row)?;
        self.packets.get_mut(index).map(|kept| kept.dissected(look))
    }

    /// Shows `look` all packets of a flow, whatever the filter shows.
    pub(super) fn look_at_flow(&mut self, flow: usize, mut look: impl FnMut(&Examined)) {
        for kept in self.packets.iter_mut().filter(|kept| kept.examined.flow == Some(flow)) {
            kept.dissected(&mut look);
        }
    }

    /// The packets shown, as they were read.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Packet> {
        self.shown.iter().filter_map(|&index| self.packets.get(index)).map(|kept| &kept.examined.packet)
    }

    /// How much attention the packet in a row deserves.
    pub(super) fn concern(&self, row: usize) -> Concern {
        self.index(row).and_then(|index| self.packets.get(index)).map_or(Concern::None, Kept::concern)
    }
}

impl Kept {
    fn dissected<T>(&mut self, look: impl FnOnce(&Examined) -> T) -> T {
        self.examined.dissection = Dissection::of(&self.examined.packet);
        let result = look(&self.examined);
        self.examined.dissection = None;
        result
    }

    fn concern(&self) -> Concern {
        if self.is_malformed || self.examined.remarks.drop.is_some() {
            return Concern::Failure;
        }
        self.examined.judgement.notes.iter().map(|&note| concern_of(note)).max().unwrap_or(Concern::None)
    }
}

fn concern_of(note: Note) -> Concern {
    match note {
        Note::Reset => Concern::Failure,
        Note::WindowUpdate | Note::KeepAlive | Note::KeepAliveAck | Note::PortReuse | Note::WindowReduced => {
            Concern::None
        }
        _ => Concern::Trouble,
    }
}
