//! Blocking: try, register, try again, sleep interruptibly, unregister.

use std::sync::Arc;

use crate::errno::{Errno, Restart, SysError};
use crate::kernel::KTime;
use crate::task::{CurrentTask, RunState};
use crate::vfs::File;
use crate::wait::{Readiness, WaitId, WaitQueue};

/// Why a sleep ended without what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A signal, a stop or the end of the process came.
    #[error("interrupted")]
    Interrupted,
    /// The deadline passed.
    #[error("timed out")]
    TimedOut,
}

impl From<BlockError> for SysError {
    /// The usual outcome: `ERESTARTSYS` and `ETIMEDOUT`. Calls that differ match on the error.
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Interrupted => Restart::IfSaRestart.into(),
            BlockError::TimedOut => Errno::ETIMEDOUT.into(),
        }
    }
}

impl CurrentTask {
    /// Runs `attempt` until it gives something other than `EAGAIN`, sleeping on `file` in between; with `O_NONBLOCK`
    /// only once.
    ///
    /// # Errors
    /// What `attempt` returns; `EAGAIN` for non-blocking files and when `deadline`, or else the file's
    /// patience (`SO_RCVTIMEO`), is over; on signals `ERESTARTSYS`, or `EINTR` where there was a time limit.
    pub fn block_on_file<T>(
        &mut self,
        file: &Arc<File>,
        interest: Readiness,
        deadline: Option<KTime>,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Errno>,
    ) -> Result<T, SysError> {
        match attempt(self) {
            Err(Errno::EAGAIN) if !file.is_nonblocking() => {}
            done => return Ok(done?),
        }
        let deadline = deadline.or_else(|| {
            let span = u64::try_from(file.ops().patience(interest)?.as_nanos()).unwrap_or(u64::MAX);
            Some(self.kernel().clocks().monotonic().saturating_add(span))
        });
        let turns = file.ops().turns();
        let id = match turns {
            Some(queue) => Some(queue.register_in_turn(interest, self.waiter().clone())),
            None => file.ops().register(interest, self.waiter().clone()),
        };
        let result = self.block_until(deadline, |task| match attempt(task) {
            Err(Errno::EAGAIN) => None,
            done => Some(done),
        });
        if let Some(id) = id {
            match turns {
                Some(queue) => leave_turns(queue, id, interest, || file.ops().readiness(file)),
                None => file.ops().unregister(id),
            }
        }
        match result {
            Ok(done) => Ok(done?),
            // signal(7): a socket call with a timeout is not restarted.
            Err(BlockError::Interrupted) if deadline.is_some() => Err(Errno::EINTR.into()),
            Err(BlockError::Interrupted) => Err(Restart::IfSaRestart.into()),
            Err(BlockError::TimedOut) => Err(Errno::EAGAIN.into()),
        }
    }

    /// Runs `attempt` until it gives something, sleeping on `queue` in between.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn block_on_queue<T>(
        &mut self,
        queue: &WaitQueue,
        interest: Readiness,
        deadline: Option<KTime>,
        mut attempt: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, BlockError> {
        if let Some(done) = attempt(self) {
            return Ok(done);
        }
        let id = queue.register(interest, self.waiter().clone());
        let result = self.block_until(deadline, attempt);
        queue.unregister(id);
        result
    }

    /// The same where one waiter is enough for each piece of news; `ready` computes whether there is more for the next.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn block_in_turn<T>(
        &mut self,
        queue: &WaitQueue,
        interest: Readiness,
        deadline: Option<KTime>,
        attempt: impl FnMut(&mut Self) -> Option<T>,
        ready: impl FnOnce() -> Readiness,
    ) -> Result<T, BlockError> {
        let id = queue.register_in_turn(interest, self.waiter().clone());
        let result = self.block_until(deadline, attempt);
        leave_turns(queue, id, interest, ready);
        result
    }

    /// Runs `attempt` until it gives something, sleeping in between until the task's waiter is woken. The caller
    /// has registered [`crate::task::Task::waiter`] wherever news can come from.
    ///
    /// # Errors
    /// [`BlockError`].
    pub fn block_until<T>(
        &mut self,
        deadline: Option<KTime>,
        mut attempt: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, BlockError> {
        let wake_at = deadline.and_then(|at| self.kernel().clocks().host_instant(at));
        loop {
            self.waiter().clear();
            if let Some(done) = attempt(self) {
                return Ok(done);
            }
            if self.is_interrupted() {
                return Err(BlockError::Interrupted);
            }
            if deadline.is_some_and(|at| at <= self.kernel().clocks().monotonic()) {
                return Err(BlockError::TimedOut);
            }
            self.set_run_state(RunState::Sleeping);
            self.waiter().sleep(wake_at);
            self.set_run_state(RunState::Running);
        }
    }
}

/// Ends a wait in turn: what it was woken for and has left is for the next.
fn leave_turns(queue: &WaitQueue, id: WaitId, interest: Readiness, ready: impl FnOnce() -> Readiness) {
    queue.unregister(id);
    if !queue.is_empty() {
        let left = ready() & interest;
        if !left.is_empty() {
            queue.notify_next(left);
        }
    }
}
