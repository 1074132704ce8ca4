//! Giving up everything that the sandbox process does not need, in the order in which it can be given up.

use std::io;

use sentry_hostio::caps::{self, CapSet};
use sentry_hostio::{empty_root, privilege, tty};
use thiserror::Error;

/// A step of the isolation that failed; the sandbox must not go on.
#[derive(Debug, Error)]
#[error("isolate the sandbox: {step}: {source}")]
pub(super) struct IsolateError {
    step: &'static str,
    source: io::Error,
}

/// Before the platform's template is forked, so that it and every stub inherit it: an empty root, no session, no
/// capabilities, no way to get any. `terminal` is the guest's, where nobody outside has it as his own: nobody else
/// would be told of its keys' signals.
pub(super) fn before_template(dies_with_parent: bool, terminal: Option<i32>) -> Result<(), IsolateError> {
    let step = |step| move |source| IsolateError { step, source };
    privilege::new_session().map_err(step("leave the session"))?;
    if let Some(terminal) = terminal {
        match tty::take_control(terminal) {
            // It controls the session of whoever started us, who passes signals on then.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EPERM as i32) => {}
            outcome => outcome.map_err(step("take the terminal"))?,
        }
    }
    privilege::raise_open_files().map_err(step("raise the limit of open files"))?;
    empty_root::enter_empty().map_err(step("enter an empty root"))?;
    privilege::set_no_new_privs().map_err(step("set no_new_privs"))?;
    caps::restrict_to(CapSet::EMPTY).map_err(step("drop capabilities"))?;
    if dies_with_parent {
        // Again: the change of credentials before exec has undone it.
        privilege::die_with_parent().map_err(step("bind to the caller"))?;
    }
    Ok(())
}

/// After the template is forked: it has to stay traceable for platforms that trace stubs, the sentry does not.
pub(super) fn after_template() -> Result<(), IsolateError> {
    privilege::forbid_dumps().map_err(|source| IsolateError { step: "forbid core dumps", source })
}
