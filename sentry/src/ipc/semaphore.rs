//! Semaphore sets (`semget(2)`, `semop(2)`, `semctl(2)`).
//!
//! The operations of one call happen all or not at all. Calls that have to wait queue at the set in order of arrival;
//! whoever changes a value carries out those that have become possible, so that a sleeper wakes to find its call done.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use sentry_abi::sysv_ipc::{IPC_NOWAIT, SEM_UNDO, SemBuf, SemidDs};

use crate::errno::Errno;
use crate::ipc::{IpcId, IpcObject, Permission, now};
use crate::task::TaskWaiter;

/// The largest value.
pub(crate) const SEMVMX: u16 = 32_767;
/// Semaphores in one set.
pub(crate) const SEMMSL: usize = 32_000;
/// Operations of one call.
pub(crate) const SEMOPM: usize = 500;

/// A set.
#[derive(Debug)]
pub(crate) struct SemaphoreSet {
    id: IpcId,
    len: usize,
    state: Mutex<SetState>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Semaphore {
    value: u16,
    /// The process that changed it last.
    pid: i32,
}

/// What is behind the lock of a set.
#[derive(Debug)]
pub(crate) struct SetState {
    permission: Permission,
    operated_at: i64,
    changed_at: i64,
    semaphores: Vec<Semaphore>,
    pending: VecDeque<Arc<PendingOperations>>,
    /// What is added back when a process ends, by [`super::SemaphoreUndo`].
    adjustments: Vec<(u64, Vec<i16>)>,
    is_removed: bool,
}

/// The operations of one call that waits.
#[derive(Debug)]
pub(crate) struct PendingOperations {
    operations: Vec<SemBuf>,
    undo: Option<u64>,
    pid: i32,
    waiter: Arc<TaskWaiter>,
    state: Mutex<PendingState>,
}

#[derive(Debug)]
struct PendingState {
    outcome: Option<Result<(), Errno>>,
    /// The operation that cannot happen, as an index.
    blocked_on: usize,
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Step {
    /// All operations happened.
    Done,
    /// None happened; the call waits.
    Waits(Arc<PendingOperations>),
}

/// Why operations did not happen.
enum Refusal {
    /// The one with this index has to wait.
    Blocked(usize),
    Failed(Errno),
}

impl SemaphoreSet {
    /// A set of `len` semaphores, all 0.
    pub(crate) fn new(id: IpcId, len: usize, permission: Permission) -> Arc<Self> {
        let state = SetState {
            permission,
            operated_at: 0,
            changed_at: now(),
            semaphores: vec![Semaphore::default(); len],
            pending: VecDeque::new(),
            adjustments: Vec::new(),
            is_removed: false,
        };
        Arc::new(Self { id, len, state: Mutex::new(state) })
    }

    /// How many semaphores it has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Its state, unless it was removed.
    ///
    /// # Errors
    /// `EIDRM`.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, SetState>, Errno> {
        let state = self.state.lock();
        if state.is_removed { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// Removes it; everybody who waits is told (`IPC_RMID`).
    pub(crate) fn remove(&self) {
        let mut state = self.state.lock();
        state.is_removed = true;
        for pending in std::mem::take(&mut state.pending) {
            pending.finish(Err(Errno::EIDRM));
        }
    }

    /// `struct semid64_ds`.
    ///
    /// # Errors
    /// `EIDRM`.
    pub(crate) fn stat(&self) -> Result<SemidDs, Errno> {
        let state = self.lock()?;
        Ok(SemidDs {
            perm: state.permission.to_abi(self.id),
            otime: state.operated_at,
            ctime: state.changed_at,
            nsems: self.len as u64,
            ..SemidDs::default()
        })
    }
}

impl IpcObject for SemaphoreSet {
    fn permission(&self) -> Permission {
        self.state.lock().permission
    }
}

impl SetState {
    /// Who may use it.
    pub(crate) fn permission(&self) -> &Permission {
        &self.permission
    }

