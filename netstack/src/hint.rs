//! What the compiler cannot know: which branches are rarely taken.
//!
//! By itself it takes the two sides of a branch for equally likely. After ten checks in a row the usual way looks like one in
//! a thousand: it is laid out around the exits, and what it calls is not put in line any more. A way of a packet that fits the
//! first-level instruction cache does not fit it then. So on the ways that each packet goes, exits are marked.
//!
//! The crate's minimum Rust version has no `core::hint::cold_path`; a call of a cold function has the same effect, and vanishes.

/// The branch that calls this is rarely taken.
#[cold]
pub(crate) const fn cold_path() {}

/// `condition`, which is usually true.
#[inline(always)]
pub(crate) const fn likely(condition: bool) -> bool {
    if !condition {
        cold_path();
    }
    condition
}

/// `condition`, which is usually false.
#[inline(always)]
pub(crate) const fn unlikely(condition: bool) -> bool {
    if condition {
        cold_path();
    }
    condition
}
