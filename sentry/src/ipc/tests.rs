//! Objects without tasks: ids, permissions, operations that are done for sleepers.

use std::sync::Arc;

use sentry_abi::sysv_ipc::{IPC_CREAT, IPC_EXCL, IPC_NOWAIT, IPC_PRIVATE, SEM_UNDO, SemBuf};

use super::*;
use crate::errno::Errno;
use crate::task::{Capabilities, Credentials, Gid, TaskWaiter, Uid};

fn queue(
    registry: &Registry<MessageQueue>,
    key: i32,
    flags: i32,
    creds: &Credentials,
) -> Result<IpcId, Errno> {
    let request = Request { key, flags, creds, owner: &creds.user_ns, limit: 4 };
    registry.get(&request, |_| Ok(()), |_, id, permission| Ok(MessageQueue::new(id, 100, permission)))
}

#[test]
fn ids_tell_apart_who_had_the_same_place() {
    let (registry, root) = (Registry::default(), Credentials::root());
    let first = queue(&registry, 7, IPC_CREAT | 0o600, &root).expect("a queue");
    let second = queue(&registry, IPC_PRIVATE, 0o600, &root).expect("another");
    assert_eq!((first.0, second.0), (0, 1));
    assert_eq!(queue(&registry, 7, 0, &root), Ok(first));
    assert_eq!(queue(&registry, 7, IPC_CREAT | IPC_EXCL, &root), Err(Errno::EEXIST));
    assert_eq!(queue(&registry, 8, 0, &root), Err(Errno::ENOENT));
    registry.remove(first);
    assert_eq!(registry.by_id(first).map(|_| ()), Err(Errno::EINVAL));
    for place in 2..=63 {
        let next = queue(&registry, 7, IPC_CREAT, &root).expect("one after another");
        assert_eq!(next.0, place);
        registry.remove(next);
    }
    let third = queue(&registry, 7, IPC_CREAT, &root).expect("a third");
    assert_eq!(third.0, 1 << 15, "the place is the first one's, the sequence is not");
    assert_eq!(registry.by_id(first).map(|_| ()), Err(Errno::EINVAL));
    for _ in 0..2 {
        queue(&registry, IPC_PRIVATE, 0, &root).expect("up to the limit");
    }
    assert_eq!(queue(&registry, IPC_PRIVATE, 0, &root), Err(Errno::ENOSPC));
}

#[test]
fn permissions_are_those_of_the_callers_class() {
    let user = |uid, gid| Credentials::new(Uid(uid), Gid(gid), &[], Capabilities::empty());
    let registry = Registry::default();
    queue(&registry, 1, IPC_CREAT | 0o640, &user(5, 50)).expect("a queue");
    assert!(queue(&registry, 1, 0o600, &user(5, 1)).is_ok());
    assert!(queue(&registry, 1, 0o400, &user(6, 50)).is_ok());
    assert_eq!(queue(&registry, 1, 0o600, &user(6, 50)), Err(Errno::EACCES));
    assert_eq!(queue(&registry, 1, 0o400, &user(6, 60)), Err(Errno::EACCES));
    assert!(queue(&registry, 1, 0, &user(6, 60)).is_ok(), "nothing is asked for");
    assert!(queue(&registry, 1, 0o600, &Credentials::root()).is_ok());
}

fn set(len: usize) -> Arc<SemaphoreSet> {
    SemaphoreSet::new(IpcId(0), len, Permission::new(0, 0o600, &Credentials::root()))
}

fn operation(num: u16, op: i16, flags: i32) -> SemBuf {
    SemBuf { num, op, flags: i16::try_from(flags).expect("small flags") }
}

#[track_caller]
fn operate(set: &SemaphoreSet, operations: &[SemBuf], undo: Option<u64>) -> Result<Step, Errno> {
    set.lock().expect("a set").operate(operations, undo, 9, &Arc::<TaskWaiter>::default())
}

#[track_caller]
fn waits(set: &SemaphoreSet, operations: &[SemBuf]) -> Arc<PendingOperations> {
    match operate(set, operations, None) {
        Ok(Step::Waits(pending)) => pending,
        other => panic!("it does not wait: {other:?}"),
    }
}

