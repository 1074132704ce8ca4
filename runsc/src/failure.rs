//! How a command ends when it fails: one line for the user, one for the engine, and an exit status.

use sentry::boot::ControlError;

use crate::sandbox::ClientError;

/// Exit status of everything that goes wrong in the runtime, as the reference runtime gives it.
pub(crate) const RUNTIME_FAILURE: u8 = 128;

/// The exit status that goes with `error`.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<ClientError>() {
            Some(ClientError::Refused(control)) => Some(control),
            _ => cause.downcast_ref::<ControlError>(),
        })
        .and_then(|control| u8::try_from(control.exit_code()).ok())
        .unwrap_or(RUNTIME_FAILURE)
}

/// `error` with its causes in one line.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut line = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Errors that only pass their source on would say everything twice.
        if last.ends_with(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
        last = text;
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn exec_failures_have_the_status_of_a_shell() {
        let missing = ControlError::ProgramNotFound { program: "x".into(), reason: "no such file".into() };
        let error = anyhow::Error::new(ClientError::from(missing)).context("start container a");
        assert_eq!(exit_code(&error), 127);
        assert_eq!(message(&error), "start container a: exec x: no such file");
        assert_eq!(exit_code(&anyhow::anyhow!("other")), 128);
    }

    #[test]
    fn a_message_is_one_line_and_says_nothing_twice() {
        let io = std::io::Error::other("two\nlines");
        let error = Err::<(), _>(crate::state::StateError::Io { path: "p".into(), source: io })
            .context("first")
            .unwrap_err();
        assert_eq!(message(&error), "first: p: two lines");
    }
}
