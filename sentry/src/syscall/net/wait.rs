//! Waiting in socket calls: `MSG_DONTWAIT`, `O_NONBLOCK`, `SO_RCVTIMEO` and `SO_SNDTIMEO`.

use std::sync::Arc;
use std::time::Duration;

use crate::errno::{Errno, SysError};
use crate::kernel::KTime;
use crate::socket::{Family, Socket, deadline};
use crate::task::CurrentTask;
use crate::vfs::File;
use crate::wait::Readiness;

/// Whether and how long a call waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    waits: bool,
    deadline: Option<KTime>,
}

/// Takes the `EAGAIN` of a datagram socket that found no free port for an answer (inet_autobind): no waiting helps, as it
/// would with a full buffer.
pub(super) fn without_port<T>(
    socket: &dyn Socket,
    result: Result<T, Errno>,
) -> Result<Result<T, Errno>, Errno> {
    match (result, socket.family()) {
        // Raw sockets have no ports, and streams wait for their handshakes.
        (Err(Errno::EAGAIN), Family::Inet(inet))
            if inet.tcp().is_none() && inet.raw().is_none() && inet.local().port() == 0 =>
        {
            Ok(Err(Errno::EAGAIN))
        }
        (result, _) => result.map(Ok),
    }
}

impl Patience {
    /// For a call on `file` with the timeout of the socket (zero: none); `dont_wait` is `MSG_DONTWAIT`.
    pub(super) fn new(task: &CurrentTask, file: &File, timeout: Duration, dont_wait: bool) -> Self {
        let waits = !dont_wait && !file.is_nonblocking();
        Self { waits, deadline: if waits { deadline(task, timeout) } else { None } }
    }

    /// True where the call may sleep.
    pub(super) fn waits(self) -> bool {
        self.waits
    }

    /// Runs `attempt` until it gives something other than `EAGAIN`.
    ///
    /// # Errors
    /// What `attempt` returns; `EAGAIN` without patience and when the time is over; `EINTR` or a restart on signals:
    /// a call with a timeout is not restarted (signal(7)).
    pub(super) fn wait<T>(
        self,
        task: &mut CurrentTask,
        file: &Arc<File>,
        interest: Readiness,
        mut attempt: impl FnMut(&mut CurrentTask) -> Result<T, Errno>,
    ) -> Result<T, SysError> {
        let mut attempt = |task: &mut CurrentTask| {
            let result = attempt(task);
            if interest == Readiness::OUT && matches!(result, Err(Errno::EAGAIN | Errno::EINPROGRESS)) {
                file.note_full();
            }
            result
        };
        if !self.waits {
            return Ok(attempt(task)?);
        }
        task.block_on_file(file, interest, self.deadline, attempt)
    }
}
