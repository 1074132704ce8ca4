//! Goodput over delay and loss: our TCP and Linux's, as sender and as receiver, interleaved in one run.
//!
//! Two network namespaces are joined by a forwarder of our own that delays, drops and limits the rate (many kernels
//! have no netem). The kernel is the peer throughout, so a figure never has our stack at both ends:
//!
//! | direction | sender | receiver |
//! |---|---|---|
//! | `linux` | Linux | Linux |
//! | `send` | ours (`nsbench tx`) | Linux |
//! | `receive` | Linux, CUBIC | ours (`nsbench rx`) |
//!
//! A cell is a round-trip time and a loss rate of data segments. All its measurements with one seed lose the same
//! segments of the stream and run one after the other. The table shows medians over the seeds, as ratios to Linux to
//! Linux with the same congestion control.
//!
//! ```text
//! cargo build --release -p benches && target/release/loss-grid --seeds 5
//! ```
//! Needs root. Where a cell's rate is a few Mbit/s, `--jobs` lanes measure side by side without disturbing each other.
#![forbid(unsafe_code)]

mod cli;
mod forward;
mod kernel;
mod measure;
mod table;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Context as _;
use clap::Parser;

use cli::Cli;
use measure::{Job, Sample};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let nsbench = nsbench()?;
    let (light, heavy): (Vec<Job>, Vec<Job>) = cli.jobs().into_iter().partition(Job::is_light);
    let mut samples = run(&nsbench, &cli, light, cli.lanes.max(1))?;
    samples.extend(run(&nsbench, &cli, heavy, 1)?);
    if cli.json {
        samples.iter().for_each(|sample| println!("{}", sample.to_json()));
    } else {
        print!("{}", table::markdown(&samples));
    }
    Ok(())
}

/// Works `jobs` off in `lanes` at once.
fn run(nsbench: &std::path::Path, cli: &Cli, jobs: Vec<Job>, lanes: usize) -> anyhow::Result<Vec<Sample>> {
    let queue = Mutex::new(VecDeque::from(jobs));
    let samples = Mutex::new(Vec::new());
    let lane = || -> anyhow::Result<()> {
        loop {
            let Some(job) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) else { return Ok(()) };
            for run in job.runs() {
                let sample = run.measure(nsbench, cli).with_context(|| format!("{run:?}"))?;
                eprintln!("{}", sample.to_json());
                if let Ok(mut samples) = samples.lock() {
                    samples.push(sample);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(samples.into_inner().unwrap_or_default())
}

/// The program beside this one.
fn nsbench() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("nsbench");
    anyhow::ensure!(path.exists(), "{} is missing: cargo build --release -p benches", path.display());
    Ok(path)
}
