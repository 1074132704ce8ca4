//! What is written down about one container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::network::{Nat, Restore};
use crate::state::{Event, IllegalTransition, ProcessRef, Status};

/// A container as its state file describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// As of the last change; see [`Record::refresh`].
    pub(crate) status: Status,
    /// The directory of config.json, absolute.
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Seconds since the epoch.
    pub(crate) created_secs: u64,
    /// User who made it.
    pub(crate) owner_uid: u32,
    /// The process whose end is the container's: the sandbox, or in another container's sandbox the one that attends it.
    pub(crate) sandbox: Option<ProcessRef>,
    /// The container in whose sandbox it is, where that is not its own.
    #[serde(default)]
    pub(crate) sandbox_of: Option<String>,
    /// The file server.
    pub(crate) gofer: Option<ProcessRef>,
    /// The command without which the container has no reason to be (`do`).
    pub(crate) caller: Option<ProcessRef>,
    /// Guest id of the first process, once it was started.
    pub(crate) init_pid: Option<i32>,
    /// What was changed on the host.
    pub(crate) host: HostTraces,
}

/// What exists or was changed on the host for a container, apart from its processes and its state directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HostTraces {
    /// Host end of a veth pair.
    pub(crate) veth: Option<String>,
    pub(crate) nat: Option<Nat>,
    /// Addresses and routes taken from a namespace.
    pub(crate) taken: Option<Restore>,
    pub(crate) cgroup: Option<Cgroup>,
}

impl Record {
    /// Corrects the status for what happened since it was written: a sandbox that died leaves no note.
    pub(crate) fn refresh(&mut self) {
        let is_alive = self.sandbox.is_some_and(ProcessRef::is_alive);
        if self.status.is_alive()
            && !is_alive
            && let Ok(status) = self.status.apply(Event::Ended)
        {
            self.status = status;
        }
    }

    /// Applies an event to the status.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), IllegalTransition> {
        self.status = self.status.apply(event)?;
        Ok(())
    }

    /// Pid of the sandbox on the host, 0 when it is gone, as OCI's state shows it: hooks find the namespaces by it while
    /// the container is being made.
    pub(crate) fn pid(&self) -> i32 {
        match self.sandbox {
            Some(process) if self.status != Status::Stopped => process.pid,
            _ => 0,
        }
    }
}
