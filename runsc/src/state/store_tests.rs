use std::collections::BTreeMap;

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
