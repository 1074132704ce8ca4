//! The ptrace backend: small and slow, with no code of ours in the guest's path.
//!
//! Each guest thread is a host thread of the stub that the owning sentry thread traces with `PTRACE_SYSEMU`: every
//! system call, fault and signal stops it and hands over its registers (`ptrace(2)`). The host kernel keeps the
//! registers, so nothing that the guest can write is trusted.

mod calls;
mod context;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::contract::{AddressSpace, Context, MapOp, Platform, PlatformError};
use crate::fpu::FpuState;
use crate::memory_file::MemoryFile;
use crate::stub::text::{self, Entry};
use crate::stub::{GUEST_END, GUEST_START, StubProcess, Template, mapping};

/// The platform.
pub(crate) struct Ptrace {
    template: Arc<Template>,
    memory: Arc<MemoryFile>,
}

impl Ptrace {
    pub(crate) fn new(template: Template, memory: Arc<MemoryFile>) -> Self {
        Self { template: Arc::new(template), memory }
    }
}

impl Platform for Ptrace {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn address_range(&self) -> Range<u64> {
        GUEST_START..GUEST_END
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(Space::new(self.template.clone(), self.memory.clone())?))
    }
}

struct Space {
    template: Arc<Template>,
    stub: Arc<StubProcess>,
    memory: Arc<MemoryFile>,
}

impl Space {
    fn new(template: Arc<Template>, memory: Arc<MemoryFile>) -> Result<Self, PlatformError> {
        let stub = Arc::new(template.fork()?);
        Ok(Self { template, stub, memory })
    }
}

impl AddressSpace for Space {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        mapping::apply(&self.stub, &self.memory, ops)
    }

    fn new_context(&self, fpu: &FpuState) -> Result<Box<dyn Context>, PlatformError> {
        let entry = text::address(self.stub.layout(), Entry::TracedThread);
        // It needs no signal stack: signals stop it before they are delivered.
        let tid = self.stub.start_thread(entry, 0..0, Ok)?;
        Ok(Box::new(context::PtraceContext::new(self.stub.clone(), tid, fpu.clone())))
    }

    fn fork(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(Self::new(self.template.clone(), self.memory.clone())?))
    }

    fn cpu_time(&self) -> Duration {
        self.stub.time()
    }

    fn is_alive(&self) -> bool {
        self.stub.is_alive()
    }

    fn kill(&self) {
        self.stub.kill();
    }

    fn end(&self) {
        // Threads run only while their tracer lets them, so none does now. Waiting here could wait for a tracer.
        self.stub.kill();
    }
}
