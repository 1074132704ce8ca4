//! A copy of a capture in which each packet carries what analysis says.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;

use crate::examine::{self, Examined};
use crate::filter::Filter;
use crate::output::{Format, Output};

/// Writes the packets that the filter lets through to a pcapng file, with a comment each.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn run(input: &Path, output: &Path, filter: &Filter) -> anyhow::Result<()> {
    let file = File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
    let mut out = Output::new(BufWriter::new(file), Format::PcapNg)?;
    examine::file(input, filter, |examined| {
        let mut packet = examined.packet.clone();
        packet.comments.extend(comment(examined));
        out.write(&packet)
    })?;
    out.flush().with_context(|| format!("cannot write {}", output.display()))
}

/// Lines of `key: value`, as the stack's own captures have them.
fn comment(examined: &Examined) -> Option<String> {
    let judgement = &examined.judgement;
    let mut lines: Vec<String> = examined.flow.map(|flow| format!("flow: {flow}")).into_iter().collect();
    lines.extend(judgement.texts().map(|note| format!("note: {note}")));
    lines.extend(judgement.rtt.map(|rtt| format!("rtt: {rtt:?}")));
    lines.extend(judgement.in_flight.map(|bytes| format!("in-flight: {bytes}")));
    lines.extend(judgement.window.map(|bytes| format!("window: {bytes}")));
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
#[path = "annotate_tests.rs"]
mod tests;
