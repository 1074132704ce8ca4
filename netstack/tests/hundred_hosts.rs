//! The example with a hundred hosts: what it promises.

#[path = "../examples/hundred_hosts.rs"]
#[expect(dead_code, reason = "the program's own entry is not called here")]
mod program;

#[test]
fn every_page_arrives_and_nothing_is_left() {
    let outcome = program::run(7).unwrap();
    assert_eq!(outcome.pages, 1000);
    // A frame in a hundred was lost: the run shows something.
    assert!(outcome.lost > 100, "{outcome:?}");
    assert!(outcome.left.is_empty(), "{outcome:?}");
}

#[test]
fn a_seed_is_a_run() {
    let first = program::run(1).unwrap();
    assert_eq!(program::run(1).unwrap(), first);
    assert_ne!(program::run(2).unwrap().digest, first.digest);
}
