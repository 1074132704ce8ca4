//! Operations per second, both stacks in turns within one run: on a shared machine the ratio repeats, not the rate.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::Cli;
use crate::scenario::{Pair, Scenario, StackKind};

pub(crate) fn run(cli: &Cli) -> anyhow::Result<()> {
    let turn = Duration::from_millis(cli.turn_ms);
    for scenario in cli.scenarios() {
        let [mut ours, mut theirs] = [StackKind::Ours, StackKind::Smoltcp].map(|kind| scenario.open(kind));
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..cli.rounds.max(1) {
            rates[0].push(rate(ours.as_mut(), turn));
            rates[1].push(rate(theirs.as_mut(), turn));
        }
        let ratios = rates[0].iter().zip(&rates[1]).map(|(ours, theirs)| ours / theirs).collect();
        let [ours, theirs] = rates.map(median);
        print(cli, scenario, ours, theirs, median(ratios));
    }
    Ok(())
}

fn print(cli: &Cli, scenario: Scenario, ours: f64, theirs: f64, ratio: f64) {
    let ((ours, unit), (theirs, _)) = (scenario.readable(ours), scenario.readable(theirs));
    let name = scenario.name();
    if cli.json {
        println!(
            "{}",
            json!({"scenario": name, "unit": unit, "ours": ours, "smoltcp": theirs, "ratio": ratio})
        );
    } else {
        println!("{name:16} ours {ours:9.1} {unit:6}  smoltcp {theirs:9.1} {unit:6}  ratio {ratio:5.2}");
    }
}

/// Operations per second over one turn.
fn rate(pair: &mut dyn Pair, turn: Duration) -> f64 {
    let (mut done, start) = (0, Instant::now());
    while start.elapsed() < turn {
        done += pair.run(CHUNK);
    }
    // Far below 2^53.
    done as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Operations between two looks at the clock.
const CHUNK: u64 = 256;