#[test]
fn operations_happen_all_or_not_at_all() {
    let set = set(2);
    let refused = operate(&set, &[operation(0, 3, 0), operation(1, -1, IPC_NOWAIT)], None);
    assert_eq!(refused.map(|_| ()), Err(Errno::EAGAIN));
    let refused = operate(&set, &[operation(0, 32_767, 0), operation(0, 1, 0)], None);
    assert_eq!(refused.map(|_| ()), Err(Errno::ERANGE));
    assert_eq!(set.lock().expect("a set").values(), [0, 0]);
    let sleeper = waits(&set, &[operation(0, -2, 0), operation(1, 5, 0)]);
    let zero = waits(&set, &[operation(1, -5, 0), operation(0, 0, 0)]);
    assert_eq!(set.lock().expect("a set").waiting_count(0, false), 1);
    assert!(operate(&set, &[operation(0, 1, 0)], None).is_ok());
    assert_eq!(sleeper.outcome(), None);
    assert!(operate(&set, &[operation(0, 1, 0)], None).is_ok());
    assert_eq!(sleeper.outcome(), Some(Ok(())), "done by the one who made it possible");
    assert_eq!(zero.outcome(), Some(Ok(())), "and what that made possible");
    assert_eq!(set.lock().expect("a set").values(), [0, 0]);
}

#[test]
fn removal_wakes_everybody() {
    let set = set(1);
    let sleeper = waits(&set, &[operation(0, -1, 0)]);
    set.remove();
    assert_eq!(sleeper.outcome(), Some(Err(Errno::EIDRM)));
    assert_eq!(set.lock().map(|_| ()), Err(Errno::EIDRM));
}

#[test]
fn what_a_process_owes_comes_back_when_it_ends() {
    let set = set(2);
    let undo = SemaphoreUndo::new(9);
    undo.note(&set);
    set.lock().expect("a set").set_values(&[4, 0], 1);
    let take = [operation(0, -3, SEM_UNDO), operation(1, 2, SEM_UNDO)];
    assert!(operate(&set, &take, Some(undo.id())).is_ok());
    let sleeper = waits(&set, &[operation(0, -4, 0)]);
    assert!(operate(&set, &[operation(1, -1, 0)], None).is_ok());
    drop(undo);
    assert_eq!(sleeper.outcome(), Some(Ok(())));
    assert_eq!(set.lock().expect("a set").values(), [0, 0], "not below zero");
}

#[test]
fn messages_are_chosen_by_type() {
    let queue = MessageQueue::new(IpcId(0), 10, Permission::new(0, 0o600, &Credentials::root()));
    for (kind, text) in [(3, "c"), (1, "a"), (2, "b"), (1, "aa")] {
        let message = Message { kind, text: text.into() };
        assert_eq!(queue.send(message, 1), Ok(None));
    }
    let big = Message { kind: 1, text: vec![0; 6] };
    assert_eq!(queue.send(big.clone(), 1), Ok(Some(big)), "there is no room");
    let take = |selection, max, may_cut| queue.receive(selection, max, may_cut, 2).map(|m| m.map(|m| m.text));
    assert_eq!(take(Selection::At(2), 9, false), Ok(Some(b"b".to_vec())));
    assert_eq!(take(Selection::UpTo(2), 9, false), Ok(Some(b"a".to_vec())));
    assert_eq!(take(Selection::Kind(1), 1, false), Err(Errno::E2BIG));
    assert_eq!(take(Selection::Kind(1), 1, true), Ok(Some(b"aa".to_vec())));
    assert_eq!(take(Selection::Except(3), 9, false), Ok(Some(b"b".to_vec())));
    assert_eq!(take(Selection::Kind(1), 9, false), Ok(None));
    assert_eq!(take(Selection::First, 9, false), Ok(Some(b"c".to_vec())));
    queue.remove();
    assert_eq!(queue.receive(Selection::First, 9, false, 2), Err(Errno::EIDRM));
}
