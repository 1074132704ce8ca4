//! A copy of a capture in which each packet carries what analysis says.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;

use crate::examine::{Examined, Examiner};
use crate::filter::Filter;
use crate::output::{Format, Output};
use crate::source::{self, Aside, Item};

/// Writes the packets that the filter lets through to a pcapng file, with a comment each, and all that the capture has
/// beside packets.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn run(input: &Path, output: &Path, filter: &Filter) -> anyhow::Result<()> {
    let mut items = source::open_whole(input)?.peekable();
    let file = File::create(output).with_context(|| format!("cannot write {}", output.display()))?;
    let file = BufWriter::new(file);
    // The first section's header begins the file, so that there is none before it.
    let mut out = match items.next_if(|item| item.as_ref().is_ok_and(Item::is_section)) {
        Some(Ok(Item::Aside(aside))) => match *aside {
            Aside::Section(header) => Output::in_section(file, header)?,
            _ => Output::new(file, Format::PcapNg)?,
        },
        _ => Output::new(file, Format::PcapNg)?,
    };
    let mut examiner = Examiner::default();
    for item in items {
        match item? {
            Item::Aside(aside) => out.write_aside(*aside)?,
            Item::Packet(packet) => {
                let mut examined = examiner.examine(packet);
                if filter.matches(&examined) {
                    let comment = comment(&examined);
                    examined.packet.comments.extend(comment);
                    out.write(&examined.packet)?;
                }
            }
        }
    }
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
