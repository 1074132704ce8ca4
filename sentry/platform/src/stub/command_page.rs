//! The command page of a stub: what the sentry wants from the system call thread.
//!
//! The page is read-only in the stub. The reply page behind it is, too; the system call thread writes it through the
//! control file's descriptor.

/// `u32`: number of the current batch; the system call thread sleeps on it.
pub(crate) const SEQUENCE: u64 = 0;
/// `u32`: commands in the batch.
pub(crate) const COUNT: u64 = 4;
/// `u32`: whether the sentry sleeps on the reply.
pub(crate) const SENTRY_WAITS: u64 = 8;
/// `u64`: where the reply page is in the control file.
pub(crate) const REPLY_OFFSET: u64 = 16;
/// `stack_t`: signal stack of the guest thread to be started.
pub(crate) const SIGNAL_STACK: u64 = 32;
/// The commands.
pub(crate) const LIST: u64 = 64;
/// The size of a command: `u32` number, `u32` rule, six arguments, expected result.
pub(crate) const COMMAND_LEN: u64 = 64;
/// Commands that fit.
pub(crate) const MAX_BATCH: usize = 62;

/// In the reply page, `u32`: number of the last batch done.
pub(crate) const REPLY_SEQUENCE: u64 = 0;
/// In the reply page, `u32`: zero, or one plus the index of the command that failed.
pub(crate) const REPLY_STATUS: u64 = 4;

/// The command succeeded if the result is the expected one.
pub(crate) const RULE_EXACT: u32 = 0;
/// The command succeeded if the result is not negative.
pub(crate) const RULE_POSITIVE: u32 = 1;

const _: () = assert!(LIST + COMMAND_LEN * MAX_BATCH as u64 <= 4096);

/// One host call for the system call thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) number: libc::c_long,
    pub(crate) args: [u64; 6],
    /// The only result that counts as success; `None` for any that is not negative.
    pub(crate) expected: Option<u64>,
}

impl Command {
    /// A call that returns `expected`.
    pub(crate) fn exact(number: libc::c_long, args: &[u64], expected: u64) -> Self {
        Self { expected: Some(expected), ..Self::positive(number, args) }
    }

    /// A call that returns something not negative.
    pub(crate) fn positive(number: libc::c_long, args: &[u64]) -> Self {
        let mut six = [0; 6];
        six[..args.len()].copy_from_slice(args);
        Self { number, args: six, expected: None }
    }
}
