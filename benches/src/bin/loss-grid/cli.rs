//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::measure::{Cell, Job};

/// Goodput over delay and loss: our TCP and Linux's (needs root).
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    /// Round-trip times in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 20, 100])]
    pub(crate) rtt: Vec<u32>,
    /// Loss of data segments in percent.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.1, 1.0, 5.0])]
    pub(crate) loss: Vec<f64>,
    /// Congestion controls.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Control::Reno, Control::Cubic, Control::Bbr])]
    pub(crate) cc: Vec<Control>,
    /// What to measure; always beside Linux to Linux.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Direction::Send, Direction::Receive])]
    pub(crate) direction: Vec<Direction>,
    /// How many patterns of losses.
    #[arg(long, default_value_t = 3)]
    pub(crate) seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    pub(crate) first_seed: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) secs: f64,
    /// The bottleneck in Mbit/s.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u64,
    /// The bottleneck's queue in full frames.
    #[arg(long, default_value_t = 1000)]
    pub(crate) queue: u64,
    /// Measurements at once of cells with a low rate.
    #[arg(long = "jobs", default_value_t = 3)]
    pub(crate) lanes: usize,
    /// One JSON object for each measurement instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    /// How long to measure.
    pub(crate) fn duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.secs).unwrap_or(Duration::from_secs(5))
    }

    /// Everything to measure, one cell and seed at a time.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for seed in self.first_seed..self.first_seed + self.seeds {
            for &rtt_ms in &self.rtt {
                for &loss_percent in &self.loss {
                    let cell = Cell { rtt_ms, loss_percent };
                    jobs.extend(self.cc.iter().map(|&control| Job {
                        cell,
                        seed,
                        control,
                        directions: self.directions(control),
                    }));
                }
            }
        }
        jobs
    }

    /// Linux first; receiving is measured with CUBIC only, the sender being Linux.
    fn directions(&self, control: Control) -> Vec<Direction> {
        let wanted = |direction: &Direction| match direction {
            Direction::Linux => false,
            Direction::Send => true,
            Direction::Receive => control == Control::Cubic,
        };
        let rest = self.direction.iter().copied().filter(wanted);
        std::iter::once(Direction::Linux).chain(rest).collect()
    }
}

/// Congestion controls by the names that Linux gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Control {
    Reno,
    Cubic,
    Bbr,
}

impl Control {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reno => "reno",
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// Linux to Linux.
    Linux,
    /// We send to Linux.
    Send,
    /// Linux sends to us.
    Receive,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
