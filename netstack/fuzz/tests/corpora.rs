//! The committed corpora pass, and so does what is near to them.

use netstack_fuzz::{TARGETS, replay};

/// What needs no network of its own is replayed in any case; the gateway's corpus would pass without being looked at.
fn note_what_is_not_possible() {
    if !netstack_fuzz::usernet_is_possible() {
        let _ = integration_tests::is_missing(&integration_tests::Need::Root, module_path!(), line!());
    }
}

#[test]
fn corpora_are_replayed() {
    note_what_is_not_possible();
    replay::corpora(&TARGETS);
}

#[test]
fn noise_is_harmless() {
    replay::noise(&TARGETS);
}

#[test]
fn mutated_corpora_are_harmless() {
    note_what_is_not_possible();
    replay::mutations(&TARGETS);
}
