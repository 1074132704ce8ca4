//! An operation of the stack costs no more instructions than docs/instructions.md says.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::{Need, Running, require};

#[test]
fn operations_cost_what_is_recorded() {
    require!(Need::Program("valgrind"));
    // A release build has a row of its own, which `cargo xtask instructions` looks at.
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/instructions.md");
    let mut command = Command::new(env!("CARGO_BIN_EXE_memory-bench"));
    command.args(["record", "--check"]).arg(table);
    let only = ["bulk", "round-trip", "connection", "datagram"];
    command.args(only.iter().flat_map(|scenario| ["--only", scenario]));
    let said = Running::start(&mut command).finish(Duration::from_secs(300));
    assert_eq!(said.status, 0, "{}{}", said.out(), said.err());
    assert_eq!(said.out().lines().count(), only.len(), "{}", said.out());
}
