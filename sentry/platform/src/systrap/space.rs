//! A guest address space: a stub and its guest threads.

use std::sync::Arc;

use crate::contract::{AddressSpace, Context, MapOp, PlatformError};
use crate::fpu::FpuState;
use crate::memory_file::MemoryFile;
use crate::stub::control::Control;
use crate::stub::{StubProcess, mapping};
use crate::systrap::context::SystrapContext;
use crate::systrap::guest_thread::ThreadPool;

/// The address space of one guest process.
pub(crate) struct Space {
    stub: Arc<Stub>,
    memory: Arc<MemoryFile>,
}

/// What contexts and their space share. The process comes first: it must be gone before the pages that it has mapped
/// are given back.
pub(crate) struct Stub {
    pub(super) process: StubProcess,
    pub(super) threads: ThreadPool,
}

impl Space {
    pub(super) fn new(process: StubProcess, control: Arc<Control>, memory: Arc<MemoryFile>) -> Self {
        Self { stub: Arc::new(Stub { process, threads: ThreadPool::new(control) }), memory }
    }
}

impl AddressSpace for Space {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        mapping::apply(&self.stub.process, &self.memory, ops)
    }

    fn new_context(&self, fpu: &FpuState) -> Result<Box<dyn Context>, PlatformError> {
        let thread = self.stub.threads.take(&self.stub.process)?;
        Ok(Box::new(SystrapContext::new(self.stub.clone(), thread, fpu)))
    }

    fn is_alive(&self) -> bool {
        self.stub.process.is_alive()
    }

    fn kill(&self) {
        self.stub.process.kill();
        self.stub.threads.wake_all();
    }
}
