use super::*;

const A: LockOwner = LockOwner::Process { files: FdTableId(1), pid: 10 };
const B: LockOwner = LockOwner::Process { files: FdTableId(2), pid: 20 };

fn range(start: u64, end: u64) -> LockRange {
    LockRange { start, end }
}

fn held(locks: &FileLocks) -> Vec<(u64, u64, LockKind)> {
    let mut all: Vec<_> = locks.records.lock().iter().map(|l| (l.range.start, l.range.end, l.kind)).collect();
    all.sort_by_key(|l| l.0);
    all
}

#[test]
fn unlocking_the_middle_splits() {
    let locks = FileLocks::default();
    locks.set_record(A, Some(LockKind::Exclusive), range(0, 100)).unwrap();
    locks.set_record(A, None, range(40, 60)).unwrap();
    assert_eq!(held(&locks), [(0, 40, LockKind::Exclusive), (60, 100, LockKind::Exclusive)]);
    assert!(locks.set_record(B, Some(LockKind::Exclusive), range(40, 60)).is_ok());
    assert_eq!(locks.set_record(B, Some(LockKind::Shared), range(59, 61)), Err(Errno::EAGAIN));
}

#[test]
fn adjacent_locks_of_one_kind_merge() {
    let locks = FileLocks::default();
    locks.set_record(A, Some(LockKind::Shared), range(0, 10)).unwrap();
    locks.set_record(A, Some(LockKind::Shared), range(10, 20)).unwrap();
    assert_eq!(held(&locks), [(0, 20, LockKind::Shared)]);
}

#[test]
fn converting_a_part_keeps_the_rest() {
    let locks = FileLocks::default();
    locks.set_record(A, Some(LockKind::Exclusive), range(0, 30)).unwrap();
    locks.set_record(A, Some(LockKind::Shared), range(10, 20)).unwrap();
    assert_eq!(
        held(&locks),
        [(0, 10, LockKind::Exclusive), (10, 20, LockKind::Shared), (20, 30, LockKind::Exclusive)]
    );
    assert!(locks.conflict(B, LockKind::Shared, range(10, 20)).is_none());
    assert_eq!(locks.conflict(B, LockKind::Exclusive, range(15, 16)).unwrap().owner, A);
}

#[test]
fn flock_conversion_that_fails_loses_the_old_lock() {
    let locks = FileLocks::default();
    let (a, b) = (LockOwner::Description(1), LockOwner::Description(2));
    locks.flock(a, Some(LockKind::Shared)).unwrap();
    locks.flock(b, Some(LockKind::Shared)).unwrap();
    assert_eq!(locks.flock(a, Some(LockKind::Exclusive)), Err(Errno::EAGAIN));
    assert!(locks.flock(b, Some(LockKind::Exclusive)).is_ok());
}

#[test]
fn ranges_follow_l_start_and_l_len() {
    assert_eq!(LockRange::new(10, 0), Ok(range(10, u64::MAX)));
    assert_eq!(LockRange::new(10, 5), Ok(range(10, 15)));
    assert_eq!(LockRange::new(10, -5), Ok(range(5, 10)));
    assert_eq!(LockRange::new(4, -5), Err(Errno::EINVAL));
    assert_eq!(LockRange::new(-1, 0), Err(Errno::EINVAL));
    assert_eq!(LockRange::new(i64::MAX, 2), Err(Errno::EOVERFLOW));
}
