//! What rules look at.

use crate::conntrack::ConnState;
use crate::ip::Transit;
use crate::time::Instant;

/// A packet at a hook.
pub(super) struct Subject<'a> {
    pub(super) transit: &'a mut Transit,
    /// The name of the NIC it came in through.
    pub(super) input: Option<&'a str>,
    /// The name of the NIC it leaves through.
    pub(super) output: Option<&'a str>,
    /// What it is to its flow.
    pub(super) state: ConnState,
    pub(super) now: Instant,
}
