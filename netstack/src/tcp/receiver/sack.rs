//! What the receiver reports beside the cumulative acknowledgment (RFC 2018, RFC 2883).

use super::Receiver;
use netstack_wire::seq::SeqNum;
use netstack_wire::tcp::{SackBlock, SackBlocks};

impl Receiver {
    /// The SACK blocks for a segment being sent now, at most `max`, a duplicate first.
    pub(in super::super) fn sack_blocks(&self, max: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        if !self.has_sack {
            return blocks;
        }
        if let Some(dsack) = self.dsack {
            blocks.push(dsack);
        }
        if let Some(store) = &self.out_of_order {
            store.sack(&mut blocks, max);
        }
        match self.fin_at {
            Some(fin) => with_fin(&blocks, fin),
            None => blocks,
        }
    }

    /// Whether the next segment says more than how far the data has come.
    #[inline]
    pub(in super::super) fn has_report(&self) -> bool {
        self.out_of_order.is_some() || self.dsack.is_some() || self.has_ce
    }

    /// A segment with `sack_blocks` has left: a duplicate is reported once (RFC 2883 section 4).
    pub(in super::super) fn on_sack_sent(&mut self) {
        self.dsack = None;
    }

    /// The highest sequence number that has arrived (RFC 5961 section 3 as Linux reads it, for RST).
    pub(in super::super) fn highest_received(&self) -> Option<SeqNum> {
        let mut blocks = SackBlocks::default();
        self.out_of_order.as_ref()?.sack(&mut blocks, SackBlocks::MAX);
        let ends = blocks.as_slice().iter().map(|block| block.end);
        ends.reduce(SeqNum::max)
    }
}

/// A FIN that stands right behind a block belongs to it: it takes sequence space like data (RFC 2018 section 3).
fn with_fin(blocks: &SackBlocks, fin: SeqNum) -> SackBlocks {
    let mut extended = SackBlocks::default();
    for block in blocks.as_slice() {
        let end = if block.end == fin && block.start.lt(fin) { fin + 1 } else { block.end };
        extended.push(SackBlock { end, ..*block });
    }
    extended
}
