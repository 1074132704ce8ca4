//! The task as its own thread sees it.

/// A task on its own sentry thread: the only holder of its registers and its platform context.
#[derive(Debug)]
pub struct CurrentTask {}
