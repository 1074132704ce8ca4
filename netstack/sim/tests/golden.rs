//! A part of the golden table, so that a regression shows at once; `cargo xtask golden --check` compares all of it.

use netstack_sim::golden::{Cell, Row, Sender};

#[test]
fn goodput_has_not_fallen() {
    let golden: Vec<Row> =
        serde_json::from_str(include_str!("../../../docs/golden/goodput.json")).expect("a table");
    let cells = [(1_000, 1), (10_000, 1), (10_000, 20), (50_000, 20), (10_000, 100)];
    let is_checked =
        |cell: &Cell| cell.sender != Sender::Smoltcp && cells.contains(&(cell.loss_ppm, cell.rtt_ms));
    let mut checked = 0;
    for old in golden.iter().filter(|old| is_checked(&old.cell)) {
        let new = old.cell.goodput();
        // One frame more or less changes which of them are lost, and with that a median by some percent.
        let floor = old.goodput_mbit * 0.85;
        assert!(new >= floor, "{:?}: {} Mbit/s became {new}", old.cell, old.goodput_mbit);
        checked += 1;
    }
    assert!(checked >= 2 * cells.len(), "the table lacks cells");
}