    /// Carries out `operations`, whose numbers the caller checked, for process `pid`; those with `SEM_UNDO` are
    /// remembered for `undo`. The waiter of [`Step::Waits`] is woken when its outcome is there.
    ///
    /// # Errors
    /// `EAGAIN`, `ERANGE`.
    pub(crate) fn operate(
        &mut self,
        operations: &[SemBuf],
        undo: Option<u64>,
        pid: i32,
        waiter: &Arc<TaskWaiter>,
    ) -> Result<Step, Errno> {
        match self.attempt(operations, undo, pid) {
            Ok(()) => {
                self.settle(operations.iter().any(|operation| operation.op != 0));
                Ok(Step::Done)
            }
            Err(Refusal::Failed(errno)) => Err(errno),
            Err(Refusal::Blocked(at)) if i32::from(operations[at].flags) & IPC_NOWAIT != 0 => {
                Err(Errno::EAGAIN)
            }
            Err(Refusal::Blocked(blocked_on)) => {
                let pending = Arc::new(PendingOperations {
                    operations: operations.to_vec(),
                    undo,
                    pid,
                    waiter: waiter.clone(),
                    state: Mutex::new(PendingState { outcome: None, blocked_on }),
                });
                self.pending.push_back(pending.clone());
                Ok(Step::Waits(pending))
            }
        }
    }

    /// Gives up waiting, unless the outcome is there.
    pub(crate) fn cancel(&mut self, pending: &Arc<PendingOperations>) {
        self.pending.retain(|other| !Arc::ptr_eq(other, pending));
    }

    /// The operations in order; what was done is taken back where one cannot happen.
    fn attempt(&mut self, operations: &[SemBuf], undo: Option<u64>, pid: i32) -> Result<(), Refusal> {
        for (at, operation) in operations.iter().enumerate() {
            if let Err(refusal) = self.attempt_one(at, operation, undo) {
                for done in operations[..at].iter().rev() {
                    self.take_back(done, undo);
                }
                return Err(refusal);
            }
        }
        for operation in operations {
            self.semaphores[usize::from(operation.num)].pid = pid;
        }
        self.operated_at = now();
        Ok(())
    }

    fn attempt_one(&mut self, at: usize, operation: &SemBuf, undo: Option<u64>) -> Result<(), Refusal> {
        let num = usize::from(operation.num);
        let value = i32::from(self.semaphores[num].value);
        let new = value + i32::from(operation.op);
        if (operation.op == 0 && value != 0) || new < 0 {
            return Err(Refusal::Blocked(at));
        }
        let new = u16::try_from(new).ok().filter(|new| *new <= SEMVMX);
        let new = new.ok_or(Refusal::Failed(Errno::ERANGE))?;
        if let Some(undo) = undo.filter(|_| i32::from(operation.flags) & SEM_UNDO != 0) {
            let adjustment = &mut self.adjustments_of(undo)[num];
            *adjustment = adjustment.checked_sub(operation.op).ok_or(Refusal::Failed(Errno::ERANGE))?;
        }
        self.semaphores[num].value = new;
        Ok(())
    }

    /// Takes back an operation that was done.
    fn take_back(&mut self, operation: &SemBuf, undo: Option<u64>) {
        let num = usize::from(operation.num);
        let value = &mut self.semaphores[num].value;
        *value = value.wrapping_add_signed(operation.op.wrapping_neg());
        if let Some(undo) = undo.filter(|_| i32::from(operation.flags) & SEM_UNDO != 0) {
            let adjustment = &mut self.adjustments_of(undo)[num];
            *adjustment = adjustment.wrapping_add(operation.op);
        }
    }

    fn adjustments_of(&mut self, undo: u64) -> &mut Vec<i16> {
        let at = self.adjustments.iter().position(|(owner, _)| *owner == undo).unwrap_or_else(|| {
            self.adjustments.push((undo, vec![0; self.semaphores.len()]));
            self.adjustments.len() - 1
        });
        &mut self.adjustments[at].1
    }

