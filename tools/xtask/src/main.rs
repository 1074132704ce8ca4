#![forbid(unsafe_code)]
//! Repository chores: test, bench, docs.

fn main() {}
