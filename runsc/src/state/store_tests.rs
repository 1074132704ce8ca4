use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::state::{HostTraces, ProcessRef, Status};

fn record(id: &str) -> Record {
    Record {
        id: id.to_owned(),
        status: Status::Running,
        bundle: "/bundle".into(),
        rootfs: "/bundle/rootfs".into(),
        annotations: BTreeMap::new(),
        created_secs: 1,
        owner_uid: 0,
        sandbox: ProcessRef::own(),
        sandbox_of: None,
        gofer: None,
        caller: None,
        init_pid: Some(1),
        host: HostTraces::default(),
    }
}

#[test]
fn a_container_is_found_until_it_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().join("state"));
    assert!(store.list().unwrap().is_empty());
    let entry = store.create(record("a")).unwrap();
    assert!(matches!(store.create(record("a")), Err(StateError::Exists(id)) if id == "a"));
    drop(entry);
    assert_eq!(store.list().unwrap().len(), 1);
    store.open("a").unwrap().remove().unwrap();
    assert!(matches!(store.open("a"), Err(StateError::Missing(_))));
    assert!(matches!(store.peek("a"), Err(StateError::Missing(_))));
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn a_container_whose_sandbox_died_is_stopped() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().to_owned());
    let mut dead = record("a");
    dead.sandbox = None;
    drop(store.create(dead).unwrap());
    drop(store.create(record("b")).unwrap());
    assert_eq!(store.peek("a").unwrap().status, Status::Stopped);
    assert_eq!(store.open("b").unwrap().record.status, Status::Running);
}

#[test]
fn ids_that_leave_the_directory_are_refused() {
    let store = Store::new("/nowhere".into());
    for id in ["", ".", "..", ".a", "a/b", "../x", "a b", "ü", &"x".repeat(201)] {
        assert!(matches!(store.peek(id), Err(StateError::InvalidId(_))), "{id:?}");
    }
}

#[test]
fn a_damaged_state_file_names_itself() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().to_owned());
    drop(store.create(record("a")).unwrap());
    fs::write(root.path().join("a/state.json"), "{").unwrap();
    let error = store.open("a").unwrap_err();
    assert!(error.to_string().contains("a/state.json: malformed state"), "{error}");
}

/// Ends the other threads of a test even when its own panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_name_that_comes_and_goes_is_locked_as_what_it_is_now() {
    const ROUNDS: u64 = 60;
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().to_owned());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = SetOnDrop(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    match store.open("a") {
                        // Nobody else changes what we have locked.
                        Ok(entry) => {
                            std::thread::yield_now();
                            let now = store.peek("a").map(|record| record.created_secs);
                            assert_eq!(now.ok(), Some(entry.record.created_secs));
                        }
                        Err(StateError::Missing(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            let mut next = record("a");
            next.created_secs = round;
            drop(store.create(next).unwrap());
            let entry = store.open("a").unwrap();
            assert_eq!(entry.record.created_secs, round);
            entry.remove().unwrap();
        }
    });
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn what_dead_commands_began_is_cleared_away() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::new(root.path().to_owned());
    let own = std::process::id();
    // No pid is as large (proc(5), pid_max).
    for name in [".new-99999999", ".old-99999999-a", &format!(".new-{own}"), &format!(".old-{own}-b-c"), "d"]
    {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    store.remove_unfinished();
    let mut left: Vec<_> =
        fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [&*format!(".new-{own}"), &format!(".old-{own}-b-c"), "d"]);
}
