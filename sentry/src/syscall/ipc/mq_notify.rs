//! `mq_notify(2)`.

use std::sync::Arc;

use sentry_abi::sigevent::{SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SigEvent};
use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::errno::{Errno, SysResult};
use crate::fs::mqueue;
use crate::ipc::{Announce, Notification};
use crate::mm::UserAddr;
use crate::socket::netlink::NetlinkSocket;
use crate::socket::{Family, SocketFile};
use crate::syscall::Args;
use crate::syscall::file::context::real_file;
use crate::task::{CurrentTask, ThreadGroup};
use crate::vfs::Fd;

/// What the C library gets back when its thread is to be started: bytes of its own, of which the last tells why
/// (`NOTIFY_COOKIE_LEN`, `NOTIFY_WOKENUP`, `NOTIFY_REMOVED`).
const COOKIE_BYTES: usize = 32;
const WOKEN: u8 = 1;
const REMOVED: u8 = 2;

/// `mq_notify(2)`.
pub(crate) fn sys_mq_notify(task: &mut CurrentTask, args: &Args) -> SysResult {
    let event_at = args.addr(1);
    if event_at.is_null() {
        let file = real_file(task, args.fd(0))?;
        let queue = mqueue::queue_of(&file).ok_or(Errno::EBADF)?;
        queue.unregister(task.thread_group());
        return Ok(0);
    }
    let event: SigEvent = task.mm().read_obj(event_at)?;
    let announce: Box<dyn Announce> = match event.notify {
        SIGEV_NONE => Box::new(Nobody),
        SIGEV_SIGNAL => match event.signo {
            // Linux takes 0, which is no signal to send.
            0 => Box::new(Nobody),
            number => {
                let signal = Signal::new(number).ok_or(Errno::EINVAL)?;
                Box::new(BySignal { signal, value: event.value })
            }
        },
        SIGEV_THREAD => Box::new(by_thread(task, &event)?),
        _ => return Err(Errno::EINVAL.into()),
    };
    let file = real_file(task, args.fd(0))?;
    let queue = mqueue::queue_of(&file).ok_or(Errno::EBADF)?;
    queue.register(Notification { owner: Arc::downgrade(task.thread_group()), announce })?;
    Ok(0)
}

fn by_thread(task: &CurrentTask, event: &SigEvent) -> Result<ByThread, Errno> {
    let mut cookie = [0; COOKIE_BYTES];
    task.mm().read_bytes(UserAddr(event.value), &mut cookie)?;
    let file = real_file(task, Fd(event.signo))?;
    match SocketFile::of(&file)?.family() {
        Family::Netlink(socket) => Ok(ByThread { cookie, socket: socket.shared().ok_or(Errno::EBADF)? }),
        _ => Err(Errno::EINVAL),
    }
}

struct Nobody;

impl Announce for Nobody {
    fn arrived(&self, _: &Arc<ThreadGroup>, _: i32, _: u32) {}

    fn kind(&self) -> i32 {
        SIGEV_NONE
    }
}

struct BySignal {
    signal: Signal,
    value: u64,
}

impl Announce for BySignal {
    fn arrived(&self, owner: &Arc<ThreadGroup>, pid: i32, uid: u32) {
        let mut info = SigInfo::from_process(self.signal, si_code::SI_MESGQ, pid, uid);
        info.fields[1] = self.value;
        // A full queue of real-time signals loses it, as on Linux.
        let _ = owner.send_signal(self.signal, info);
    }

    fn kind(&self) -> i32 {
        SIGEV_SIGNAL
    }

    fn signal(&self) -> i32 {
        self.signal.number()
    }
}

/// A message to a netlink socket, at which a thread of the C library waits.
struct ByThread {
    cookie: [u8; COOKIE_BYTES],
    socket: Arc<NetlinkSocket>,
}

impl ByThread {
    fn tell(&self, why: u8) {
        let mut cookie = self.cookie;
        cookie[COOKIE_BYTES - 1] = why;
        self.socket.deliver(cookie.to_vec());
    }
}

impl Announce for ByThread {
    fn arrived(&self, _: &Arc<ThreadGroup>, _: i32, _: u32) {
        self.tell(WOKEN);
    }

    fn removed(&self) {
        self.tell(REMOVED);
    }

    fn kind(&self) -> i32 {
        SIGEV_THREAD
    }
}
