//! `IOCB_CMD_POLL`: a request that completes when a file is ready.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::fs::aio::context::{Block, Completion};
use crate::vfs::File;
use crate::wait::{Observer, Readiness, WaitId};

/// A poll.
pub(crate) struct AioPoll {
    block: Block,
    interest: Readiness,
    eventfd: Option<Arc<File>>,
    state: Mutex<State>,
}

struct State {
    /// `None` once it has ended.
    active: Option<Active>,
}

/// What a poll holds until it ends.
pub(super) struct Active {
    file: Arc<File>,
    completion: Completion,
    registration: Option<WaitId>,
}

impl AioPoll {
    /// Completes when one of `interest` is true of `file`, which may be at once.
    pub(crate) fn start(
        block: Block,
        file: Arc<File>,
        interest: Readiness,
        eventfd: Option<Arc<File>>,
        completion: Completion,
    ) {
        let context = completion.context().clone();
        let interest = interest | Readiness::ALWAYS;
        let active = Active { file: file.clone(), completion, registration: None };
        let state = Mutex::new(State { active: Some(active) });
        let poll = Arc::new(Self { block, interest, eventfd, state });
        context.keep(poll.clone());
        let registration = file.ops().register(interest, poll.clone());
        let has_ended = {
            let mut state = poll.state.lock();
            match &mut state.active {
                Some(active) => {
                    active.registration = registration;
                    false
                }
                None => true,
            }
        };
        match (has_ended, registration) {
            // It was told before it could say where from.
            (true, Some(id)) => file.ops().unregister(id),
            _ => poll.look(&file),
        }
    }

    pub(super) fn block(&self) -> Block {
        self.block
    }

    /// Completes if the file is ready now.
    fn look(&self, file: &File) {
        let ready = file.ops().readiness(file) & self.interest;
        if !ready.is_empty() {
            self.finish(ready);
        }
    }

    /// Completes with `ready`; false where it has ended already.
    pub(super) fn finish(&self, ready: Readiness) -> bool {
        let Some(active) = self.end() else { return false };
        let Active { completion, .. } = active;
        completion.context().clone().forget(self);
        // The bits are poll(2)'s.
        completion.complete(self.block, i64::from(ready.bits()), self.eventfd.as_deref());
        true
    }

    /// Ends it, and gives what it held.
    pub(super) fn end(&self) -> Option<Active> {
        let active = self.state.lock().active.take()?;
        if let Some(id) = active.registration {
            active.file.ops().unregister(id);
        }
        Some(active)
    }
}

impl Observer for AioPoll {
    fn notify(&self, _: Readiness) {
        let file = self.state.lock().active.as_ref().map(|active| active.file.clone());
        if let Some(file) = file {
            self.look(&file);
        }
    }
}
