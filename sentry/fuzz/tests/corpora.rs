//! The committed corpora pass, and so does what is near to them.

use netstack_fuzz::replay;
use sentry_fuzz::TARGETS;

#[test]
fn corpora_are_replayed() {
    replay::corpora(&TARGETS);
}

#[test]
fn noise_is_harmless() {
    replay::noise(&TARGETS);
}

#[test]
fn mutated_corpora_are_harmless() {
    replay::mutations(&TARGETS);
}
