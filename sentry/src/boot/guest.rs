//! The running kernel as requests see it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, RwLock};
use sentry_platform::Prepared;

use crate::boot::{
    BootConfig, ControlError, ExitStatus, NetworkConfig, ProcessConfig, ProcessInfo, SignalTarget, Stats,
};

/// A sandbox: its kernel, its first process, and how that one ended.
pub(super) struct Guest {
    _config: BootConfig,
    _platform: Mutex<Option<Prepared>>,
    end: Mutex<Option<ExitStatus>>,
    ended: Condvar,
    /// Held for reading by whoever still has to tell a command about an end, for writing by the end itself.
    farewell: RwLock<()>,
}

impl Guest {
    /// A kernel with mounts and without processes.
    pub(super) fn new(config: BootConfig, platform: Prepared) -> Result<Arc<Self>, ControlError> {
        Ok(Arc::new(Self {
            _config: config,
            _platform: Mutex::new(Some(platform)),
            end: Mutex::new(None),
            ended: Condvar::new(),
            farewell: RwLock::new(()),
        }))
    }

    /// Sets the network up and starts the first process.
    pub(super) fn start(&self, network: NetworkConfig, sockets: Vec<OwnedFd>) -> Result<i32, ControlError> {
        drop((network, sockets));
        Err(not_now("start"))
    }

    /// Starts another process, with `fds` as its descriptors 0, 1, 2, ...
    pub(super) fn exec(&self, process: ProcessConfig, fds: Vec<OwnedFd>) -> Result<i32, ControlError> {
        drop((process, fds));
        Err(not_now("exec"))
    }

    /// Waits for a process to end.
    pub(super) fn wait(&self, pid: i32) -> Result<ExitStatus, ControlError> {
        Err(ControlError::NoProcess { pid })
    }

    /// Sends a signal and tells whether it went to the first process.
    pub(super) fn signal(&self, target: SignalTarget, signal: i32) -> Result<bool, ControlError> {
        let _ = (target, signal);
        Err(not_now("signal"))
    }

    /// The processes.
    pub(super) fn processes(&self) -> Vec<ProcessInfo> {
        Vec::new()
    }

    /// What the guest uses.
    pub(super) fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Stops guest code.
    pub(super) fn pause(&self) -> Result<(), ControlError> {
        Err(not_now("pause"))
    }

    /// Lets guest code go on.
    pub(super) fn resume(&self) -> Result<(), ControlError> {
        Err(not_now("resume"))
    }

    /// Waits for the first process to end, and for everyone who has to be told.
    pub(super) fn wait_for_end(&self) -> ExitStatus {
        let mut end = self.end.lock();
        loop {
            if let Some(status) = *end {
                drop(end);
                drop(self.farewell.write());
                return status;
            }
            self.ended.wait(&mut end);
        }
    }

    /// Keeps the sandbox from ending while `work` runs.
    pub(super) fn hold_end<T>(&self, work: impl FnOnce() -> T) -> T {
        let _guard = self.farewell.read();
        work()
    }
}

fn not_now(request: &str) -> ControlError {
    ControlError::NotNow { request: request.to_owned() }
}
