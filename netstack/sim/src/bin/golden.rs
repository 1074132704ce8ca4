//! Measures the golden tables: prints them, compares them with the committed ones, or replaces those.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use netstack_sim::golden::{Cell, Row, SEEDS, table};

/// What to do with the figures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Table,
    Json,
    Check,
    Write,
}

fn main() -> ExitCode {
    let Some((output, seeds)) = arguments(std::env::args().skip(1)) else {
        eprintln!("usage: golden [--json | --check | --write | --seed FIRST]");
        return ExitCode::from(2);
    };
    let rows = measure_all(seeds);
    match output {
        Output::Table => print!("{}", table(&rows)),
        Output::Json => print!("{}", json(&rows)),
        Output::Write => {
            let write = std::fs::write(folder().join("goodput.json"), json(&rows))
                .and_then(|()| std::fs::write(folder().join("goodput.md"), document(&rows)));
            if let Err(error) = write {
                eprintln!("cannot write to {}: {error}", folder().display());
                return ExitCode::FAILURE;
            }
        }
        Output::Check => return check(&rows),
    }
    ExitCode::SUCCESS
}

/// What to do with figures of which seeds. The committed tables are those of the usual ones.
fn arguments(mut arguments: impl Iterator<Item = String>) -> Option<(Output, [u64; SEEDS.len()])> {
    let (mut output, mut seeds) = (Output::Table, SEEDS);
    while let Some(argument) = arguments.next() {
        output = match &*argument {
            "--json" => Output::Json,
            "--check" => Output::Check,
            "--write" => Output::Write,
            "--seed" => {
                let first: u64 = arguments.next()?.parse().ok()?;
                seeds = SEEDS.map(|seed| first.wrapping_add(seed - SEEDS[0]));
                output
            }
            _ => return None,
        };
    }
    let is_usual = seeds == SEEDS || matches!(output, Output::Table | Output::Json);
    is_usual.then_some((output, seeds))
}

/// Measures all cells on as many threads as there are processors; each cell is a world of its own.
fn measure_all(seeds: [u64; SEEDS.len()]) -> Vec<Row> {
    let cells = Cell::all();
    let next = Mutex::new(0);
    let rows = Mutex::new(vec![None; cells.len()]);
    let work = || {
        loop {
            let index = {
                let mut next = next.lock().expect("no thread panics with the lock");
                *next += 1;
                *next - 1
            };
            let Some(cell) = cells.get(index) else { return };
            let row = cell.measure_with(seeds);
            rows.lock().expect("no thread panics with the lock")[index] = Some(row);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    rows.into_inner().expect("the threads are gone").into_iter().flatten().collect()
}

/// Compares with the committed table, and says what differs.
fn check(rows: &[Row]) -> ExitCode {
    let path = folder().join("goodput.json");
    let golden: Result<Vec<Row>, String> = std::fs::read(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    let golden = match golden {
        Ok(golden) => golden,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let mut differences = 0;
    for row in rows {
        let Some(old) = golden.iter().find(|old| old.cell == row.cell) else {
            println!("{:?}: not in the table", row.cell);
            differences += 1;
            continue;
        };
        let ratio = row.goodput_mbit / old.goodput_mbit;
        if !(0.9..1.1).contains(&ratio) || (row.fairness - old.fairness).abs() > 0.1 {
            println!("{:?}: {old:?} became {row:?}", row.cell);
            differences += 1;
        }
    }
    println!("{differences} of {} cells differ", rows.len());
    if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One row a line, so that a change shows as such.
fn json(rows: &[Row]) -> String {
    let lines: Vec<_> =
        rows.iter().map(|row| serde_json::to_string(row).expect("numbers and names")).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn document(rows: &[Row]) -> String {
    format!(
        "# Goodput, retransmissions and fairness\n\n\
         Made by `cargo xtask golden --write` in virtual time; the same code gives the same figures on every machine. One\n\
         stream over 1 Gbit/s with a queue of one round trip (at least 5 ms), random loss both ways, default settings,\n\
         median of seven seeds; fairness is Jain's index of two streams over 20 Mbit/s. smoltcp has\n\
         buffers of 256 KiB; it does not tune them.\n\n{}",
        table(rows)
    )
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/golden")
}
