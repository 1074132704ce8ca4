//! Host-level tests: the harness.
//!
//! The tests beside this crate sandbox real programs with the release build of `runsc` and compare them with the
//! same programs run natively. Everything a test makes (processes, namespaces, interfaces, folders) is owned by a
//! value whose drop removes it. Every wait is bounded.
#![forbid(unsafe_code)]

mod bundle;
mod netns;
mod process;
mod sandbox;
mod skip;
mod terminal;

pub use bundle::Bundle;
pub use netns::Netns;
pub use process::{Finished, Running, wait_until};
pub use sandbox::{Place, Sandbox, assert_same, runsc};
pub use skip::{Need, is_missing};
pub use terminal::{Terminal, console_socket};

/// Returns from the test, counted as skipped, when something it needs is missing: `require!(Need::Root)`.
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {
        $(if $crate::is_missing(&$need, module_path!(), line!()) {
            return;
        })+
    };
}
