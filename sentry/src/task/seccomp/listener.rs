//! Calls that filters leave to another process (`SECCOMP_RET_USER_NOTIF`, seccomp_unotify(2)).
//!
//! The thread that makes such a call waits for the listener's answer. A call that is interrupted before is gone for the
//! listener; when it is made again, it is another one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::seccomp::DATA_LEN;

use crate::errno::{Errno, Restart};
use crate::task::restart::Interrupted;
use crate::task::seccomp::Verdict;
use crate::task::{BlockError, CurrentTask, Task};
use crate::wait::{Readiness, WaitQueue};

/// The process that answers for a filter, as a file of its.
#[derive(Default)]
pub(crate) struct Listener {
    state: Mutex<State>,
    events: WaitQueue,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    next_id: u64,
    /// Nobody answers any more.
    is_closed: bool,
    /// Nobody has the filter any more.
    is_orphaned: bool,
    /// A call that was received can be interrupted by fatal signals only (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    holds_received: bool,
}

/// A call that waits.
struct Call {
    id: u64,
    task: Weak<Task>,
    data: [u32; DATA_LEN / 4],
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The listener has not seen it.
    New,
    /// It has.
    Received,
    /// It has answered.
    Answered(Answer),
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is not made, and gives this.
    Return(u64),
    /// It is made.
    Continue,
}

/// A call as the listener sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) id: u64,
    pub(crate) pid: i32,
    pub(crate) data: [u32; DATA_LEN / 4],
}

impl Listener {
    /// A listener without calls; `holds_received` is `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
    pub(crate) fn new(holds_received: bool) -> Arc<Self> {
        let mut bytes = [0; 8];
        // Ids start anywhere, so that nobody takes them for numbers of calls. Without randomness they start at 0.
        let _ = sentry_hostio::random::fill(&mut bytes);
        let state = State { next_id: u64::from_ne_bytes(bytes), holds_received, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), events: WaitQueue::default() })
    }

    /// Told of calls, answers and the end of the filter.
    pub(crate) fn events(&self) -> &WaitQueue {
        &self.events
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let state = self.state.lock();
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, state.calls.iter().any(|call| call.phase == Phase::New));
        ready.set(Readiness::OUT, state.calls.iter().any(|call| call.phase == Phase::Received));
        ready.set(Readiness::HUP, state.is_orphaned);
        ready
    }

    /// The oldest call that was not received; `None` where there is none yet.
    ///
    /// # Errors
    /// `ENOENT` where there will be none.
    pub(crate) fn receive(&self) -> Result<Option<Received>, Errno> {
        let received = {
            let mut state = self.state.lock();
            let is_orphaned = state.is_orphaned;
            match state.calls.iter_mut().find(|call| call.phase == Phase::New) {
                Some(call) => {
                    call.phase = Phase::Received;
                    let pid = call.task.upgrade().map_or(0, |task| task.tid().0);
                    Received { id: call.id, pid, data: call.data }
                }
                None if is_orphaned => return Err(Errno::ENOENT),
                None => return Ok(None),
            }
        };
        self.events.notify(Readiness::OUT);
        Ok(Some(received))
    }

    /// Takes back that a call was received: the listener had no place for it.
    pub(crate) fn unreceive(&self, id: u64) {
        if let Some(call) = self.state.lock().calls.iter_mut().find(|call| call.id == id)
            && call.phase == Phase::Received
        {
            call.phase = Phase::New;
        }
    }

    /// Answers a call.
    ///
    /// # Errors
    /// `ENOENT` where it does not wait any more, `EINPROGRESS` where it was not received or is answered.
    pub(crate) fn answer(&self, id: u64, answer: Answer) -> Result<(), Errno> {
        let task = {
            let mut state = self.state.lock();
            let call = state.find(id)?;
            call.phase = Phase::Answered(answer);
            call.task.upgrade()
        };
        if let Some(task) = task {
            task.waiter().wake();
        }
        Ok(())
    }

    /// The thread whose call was received and waits.
    ///
    /// # Errors
    /// As [`Listener::answer`].
    pub(crate) fn caller(&self, id: u64) -> Result<Arc<Task>, Errno> {
        self.state.lock().find(id)?.task.upgrade().ok_or(Errno::ENOENT)
    }

    /// Nobody answers any more: the calls that wait find that out.
    pub(crate) fn close(&self) {
        let tasks: Vec<_> = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.calls.iter().filter_map(|call| call.task.upgrade()).collect()
        };
        for task in tasks {
            task.waiter().wake();
        }
    }

    /// The filter is gone.
    pub(super) fn orphan(&self) {
        self.state.lock().is_orphaned = true;
        self.events.notify(Readiness::HUP);
    }

    /// Adds a call of `task`; `None` where nobody answers.
    fn add(&self, task: &Arc<Task>, data: [u32; DATA_LEN / 4]) -> Option<u64> {
        let id = {
            let mut state = self.state.lock();
            if state.is_closed {
                return None;
            }
            let id = state.next_id;
            state.next_id = id.wrapping_add(1);
            state.calls.push(Call { id, task: Arc::downgrade(task), data, phase: Phase::New });
            id
        };
        self.events.notify(Readiness::IN);
        Some(id)
    }

    /// The answer to a call that was added; that there will be none is `ENOSYS`.
    fn outcome(&self, id: u64) -> Option<Answer> {
        let state = self.state.lock();
        match state.calls.iter().find(|call| call.id == id).map(|call| call.phase) {
            Some(Phase::Answered(answer)) => Some(answer),
            _ if state.is_closed => Some(Answer::Return(Errno::ENOSYS.to_return_value())),
            _ => None,
        }
    }

    /// Whether only the end of the thread keeps the call from being answered.
    fn is_held(&self, id: u64) -> bool {
        let state = self.state.lock();
        state.holds_received && state.calls.iter().any(|call| call.id == id && call.phase == Phase::Received)
    }

    fn remove(&self, id: u64) {
        self.state.lock().calls.retain(|call| call.id != id);
    }
}

