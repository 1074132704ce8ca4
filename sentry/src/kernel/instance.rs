//! The kernel object: one per sandbox.

use std::sync::Arc;

use crate::kernel::Clocks;

/// What is shared by every task of a sandbox.
#[derive(Debug)]
pub struct Kernel {
    clocks: Clocks,
}

impl Kernel {
    /// A kernel without tasks.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { clocks: Clocks::default() })
    }

    /// The clocks.
    #[must_use]
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }
}
