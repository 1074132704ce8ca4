//! Life of a container (OCI runtime specification, "State").

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Being made.
    Creating,
    /// Made; the user's program has not been started.
    Created,
    /// The user's program was started and has not ended.
    Running,
    /// Its programs are stopped and can go on.
    Paused,
    /// The user's program has ended.
    Stopped,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Everything for it was made.
    Made,
    /// The user's program was started.
    Started,
    /// Its programs were stopped.
    Paused,
    /// Its programs go on.
    Resumed,
    /// The user's program, or the sandbox before it was started, ended.
    Ended,
}

/// An event that cannot happen in a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a {status} container cannot be {event}")]
pub(crate) struct IllegalTransition {
    status: Status,
    event: Event,
}

impl Status {
    /// The status after `event`.
    pub(crate) fn apply(self, event: Event) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Creating, Event::Made) => Ok(Self::Created),
            (Self::Created, Event::Started) => Ok(Self::Running),
            (Self::Running, Event::Paused) => Ok(Self::Paused),
            (Self::Paused, Event::Resumed) => Ok(Self::Running),
            (Self::Creating | Self::Created | Self::Running | Self::Paused, Event::Ended) => {
                Ok(Self::Stopped)
            }
            (status, event) => Err(IllegalTransition { status, event }),
        }
    }

    /// Tells whether there is a sandbox that can be talked to.
    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::Created | Self::Running | Self::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Made => "made",
            Self::Started => "started",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Ended => "stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [Status; 5] =
        [Status::Creating, Status::Created, Status::Running, Status::Paused, Status::Stopped];

    #[test]
    fn every_pair_of_status_and_event_has_its_outcome() {
        use Event as E;
        use Status as S;
        // Rows: the status before; columns: Made, Started, Paused, Resumed, Ended.
        let table: [(S, [Option<S>; 5]); 5] = [
            (S::Creating, [Some(S::Created), None, None, None, Some(S::Stopped)]),
            (S::Created, [None, Some(S::Running), None, None, Some(S::Stopped)]),
            (S::Running, [None, None, Some(S::Paused), None, Some(S::Stopped)]),
            (S::Paused, [None, None, None, Some(S::Running), Some(S::Stopped)]),
            (S::Stopped, [None, None, None, None, None]),
        ];
        assert_eq!(table.map(|(status, _)| status), STATUSES);
        for (status, outcomes) in table {
            for (event, outcome) in
                [E::Made, E::Started, E::Paused, E::Resumed, E::Ended].into_iter().zip(outcomes)
            {
                let expected = outcome.ok_or(IllegalTransition { status, event });
                assert_eq!(status.apply(event), expected, "{status} + {event}");
            }
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for status in STATUSES {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }
}
