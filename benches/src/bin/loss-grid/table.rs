//! The grid as markdown.

use std::fmt::Write as _;

use benches::row::median;

use crate::cli::{Control, Direction};
use crate::measure::{Cell, Sample};

/// One row for each cell, and the geometric means of the ratios.
pub(crate) fn markdown(samples: &[Sample]) -> String {
    let mut columns: Vec<(Control, Direction)> = Vec::new();
    let mut cells: Vec<Cell> = Vec::new();
    for sample in samples {
        let column = (sample.control, sample.direction);
        if sample.direction != Direction::Linux && !columns.contains(&column) {
            columns.push(column);
        }
        if !cells.contains(&sample.cell) {
            cells.push(sample.cell);
        }
    }
    columns.sort_by_key(|(control, direction)| (*direction == Direction::Receive, control.name()));
    cells.sort_by(|a, b| a.rtt_ms.cmp(&b.rtt_ms).then(a.loss_percent.total_cmp(&b.loss_percent)));
    let mut out = String::from("| RTT | loss |");
    for (control, direction) in &columns {
        let _ = write!(out, " {direction}, {control} |");
    }
    out.push_str("\n|---|---|");
    out.push_str(&"---|".repeat(columns.len()));
    out.push('\n');
    let mut logs = vec![Vec::new(); columns.len()];
    for cell in &cells {
        let _ = write!(out, "| {} ms | {} % |", cell.rtt_ms, cell.loss_percent);
        for ((control, direction), logs) in columns.iter().zip(&mut logs) {
            out.push_str(&entry(samples, *cell, *control, *direction, logs));
        }
        out.push('\n');
    }
    out.push_str("| geometric mean | |");
    for logs in &logs {
        let mean = (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp();
        let _ = write!(out, " {mean:.2} |");
    }
    out.push('\n');
    out
}

/// `ratio (ours / Linux's in Mbit/s)`.
fn entry(
    samples: &[Sample],
    cell: Cell,
    control: Control,
    direction: Direction,
    logs: &mut Vec<f64>,
) -> String {
    let figure = |wanted: Direction| {
        let of_cell = samples.iter().filter(|sample| sample.cell == cell && sample.control == control);
        median(of_cell.filter(|sample| sample.direction == wanted).map(|sample| sample.mbps).collect())
    };
    match (figure(direction), figure(Direction::Linux)) {
        (Some(ours), Some(linux)) if linux > 0.0 => {
            let ratio = ours / linux;
            if ratio > 0.0 {
                logs.push(ratio.ln());
            }
            format!(" {ratio:.2} ({} / {}) |", rate(ours), rate(linux))
        }
        _ => " - |".to_owned(),
    }
}

fn rate(mbps: f64) -> String {
    if mbps < 100.0 { format!("{mbps:.1}") } else { format!("{mbps:.0}") }
}
