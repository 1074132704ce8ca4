//! The file of a listener for filtered calls (`seccomp_unotify(2)`).

use std::sync::Arc;

use sentry_abi::seccomp::{NotifAddFd, NotifResponse, Notification, addfd, notify_ioctl, response};

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::task::seccomp::{Answer, Listener};
use crate::task::{CurrentTask, Resource, Tid};
use crate::vfs::anon::AnonKind;
use crate::vfs::{Fd, FdFlags, File, FileOps, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId};

/// The end at which calls are received and answered.
struct ListenerFile(Arc<Listener>);

/// Makes the file. Closing it is the end of the listener.
#[must_use]
pub(crate) fn create(listener: Arc<Listener>) -> Arc<File> {
    File::anonymous(Box::new(ListenerFile(listener)), OpenFlags::RDWR, AnonKind::Other("seccomp notify"))
}

impl FileOps for ListenerFile {
    fn readiness(&self, _: &File) -> Readiness {
        self.0.readiness()
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.0.events().register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.0.events().unregister(id);
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        let at = UserAddr(arg);
        match request {
            notify_ioctl::RECV => receive(task, &self.0, at),
            notify_ioctl::SEND => answer(task, &self.0, at),
            notify_ioctl::ID_VALID | notify_ioctl::ID_VALID_WRONG_DIR => {
                let id: u64 = task.mm().read_obj(at)?;
                self.0.caller(id).map_err(|_| Errno::ENOENT)?;
                Ok(0)
            }
            notify_ioctl::ADDFD => add_descriptor(task, &self.0, at),
            // How soon the other one runs, which is soon here.
            notify_ioctl::SET_FLAGS if arg & !notify_ioctl::SYNC_WAKE_UP == 0 => Ok(0),
            _ => Err(Errno::EINVAL.into()),
        }
    }
}

impl Drop for ListenerFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn receive(task: &mut CurrentTask, listener: &Arc<Listener>, at: UserAddr) -> SysResult {
    let before: Notification = task.mm().read_obj(at)?;
    if before != Notification::default() {
        return Err(Errno::EINVAL.into());
    }
    let attempt = |_: &mut CurrentTask| listener.receive().transpose();
    let received = task.block_on_queue(listener.events(), Readiness::IN, None, attempt)??;
    let pid = task.number(Tid(received.pid)).unsigned_abs();
    let notification = Notification { id: received.id, pid, flags: 0, data: received.data };
    if let Err(errno) = task.mm().write_obj(at, &notification) {
        listener.unreceive(received.id);
        return Err(errno.into());
    }
    Ok(0)
}

fn answer(task: &CurrentTask, listener: &Listener, at: UserAddr) -> SysResult {
    let NotifResponse { id, value, error, flags } = task.mm().read_obj(at)?;
    let answer = match flags {
        response::CONTINUE if value == 0 && error == 0 => Answer::Continue,
        0 if error != 0 => Answer::Return(i64::from(error).cast_unsigned()),
        0 => Answer::Return(value.cast_unsigned()),
        _ => return Err(Errno::EINVAL.into()),
    };
    listener.answer(id, answer)?;
    Ok(0)
}

fn add_descriptor(task: &CurrentTask, listener: &Listener, at: UserAddr) -> SysResult {
    let NotifAddFd { id, flags, source, new, new_flags } = task.mm().read_obj(at)?;
    let is_at = flags & addfd::SETFD != 0;
    if new_flags & !OpenFlags::CLOEXEC.bits() != 0
        || flags & !(addfd::SETFD | addfd::SEND) != 0
        || new != 0 && !is_at
    {
        return Err(Errno::EINVAL.into());
    }
    let file = task.files().get(Fd(source.cast_signed()))?;
    let caller = listener.caller(id)?;
    let fd_flags = if new_flags == 0 { FdFlags::empty() } else { FdFlags::CLOEXEC };
    let limit = caller.rlimit(Resource::Nofile).soft;
    let files = caller.files();
    let fd = if is_at {
        let fd = Fd(new.cast_signed());
        drop(files.replace(fd, file, fd_flags, limit)?);
        fd
    } else {
        files.install(file, fd_flags, 0, limit)?
    };
    if flags & addfd::SEND != 0 {
        listener.answer(id, Answer::Return(u64::from(fd.0.unsigned_abs())))?;
    }
    Ok(u64::from(fd.0.unsigned_abs()))
}
