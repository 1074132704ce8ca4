//! Measures the sandbox against native execution, interleaved, and prints one table.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use benches::guest::{Network, Place, Programs};
use benches::row::{Row, median};
use benches::rows::{self, Bench, Measurement};
use clap::Parser;

/// Measures the sandbox against native execution (needs root).
#[derive(Parser)]
struct Cli {
    /// One JSON object a line instead of the table.
    #[arg(long)]
    json: bool,
    /// Another runtime with a `do` verb to measure in the same run.
    #[arg(long, value_name = "PATH")]
    vs: Option<PathBuf>,
    /// Interleaved rounds; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only rows whose name contains this text.
    filter: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let bench = Bench { programs: Programs::compile()?, network: Network::new() };
    if !cli.json {
        println!("{}", Row::HEAD);
    }
    for measurement in rows::all() {
        if cli.filter.as_ref().is_some_and(|f| !measurement.name.contains(f.as_str())) {
            continue;
        }
        let row = measure(&bench, &measurement, &cli);
        println!("{}", if cli.json { row.to_json() } else { row.to_markdown() });
    }
    Ok(())
}

/// Native, sandbox, other, native, sandbox, other, ...; a place that fails says so and has no figure.
fn measure(bench: &Bench, measurement: &Measurement, cli: &Cli) -> Row {
    let mut places = vec![(Place::sandbox(), Vec::new())];
    if measurement.has_native {
        places.insert(0, (Place::Native, Vec::new()));
    }
    places.extend(cli.vs.clone().map(|path| (Place::Runtime(path), Vec::new())));
    for _ in 0..cli.rounds {
        for (place, samples) in &mut places {
            match (measurement.once)(bench, place) {
                Ok(sample) => samples.push(sample),
                Err(e) => eprintln!("{} in {place:?}: {e:#}", measurement.name),
            }
        }
    }
    let mut medians = places.into_iter().map(|(_, samples)| median(samples));
    let native = if measurement.has_native { medians.next().flatten() } else { None };
    let sandbox = medians.next().flatten();
    let other = medians.next().flatten();
    Row {
        name: measurement.name.into(),
        unit: measurement.unit,
        better: measurement.better,
        native,
        sandbox,
        other,
    }
}
