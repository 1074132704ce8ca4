//! The recorded instructions per operation: a table with a row per version and profile, and whether it still holds.
//!
//! Counts of the release profile are for readers. Those of the profile of tests are for a test, which needs no build of its
//! own; both repeat to the per cent on any machine with the same compiler.

use std::path::Path;

use anyhow::{Context, bail};

use crate::instructions::per_operation;
use crate::scenario::{Scenario, StackKind};

/// How much a count may exceed the recorded one, in per cent: compilers differ by less. There is no limit downwards.
const TOLERANCE_PERCENT: f64 = 8.0;

/// The version that is counted.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The profile that this program was built with.
fn profile() -> &'static str {
    if cfg!(debug_assertions) { "tests" } else { "release" }
}

/// Counts all scenarios, and puts them into the table in `file` in the place of this version's row, or as a new one.
pub(crate) fn write(file: &Path) -> anyhow::Result<()> {
    let counts: Vec<f64> = Scenario::ALL.iter().map(|scenario| count(*scenario)).collect::<Result<_, _>>()?;
    let cells: Vec<String> = counts.iter().map(|count| format!("{count:.0}")).collect();
    let row = format!("{} {} |", head(), cells.join(" | "));
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    std::fs::write(file, with_row(&text, &row)?)?;
    println!("{row}");
    Ok(())
}

/// Counts `scenarios` and compares with this version's row.
pub(crate) fn check(file: &Path, scenarios: &[Scenario]) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let recorded = recorded(&text)?;
    let mut grown = Vec::new();
    for scenario in scenarios {
        let (name, now) = (scenario.name(), count(*scenario)?);
        let then = recorded[Scenario::ALL.iter().position(|known| known == scenario).context(name)?];
        let percent = (now / then - 1.0) * 100.0;
        println!("{name:16} {now:8.0}  recorded {then:8.0}  {percent:+5.1} %");
        if percent > TOLERANCE_PERCENT {
            grown.push(name);
        }
    }
    if !grown.is_empty() {
        bail!("{grown:?} cost more instructions than recorded (see `cargo xtask instructions`)");
    }
    Ok(())
}

fn count(scenario: Scenario) -> anyhow::Result<f64> {
    // A quarter is enough: the counts hardly vary, and a test should not take long.
    per_operation(StackKind::Ours, scenario, scenario.work() / 4)
}

/// How this version's row begins.
fn head() -> String {
    format!("| {VERSION} | {} |", profile())
}

fn recorded(text: &str) -> anyhow::Result<Vec<f64>> {
    let head = head();
    let row =
        text.lines().find_map(|line| line.strip_prefix(&head)).with_context(|| format!("no row {head}"))?;
    let counts: Vec<f64> = row
        .split('|')
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    if counts.len() != Scenario::ALL.len() {
        bail!("the row {head} has {} counts", counts.len());
    }
    Ok(counts)
}

/// `text` with `row` in the place of this version's, or behind the last one.
fn with_row(text: &str, row: &str) -> anyhow::Result<String> {
    let head = head();
    let mut lines: Vec<&str> = text.lines().collect();
    match lines.iter().position(|line| line.starts_with(&head)) {
        Some(at) => lines[at] = row,
        None => {
            let last = lines.iter().rposition(|line| line.starts_with('|')).context("there is no table")?;
            lines.insert(last + 1, row);
        }
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_replaced_or_added() {
        let table = "# Title\n\n| version | profile | a |\n|---|---|---|\n| 0.0.1 | tests | 1 |\n\nText.\n";
        let row = format!("{} 1 | 2 | 3 | 4 | 5 | 6 | 7 |", head());
        let once = with_row(table, &row).unwrap();
        assert!(once.contains(&format!("| 0.0.1 | tests | 1 |\n{row}\n\nText.")), "{once}");
        assert_eq!(recorded(&once).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(with_row(&once, &row).unwrap(), once);
        assert!(recorded(table).is_err());
    }
}
