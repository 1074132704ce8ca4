//! Who may look at or change another process (`ptrace(2)`, "Ptrace access mode checking").

use crate::errno::Errno;
use crate::task::{Capabilities, Credentials, Task};

/// Which of the caller's ids count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessMode {
    /// Those that files are opened with: what is read in `/proc`.
    FsCreds,
    /// The real ones: `ptrace(2)`, `process_vm_readv(2)`.
    RealCreds,
}

/// Whether somebody with these credentials may; threads of one process always may.
///
/// # Errors
/// `EPERM`.
pub(crate) fn check_access(
    caller: &Task,
    mine: &Credentials,
    target: &Task,
    mode: AccessMode,
) -> Result<(), Errno> {
    if caller.pid() == target.pid() {
        return Ok(());
    }
    let theirs = target.creds();
    let (uid, gid) = match mode {
        AccessMode::FsCreds => (mine.fsuid, mine.fsgid),
        AccessMode::RealCreds => (mine.uid, mine.gid),
    };
    let is_same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == gid);
    let is_open = target.mm().is_none_or(|mm| mm.is_dumpable());
    // The target must not have more than the caller has.
    let has_all = mine.permitted.contains(theirs.permitted);
    if mine.has(Capabilities::SYS_PTRACE) || is_same_user && is_open && has_all {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