    /// Carries out what has become possible. What only waits for zero changes nothing for others.
    fn settle(&mut self, mut is_changed: bool) {
        while std::mem::take(&mut is_changed) {
            for pending in self.pending.clone() {
                let attempt = self.attempt(&pending.operations, pending.undo, pending.pid);
                let outcome = match attempt {
                    Ok(()) => Ok(()),
                    Err(Refusal::Failed(errno)) => Err(errno),
                    Err(Refusal::Blocked(at)) => {
                        let operation = &pending.operations[at];
                        if i32::from(operation.flags) & IPC_NOWAIT == 0 {
                            pending.state.lock().blocked_on = at;
                            continue;
                        }
                        Err(Errno::EAGAIN)
                    }
                };
                self.cancel(&pending);
                pending.finish(outcome);
                if outcome.is_ok() && pending.operations.iter().any(|operation| operation.op != 0) {
                    // Those before it in the queue get another chance first.
                    is_changed = true;
                    break;
                }
            }
        }
    }

    /// Adds back what the process of `undo` owes, as far as values allow.
    pub(crate) fn apply_adjustments(&mut self, undo: u64, pid: i32) {
        let Some(at) = self.adjustments.iter().position(|(owner, _)| *owner == undo) else { return };
        let (_, adjustments) = self.adjustments.swap_remove(at);
        let mut is_changed = false;
        for (semaphore, by) in self.semaphores.iter_mut().zip(adjustments).filter(|(_, by)| *by != 0) {
            semaphore.value = semaphore.value.saturating_add_signed(by).min(SEMVMX);
            semaphore.pid = pid;
            is_changed = true;
        }
        self.settle(is_changed);
    }

    /// The value of one semaphore; the caller checked the number.
    pub(crate) fn value(&self, num: usize) -> u16 {
        self.semaphores[num].value
    }

    /// The process that changed it last.
    pub(crate) fn last_pid(&self, num: usize) -> i32 {
        self.semaphores[num].pid
    }

    /// How many calls wait for it to grow, or (`for_zero`) to become zero.
    pub(crate) fn waiting_count(&self, num: usize, for_zero: bool) -> usize {
        let is_one = |pending: &&Arc<PendingOperations>| {
            let operation = pending.operations[pending.state.lock().blocked_on];
            usize::from(operation.num) == num && (operation.op == 0) == for_zero
        };
        self.pending.iter().filter(is_one).count()
    }

    /// All values.
    pub(crate) fn values(&self) -> Vec<u16> {
        self.semaphores.iter().map(|semaphore| semaphore.value).collect()
    }

    /// Sets one value (`SETVAL`); nobody's changes to it are taken back any more.
    pub(crate) fn set_value(&mut self, num: usize, value: u16, pid: i32) {
        self.semaphores[num] = Semaphore { value, pid };
        for (_, adjustments) in &mut self.adjustments {
            adjustments[num] = 0;
        }
        self.changed_at = now();
        self.settle(true);
    }

    /// Sets all values (`SETALL`).
    pub(crate) fn set_values(&mut self, values: &[u16], pid: i32) {
        for (semaphore, value) in self.semaphores.iter_mut().zip(values) {
            *semaphore = Semaphore { value: *value, pid };
        }
        self.adjustments.clear();
        self.changed_at = now();
        self.settle(true);
    }

    /// Changes owner and mode (`IPC_SET`).
    ///
    /// # Errors
    /// Those of `change`.
    pub(crate) fn update(
        &mut self,
        change: impl FnOnce(&mut Permission) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        change(&mut self.permission)?;
        self.changed_at = now();
        Ok(())
    }
}

impl PendingOperations {
    fn finish(&self, outcome: Result<(), Errno>) {
        self.state.lock().outcome = Some(outcome);
        self.waiter.wake();
    }

    /// How it ended, once it has.
    pub(crate) fn outcome(&self) -> Option<Result<(), Errno>> {
        self.state.lock().outcome
    }
}
