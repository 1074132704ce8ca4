//! The vDSO: code that the sandbox gives each program (`vdso(7)`).

use std::sync::Arc;

use crate::errno::Errno;
use crate::mm::{Frames, MemoryManager};

/// The image and its pages.
#[derive(Debug)]
pub struct Vdso {}

impl Vdso {
    /// Makes the pages.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(_: &Arc<Frames>) -> Result<Self, Errno> {
        Ok(Self {})
    }

    /// Maps the image and returns its address; `None` where there is none.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn map(&self, _: &MemoryManager) -> Result<Option<u64>, Errno> {
        Ok(None)
    }
}
