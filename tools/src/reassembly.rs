//! The byte stream of one direction of a connection.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;

use crate::dissect::Segment;
use crate::examine::{self, Subject};
use crate::filter::Filter;

/// Which side's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The side that connected.
    FromClient,
    /// The side that accepted.
    FromServer,
}

/// Puts the data of one direction together, from the packets that the filter lets through.
///
/// # Errors
/// When the file cannot be read, has no such TCP flow, or bytes are missing from the capture.
pub(crate) fn follow(
    path: &Path,
    flow: usize,
    direction: Direction,
    filter: &Filter,
) -> anyhow::Result<Vec<u8>> {
    let mut stream = Stream::default();
    let flows = examine::file(path, filter, |examined| {
        let Some(segment) = examined.dissection.as_ref().and_then(|d| d.tcp()) else { return Ok(()) };
        if examined.flow == Some(flow) && examined.is_from_client == (direction == Direction::FromClient) {
            stream.add(segment)?;
        }
        Ok(())
    })?;
    match flows.flow(flow).map(|flow| flow.subject) {
        Some(Subject::Tcp(_)) => stream.finish(),
        Some(Subject::Other(_)) => bail!("{}: flow {flow} is not TCP", path.display()),
        None => bail!("{}: no flow {flow}: there are {}", path.display(), flows.flows().count()),
    }
}

/// Segments by their offset from the first byte.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    first: Option<u32>,
    /// The highest offset so far, to extend 32-bit sequence numbers to 64 bits.
    highest: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Stream {
    pub(crate) fn add(&mut self, segment: &Segment) -> anyhow::Result<()> {
        let seq = if segment.is_syn { segment.seq.wrapping_add(1) } else { segment.seq };
        let first = *self.first.get_or_insert(seq);
        if segment.payload.is_empty() {
            return Ok(());
        }
        if u32::try_from(segment.payload.len()) != Ok(segment.payload_len) {
            bail!("the capture cut packets short (capture with a larger snap length)");
        }
        let low = u64::from(seq.wrapping_sub(first));
        // The number that is nearest to the highest offset and equal modulo 2^32.
        let behind = (self.highest as u32).wrapping_sub(low as u32).cast_signed();
        let Some(offset) = self.highest.checked_add_signed(-i64::from(behind)) else { return Ok(()) };
        self.highest = self.highest.max(offset + segment.payload.len() as u64);
        let piece = self.pieces.entry(offset).or_default();
        if piece.len() < segment.payload.len() {
            piece.clone_from(&segment.payload);
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (offset, piece) in self.pieces {
            let have = bytes.len() as u64;
            if offset > have {
                bail!("{} bytes at offset {have} are missing from the capture", offset - have);
            }
            let skip = usize::try_from(have - offset).unwrap_or(usize::MAX);
            bytes.extend(piece.get(skip..).unwrap_or_default());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "reassembly_tests.rs"]
mod tests;
