//! `netcap`: capture, dissect and analyse TCP.
//!
//! - `netcap list FILE` prints a line for each packet, with what TCP analysis says about it;
//! - `netcap flows FILE` prints a line for each TCP connection and direction;
//! - `netcap follow FILE N` writes the bytes of one direction of a connection;
//! - `netcap record INTERFACE FILE` captures into a pcap file.
#![forbid(unsafe_code)]

mod analysis;
mod dissect;
mod flow;
mod reassembly;
mod record;
mod report;
mod source;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::analysis::Analysis;
use crate::reassembly::Direction;

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
        /// The capture; `-` is standard input.
        file: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Only packets of this flow (the number that `flows` shows).
        #[arg(long)]
        flow: Option<usize>,
        /// Only packets that analysis has something to say about.
        #[arg(long)]
        notable: bool,
    },
    /// Prints each TCP connection with bytes, retransmissions, round-trip time and windows of both directions.
    Flows {
        /// The capture; `-` is standard input.
        file: PathBuf,
        /// One JSON object a line.
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
    },
    /// Captures an interface into a pcap file until interrupted.
    Record {
        /// The interface.
        interface: String,
        /// The pcap file to write; `-` is standard output.
        file: PathBuf,
        /// Stop after so many packets.
        #[arg(long)]
        count: Option<u64>,
        /// Stop after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        duration: Option<u64>,
    },
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

fn run(command: Command) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match command {
        Command::List { file, json, flow, notable } => {
            let mut analysis = Analysis::default();
            for (number, packet) in (1_u64..).zip(source::open(&file)?) {
                let packet = packet.with_context(|| format!("{}: packet {number}", file.display()))?;
                let line = report::Line::new(number, &packet, &mut analysis);
                if flow.is_none_or(|f| line.flow == Some(f)) && !(notable && line.notes.is_empty()) {
                    line.write(&mut out, json)?;
                }
            }
        }
        Command::Flows { file, json } => {
            for connection in &source::analyse(&file)?.connections {
                report::write_flow(&mut out, connection, json)?;
            }
        }
        Command::Follow { file, flow, reverse } => {
            let direction = if reverse { Direction::FromServer } else { Direction::FromClient };
            let bytes = reassembly::follow(&file, flow, direction)?;
            out.write_all(&bytes)?;
        }
        Command::Record { interface, file, count, duration } => {
            record::run(&interface, &file, count, duration.map(Duration::from_secs))?;
        }
    }
    out.flush()?;
    Ok(())
}
