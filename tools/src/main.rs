//! `netcap`: capture, dissect and analyse TCP, and what else is on the wire.
//!
//! - `netcap list FILE` prints a line for each packet, with what TCP analysis says about it;
//! - `netcap flows FILE` prints each flow with both directions;
//! - `netcap summary FILE` counts protocols, findings, drops and processes;
//! - `netcap follow FILE N` writes the bytes of one direction of a connection;
//! - `netcap annotate IN OUT.pcapng` writes a copy with what analysis says in comments;
//! - `netcap plot FILE N` draws sequence numbers, round-trip times, windows or throughput of a connection;
//! - `netcap ui FILE` shows all that in a terminal, also while an interface is captured;
//! - `netcap record INTERFACE FILE` captures into a pcap or pcapng file.
#![forbid(unsafe_code)]

mod analysis;
mod annotate;
mod conversation;
mod dissect;
mod examine;
mod filter;
mod flow;
mod live;
mod output;
mod plot;
mod reassembly;
mod record;
mod remark;
mod report;
mod source;
#[cfg(test)]
mod testing;
mod ui;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::filter::Filter;
use crate::reassembly::Direction;
use crate::report::Summary;

/// Packet capture and TCP analysis.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints each packet of a pcap or pcapng file.
    List {
        #[command(flatten)]
        input: Input,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Only packets of this flow (the number that `flows` shows).
        #[arg(long)]
        flow: Option<usize>,
        /// Only packets that analysis has something to say about, or that the stack dropped.
        #[arg(long)]
        notable: bool,
    },
    /// Prints each flow: of TCP with retransmissions, round-trip time and windows of both directions.
    Flows {
        #[command(flatten)]
        input: Input,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Counts protocols, what analysis found, packets that the stack dropped and the processes concerned.
    Summary {
        #[command(flatten)]
        input: Input,
        /// A JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Writes the reassembled bytes of one direction of a connection to standard output.
    Follow {
        /// The capture; `-` is standard input.
        file: PathBuf,
        /// The flow's number in `flows`.
        flow: usize,
        /// From the side that accepted instead of the one that connected.
        #[arg(long)]
        reverse: bool,
        /// Only the data of packets that this filter lets through.
        #[arg(long, default_value = "")]
        filter: Filter,
    },
    /// Writes a copy of a capture in which each packet carries what analysis says as a comment.
    Annotate {
        /// The capture; `-` is standard input.
        file: PathBuf,
        /// The pcapng file to write.
        output: PathBuf,
        /// Only packets that this filter lets through.
        #[arg(default_value = "")]
        filter: Filter,
    },
    /// Draws one direction of a connection over time.
    Plot {
        /// The capture; `-` is standard input.
        file: PathBuf,
        /// The flow's number in `flows`.
        flow: usize,
        /// What is drawn; an HTML file has all, this one first.
        #[arg(long, value_enum, default_value = "sequence")]
        kind: plot::Kind,
        /// The data of the side that accepted instead of the one that connected.
        #[arg(long)]
        reverse: bool,
        /// Only packets that this filter lets through.
        #[arg(long, default_value = "")]
        filter: Filter,
        /// The file to write: HTML if its name ends so, SVG otherwise.
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Shows packets, their details, flows, streams and charts in the terminal.
    ///
    /// `?` lists the keys. An interface is captured while one looks at it (that takes `CAP_NET_RAW`).
    Ui {
        /// The capture, or the name of an interface; `-` is standard input.
        input: PathBuf,
        /// Only packets that this filter lets through; `f` changes it.
        #[arg(default_value = "")]
        filter: String,
    },
    /// Captures an interface into a file until interrupted.
    Record {
        /// The interface.
        interface: String,
        /// The file to write, pcapng if its name ends so and pcap otherwise; `-` is standard output.
        file: PathBuf,
        /// Only packets that this filter lets through.
        #[arg(default_value = "")]
        filter: Filter,
        /// Stop after so many packets.
        #[arg(long)]
        count: Option<u64>,
        /// Stop after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        duration: Option<u64>,
    },
}

/// What is looked at.
#[derive(Args)]
struct Input {
    /// The capture; `-` is standard input.
    file: PathBuf,
    /// Only packets that match, such as 'tcp and host 10.0.0.1 and (retransmission or len > 1000)'.
    #[arg(default_value = "")]
    filter: Filter,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe may leave early (`netcap list FILE | head`).
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("netcap: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// As the `--reverse` flags of the subcommands mean it.
fn direction(reverse: bool) -> Direction {
    if reverse { Direction::FromServer } else { Direction::FromClient }
}

fn run(command: Command) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match command {
        Command::List { input: Input { file, filter }, json, flow, notable } => {
            examine::file(&file, &filter, |packet| {
                let is_quiet = notable && !packet.is_notable();
                if flow.is_none_or(|f| packet.flow == Some(f)) && !is_quiet {
                    report::write_packet(&mut out, packet, json)?;
                }
                Ok(())
            })?;
        }
        Command::Flows { input: Input { file, filter }, json } => {
            // A flow is shown whole when one of its packets is let through.
            let mut chosen = std::collections::BTreeSet::new();
            let examiner = examine::file(&file, &filter, |packet| {
                chosen.extend(packet.flow);
                Ok(())
            })?;
            for flow in examiner.flows().filter(|flow| chosen.contains(&flow.number)) {
                report::write_flow(&mut out, &flow, json)?;
            }
        }
        Command::Summary { input: Input { file, filter }, json } => {
            let mut summary = Summary::default();
            let mut flows = std::collections::BTreeSet::new();
            examine::file(&file, &filter, |packet| {
                summary.add(packet);
                flows.extend(packet.flow);
                Ok(())
            })?;
            summary.write(&mut out, flows.len(), json)?;
        }
        Command::Follow { file, flow, reverse, filter } => {
            out.write_all(&reassembly::follow(&file, flow, direction(reverse), &filter)?)?;
        }
        Command::Annotate { file, output, filter } => annotate::run(&file, &output, &filter)?,
        Command::Plot { file, flow, kind, reverse, filter, output } => {
            plot::run(&file, flow, kind, direction(reverse), &filter, &output)?;
        }
        Command::Ui { input, filter } => ui::run(&input, &filter)?,
        Command::Record { interface, file, filter, count, duration } => {
            record::run(&interface, &file, &filter, count, duration.map(Duration::from_secs))?;
        }
    }
    out.flush()?;
    Ok(())
}
