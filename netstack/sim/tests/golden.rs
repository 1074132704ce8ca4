//! A part of the golden table, so that a regression shows at once; `cargo xtask golden --check` compares all of it.

use netstack_sim::golden::{Cell, Row, Sender};

#[test]
fn goodput_has_not_fallen() {
    let golden: Vec<Row> =
        serde_json::from_str(include_str!("../../../docs/golden/goodput.json")).expect("a table");
    for (loss_ppm, rtt_ms) in [(1_000, 1), (10_000, 1), (10_000, 20), (50_000, 20), (10_000, 100)] {
        for sender in [Sender::NewReno, Sender::Cubic] {
            let cell = Cell { sender, loss_ppm, rtt_ms };
            let old = golden.iter().find(|row| row.cell == cell).expect("the table has all cells");
            let new = cell.goodput();
            let floor = old.goodput_mbit * 0.9;
            assert!(new >= floor, "{cell:?}: {} Mbit/s became {new}", old.goodput_mbit);
        }
    }
}
