//! The systrap backend: guest threads run in stub processes under seccomp, and every system call and fault of theirs
//! becomes a signal that stub code hands over to the sentry through a shared page.
//!
//! No ptrace, no privilege. Guest threads are host threads of the stub, 1:1 with the sentry's threads that call
//! `switch`; vector state and TLS stay in the host thread. What is shared with the guest is hostile: the sentry copies
//! words once, checks them, and never waits without a timeout; an interrupt that stays unanswered kills the stub.

mod call;
mod call_site;
mod compare_site;
mod context;
mod frame;
mod guest_thread;
mod kick;
mod placement;
mod site_entry;
mod space;

use std::ops::Range;
use std::sync::Arc;

pub use frame::vector_features;
pub use placement::SpinCounters;

use crate::contract::{AddressSpace, Platform, PlatformError};
use crate::memory_file::MemoryFile;
use crate::stub::{GUEST_END, GUEST_START, Template};

/// The platform.
pub(crate) struct Systrap {
    template: Arc<Template>,
    memory: Arc<MemoryFile>,
}

impl Systrap {
    pub(crate) fn new(template: Template, memory: Arc<MemoryFile>) -> Self {
        Self { template: Arc::new(template), memory }
    }
}

impl Platform for Systrap {
    fn name(&self) -> &'static str {
        "systrap"
    }

    fn address_range(&self) -> Range<u64> {
        GUEST_START..GUEST_END
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(space::Space::new(self.template.clone(), self.memory.clone(), None)?))
    }
}
