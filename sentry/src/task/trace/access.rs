//! Who may look at or change another process (`ptrace(2)`, "Ptrace access mode checking").

use crate::errno::Errno;
use crate::kernel::UserNamespace;
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
    let may_trace = |namespace: &UserNamespace| mine.has_in(namespace, Capabilities::SYS_PTRACE);
    let may_as_owner = may_trace(&theirs.user_ns);
    if !is_same_user && !may_as_owner {
        return Err(Errno::EPERM);
    }
    // What was made by a program that is not to be looked at is protected in the namespace it was started in.
    if target.mm().is_some_and(|mm| !mm.is_dumpable() && !may_trace(&mm.user_ns())) {
        return Err(Errno::EPERM);
    }
    // The target must not have more than the caller has.
    let my_caps = match mode {
        AccessMode::FsCreds => mine.effective,
        AccessMode::RealCreds => mine.permitted,
    };
    let has_all = mine.user_ns == theirs.user_ns && my_caps.contains(theirs.permitted);
    if has_all || may_as_owner { Ok(()) } else { Err(Errno::EPERM) }
}