impl State {
    fn find(&mut self, id: u64) -> Result<&mut Call, Errno> {
        let call = self.calls.iter_mut().find(|call| call.id == id).ok_or(Errno::ENOENT)?;
        if call.phase == Phase::Received { Ok(call) } else { Err(Errno::EINPROGRESS) }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl CurrentTask {
    /// Has `listener` decide about the call with `data`.
    pub(super) fn ask_listener(
        &mut self,
        listener: Option<&Arc<Listener>>,
        data: [u32; DATA_LEN / 4],
    ) -> Verdict {
        let added = listener.and_then(|listener| Some((listener, listener.add(self.task(), data)?)));
        let Some((listener, id)) = added else {
            self.regs.rax = Errno::ENOSYS.to_return_value();
            return Verdict::Skip;
        };
        let outcome = loop {
            match self.block_until(None, |_| listener.outcome(id)) {
                Err(BlockError::Interrupted) if listener.is_held(id) && !self.must_leave() => {
                    // Until there is an answer, whatever signals there are.
                    self.waiter().clear();
                    if listener.outcome(id).is_none() && !self.must_leave() {
                        self.waiter().sleep(None);
                    }
                }
                outcome => break outcome,
            }
        };
        listener.remove(id);
        match outcome {
            Ok(Answer::Continue) => Verdict::Proceed,
            Ok(Answer::Return(value)) => {
                self.regs.rax = value;
                Verdict::Skip
            }
            Err(_) => {
                self.regs.rax = Errno::EINTR.to_return_value();
                let number = self.regs.orig_rax;
                self.interrupted_call = Some(Interrupted { restart: Restart::IfSaRestart, number });
                self.request_attention();
                Verdict::Skip
            }
        }
    }

    fn must_leave(&self) -> bool {
        self.thread_group().signals.lock().must_leave(self)
    }
}
