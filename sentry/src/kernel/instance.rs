//! The kernel object: one per sandbox.

use std::sync::Arc;

use crate::kernel::Clocks;

/// What is shared by every task of a sandbox.
#[derive(Debug)]
pub struct Kernel {
    clocks: Clocks,
    /// The first network namespace, set by boot.
    pub(crate) net: std::sync::OnceLock<Arc<crate::socket::NetNamespace>>,
}

impl Kernel {
    /// A kernel without tasks.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { clocks: Clocks::default(), net: std::sync::OnceLock::new() })
    }

    /// The clocks.
    #[must_use]
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }
}
