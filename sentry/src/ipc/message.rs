//! Message queues (`msgget(2)`, `msgop(2)`, `msgctl(2)`).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use sentry_abi::sysv_ipc::MsqidDs;

use crate::errno::Errno;
use crate::ipc::{IpcId, IpcObject, Permission, now};
use crate::wait::{Readiness, WaitQueue};

/// A queue.
#[derive(Debug)]
pub(crate) struct MessageQueue {
    id: IpcId,
    state: Mutex<QueueState>,
    /// [`Readiness::IN`] for new messages, [`Readiness::OUT`] for room; both at its end.
    events: WaitQueue,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Positive.
    pub(crate) kind: i64,
    pub(crate) text: Vec<u8>,
}

/// What is behind the lock of a queue.
#[derive(Debug)]
pub(crate) struct QueueState {
    permission: Permission,
    messages: VecDeque<Message>,
    /// The sum of the texts.
    bytes: usize,
    /// How many bytes (and how many messages) there may be.
    limit: usize,
    sent_at: i64,
    received_at: i64,
    changed_at: i64,
    last_sender: i32,
    last_receiver: i32,
    is_removed: bool,
}

/// Which message is wanted (`msgrcv(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The first one.
    First,
    /// The first one of a type.
    Kind(i64),
    /// The first one of another type.
    Except(i64),
    /// The first one of the lowest type that is not above this.
    UpTo(i64),
    /// The one at this place (`MSG_COPY`).
    At(usize),
}

impl MessageQueue {
    /// An empty queue for `limit` bytes.
    pub(crate) fn new(id: IpcId, limit: usize, permission: Permission) -> Arc<Self> {
        let state = QueueState {
            permission,
            messages: VecDeque::new(),
            bytes: 0,
            limit,
            sent_at: 0,
            received_at: 0,
            changed_at: now(),
            last_sender: 0,
            last_receiver: 0,
            is_removed: false,
        };
        Arc::new(Self { id, state: Mutex::new(state), events: WaitQueue::default() })
    }

    /// Where to wait.
    pub(crate) fn events(&self) -> &WaitQueue {
        &self.events
    }

    /// Its state, unless it was removed.
    ///
    /// # Errors
    /// `EIDRM`.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, QueueState>, Errno> {
        let state = self.state.lock();
        if state.is_removed { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// Queues a message of process `pid`, or gives it back where it does not fit now.
    ///
    /// # Errors
    /// `EIDRM`.
    pub(crate) fn send(&self, message: Message, pid: i32) -> Result<Option<Message>, Errno> {
        let mut state = self.lock()?;
        if !state.has_room_for(message.text.len()) {
            return Ok(Some(message));
        }
        state.bytes += message.text.len();
        state.messages.push_back(message);
        state.last_sender = pid;
        state.sent_at = now();
        drop(state);
        self.events.notify(Readiness::IN);
        Ok(None)
    }

    /// Takes a message for process `pid`, where there is one. One that is longer than `max` stays, unless it may be cut.
    ///
    /// # Errors
    /// `EIDRM`, `E2BIG`.
    pub(crate) fn receive(
        &self,
        selection: Selection,
        max: usize,
        may_cut: bool,
        pid: i32,
    ) -> Result<Option<Message>, Errno> {
        let mut state = self.lock()?;
        let Some(at) = state.find(selection) else { return Ok(None) };
        if state.messages[at].text.len() > max && !may_cut {
            return Err(Errno::E2BIG);
        }
        if matches!(selection, Selection::At(_)) {
            return Ok(state.messages.get(at).cloned());
        }
        let message = state.messages.remove(at);
        state.bytes -= message.as_ref().map_or(0, |message| message.text.len());
        state.last_receiver = pid;
        state.received_at = now();
        drop(state);
        self.events.notify(Readiness::OUT);
        Ok(message)
    }

    /// Removes it; everybody who waits is told (`IPC_RMID`).
    pub(crate) fn remove(&self) {
        let mut state = self.state.lock();
        state.is_removed = true;
        state.messages.clear();
        state.bytes = 0;
        drop(state);
        self.events.notify(Readiness::IN | Readiness::OUT);
    }

    /// Changes owner, mode and the limit of bytes (`IPC_SET`).
    ///
    /// # Errors
    /// `EIDRM` and those of `change`.
    pub(crate) fn update(
        &self,
        limit: usize,
        change: impl FnOnce(&mut Permission) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.lock()?;
        change(&mut state.permission)?;
        state.limit = limit;
        state.changed_at = now();
        drop(state);
        // Senders may fit now, and receivers may have lost the permission.
        self.events.notify(Readiness::IN | Readiness::OUT);
        Ok(())
    }

    /// `struct msqid64_ds`.
    ///
    /// # Errors
    /// `EIDRM`.
    pub(crate) fn stat(&self) -> Result<MsqidDs, Errno> {
        let state = self.lock()?;
        Ok(MsqidDs {
            perm: state.permission.to_abi(self.id),
            stime: state.sent_at,
            rtime: state.received_at,
            ctime: state.changed_at,
            cbytes: state.bytes as u64,
            qnum: state.messages.len() as u64,
            qbytes: state.limit as u64,
            lspid: state.last_sender,
            lrpid: state.last_receiver,
            unused: [0; 2],
        })
    }
}

impl IpcObject for MessageQueue {
    fn permission(&self) -> Permission {
        self.state.lock().permission
    }
}

impl QueueState {
    /// Who may use it.
    pub(crate) fn permission(&self) -> &Permission {
        &self.permission
    }

    /// msgsnd(2): neither the bytes nor the number of messages may exceed the limit.
    fn has_room_for(&self, len: usize) -> bool {
        self.bytes + len <= self.limit && self.messages.len() < self.limit
    }

    fn find(&self, selection: Selection) -> Option<usize> {
        let first = |is_wanted: &dyn Fn(&Message) -> bool| self.messages.iter().position(is_wanted);
        match selection {
            Selection::First => first(&|_| true),
            Selection::Kind(kind) => first(&|message| message.kind == kind),
            Selection::Except(kind) => first(&|message| message.kind != kind),
            Selection::UpTo(max) => {
                let lowest =
                    self.messages.iter().map(|message| message.kind).min().filter(|kind| *kind <= max)?;
                first(&|message| message.kind == lowest)
            }
            Selection::At(at) => (at < self.messages.len()).then_some(at),
        }
    }
}
