//! The ptrace backend: small and slow, with no code of ours in the guest's path.
//!
//! Each guest thread is a host thread of the stub that the owning sentry thread traces with `PTRACE_SYSEMU`: every
//! system call, fault and signal stops it and hands over its registers (`ptrace(2)`). The host kernel keeps the
//! registers, so nothing that the guest can write is trusted.

mod calls;
mod context;

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use crate::contract::{AddressSpace, Context, MapOp, MapSource, Platform, PlatformError, Populate};
use crate::fpu::FpuState;
use crate::memory_file::MemoryFile;
use crate::stub::{Command, GUEST_START, StubProcess, Template};

/// The platform.
pub(crate) struct Ptrace {
    template: Template,
    memory: Arc<MemoryFile>,
}

impl Ptrace {
    pub(crate) fn new(template: Template, memory: Arc<MemoryFile>) -> Self {
        Self { template, memory }
    }
}

impl Platform for Ptrace {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn address_range(&self) -> Range<u64> {
        GUEST_START..self.template.layout().guest_end()
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let stub = Arc::new(self.template.fork()?);
        Ok(Arc::new(Space { stub, memory: self.memory.clone() }))
    }
}

struct Space {
    stub: Arc<StubProcess>,
    memory: Arc<MemoryFile>,
}

impl Space {
    fn command(&self, op: &MapOp) -> Command {
        match op {
            MapOp::Map { addr, len, source, prot, populate } => {
                let (fd, offset) = match source {
                    MapSource::MemoryFile(offset) => (self.memory.fd().as_raw_fd(), *offset),
                    MapSource::HostFile(fd, offset) => (fd.as_fd().as_raw_fd(), *offset),
                };
                let eager = if *populate == Populate::Eagerly { libc::MAP_POPULATE } else { 0 };
                let flags = libc::MAP_SHARED | libc::MAP_FIXED | eager;
                let word = |x: i32| u64::from(x.cast_unsigned());
                Command::new(libc::SYS_mmap, &[*addr, *len, word(prot.bits()), word(flags), word(fd), offset])
            }
            MapOp::Unmap { addr, len } => Command::new(libc::SYS_munmap, &[*addr, *len]),
            MapOp::Protect { addr, len, prot } => {
                Command::new(libc::SYS_mprotect, &[*addr, *len, u64::from(prot.bits().cast_unsigned())])
            }
        }
    }
}

impl AddressSpace for Space {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        let range = GUEST_START..=self.stub.layout().guest_end();
        let commands: Vec<Command> = ops.iter().map(|op| self.command(op)).collect();
        for op in ops {
            let (MapOp::Map { addr, len, .. }
            | MapOp::Unmap { addr, len }
            | MapOp::Protect { addr, len, .. }) = op;
            let is_inside =
                addr.checked_add(*len).is_some_and(|end| range.contains(addr) && range.contains(&end));
            if !is_inside {
                let source = std::io::Error::from_raw_os_error(libc::EINVAL);
                return Err(PlatformError::Host { call: "address outside the guest's range", source });
            }
        }
        self.stub.perform(&commands, "mmap")
    }

    fn new_context(&self, fpu: &FpuState) -> Result<Box<dyn Context>, PlatformError> {
        let tid = self.stub.spawn_thread()?;
        Ok(Box::new(context::PtraceContext::new(self.stub.clone(), tid, fpu.clone())))
    }

    fn is_alive(&self) -> bool {
        self.stub.is_alive()
    }

    fn kill(&self) {
        self.stub.kill();
    }
}
