//! Pictures of a TCP flow over time, as SVG or in an HTML page with the flow's figures.

mod chart;
mod page;
mod series;

use std::path::Path;

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::examine::{self, Subject};
use crate::filter::Filter;
use crate::reassembly::Direction;
pub(crate) use series::{Series, SpanKind};

/// What is plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Sequence numbers: segments, acknowledgements, SACK blocks and the window.
    Sequence,
    /// Round-trip times.
    Rtt,
    /// The offered window and what of it is in flight.
    Window,
    /// Data, and data without copies, per moment.
    Throughput,
}

/// Plots one direction of a flow. An HTML file has all kinds, the chosen one first.
///
/// # Errors
/// When the capture cannot be read, has no such TCP flow, or the output cannot be written.
pub(crate) fn run(
    input: &Path,
    flow: usize,
    kind: Kind,
    direction: Direction,
    filter: &Filter,
    output: &Path,
) -> anyhow::Result<()> {
    let mut series = Series::new(direction);
    let examiner = examine::file(input, filter, |packet| {
        if packet.flow == Some(flow) {
            series.add(packet);
        }
        Ok(())
    })?;
    let view = examiner.flow(flow).with_context(|| format!("{}: no flow {flow}", input.display()))?;
    let Subject::Tcp(connection) = view.subject else {
        bail!("{}: flow {flow} is not TCP", input.display());
    };
    let path = match direction {
        Direction::FromClient => connection.endpoints,
        Direction::FromServer => connection.endpoints.reversed(),
    };
    let title = format!("#{flow} {} \u{2192} {}", path.source, path.destination);
    let text = if output.extension().is_some_and(|e| e.eq_ignore_ascii_case("html")) {
        page::page(&title, kind, &series, &view)?
    } else {
        chart::draw(&title, kind, &series)?
    };
    std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))
}

#[cfg(test)]
#[path = "plot_tests.rs"]
mod tests;
