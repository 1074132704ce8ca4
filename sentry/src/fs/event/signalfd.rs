//! Pending signals as a file (`signalfd(2)`).

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sentry_abi::signal::SigSet;

use crate::errno::Errno;
use crate::io::IoDst;
use crate::task::Task;
use crate::vfs::anon::AnonKind;
use crate::vfs::{File, FileOps, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId};

/// A signalfd.
///
/// DEVIATION: it belongs to the thread that made it. On Linux a reader gets its own signals, which differs for a
/// descriptor that a child process inherited.
pub struct SignalFd {
    mask: Mutex<SigSet>,
    owner: Weak<Task>,
}

/// The size of `struct signalfd_siginfo`.
const INFO_SIZE: usize = 128;
/// The bits of `SIGKILL` and `SIGSTOP`, which are silently left out.
const NEVER: u64 = (1 << 8) | (1 << 18);

/// Makes a signalfd for the signals of `mask`.
#[must_use]
pub fn create(task: &Arc<Task>, mask: SigSet, flags: OpenFlags) -> Arc<File> {
    let signals = SignalFd { mask: Mutex::new(SigSet(mask.0 & !NEVER)), owner: Arc::downgrade(task) };
    let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
    File::anonymous(Box::new(signals), flags, AnonKind::Other("[signalfd]"))
}

impl SignalFd {
    /// Replaces the set of signals.
    pub fn set_mask(&self, mask: SigSet) {
        *self.mask.lock() = SigSet(mask.0 & !NEVER);
    }
}

impl FileOps for SignalFd {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        if dst.remaining() < INFO_SIZE {
            return Err(Errno::EINVAL);
        }
        let owner = self.owner.upgrade().ok_or(Errno::EAGAIN)?;
        let mask = *self.mask.lock();
        let mut done = 0;
        while dst.remaining() >= INFO_SIZE {
            let Some((signal, info)) = owner.take_pending(mask) else { break };
            done += dst.put(&encode(signal.number(), &info))?;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn readiness(&self, _: &File) -> Readiness {
        let pending = self.owner.upgrade().map_or(0, |task| task.pending_signals().0);
        if pending & self.mask.lock().0 == 0 { Readiness::empty() } else { Readiness::IN }
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        let owner = self.owner.upgrade()?;
        Some(owner.thread_group().signal_events().register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        if let Some(owner) = self.owner.upgrade() {
            owner.thread_group().signal_events().unregister(id);
        }
    }

    fn fdinfo(&self, _: &File) -> String {
        format!("sigmask:\t{:016x}\n", self.mask.lock().0)
    }
}

/// `struct signalfd_siginfo`: the fields that the kinds of `siginfo_t` share a place for are filled from it.
fn encode(signal: i32, info: &sentry_abi::signal::SigInfo) -> [u8; INFO_SIZE] {
    use zerocopy::IntoBytes;
    let raw = info.as_bytes();
    let word = |at: usize| -> [u8; 4] { raw[at..at + 4].try_into().unwrap_or([0; 4]) };
    let mut out = [0; INFO_SIZE];
    // ssi_signo, ssi_errno, ssi_code.
    out[0..4].copy_from_slice(&signal.to_ne_bytes());
    out[4..8].copy_from_slice(&word(4));
    out[8..12].copy_from_slice(&word(8));
    // ssi_pid and ssi_uid from si_pid and si_uid, ssi_status at 40 from si_status, ssi_int at 44 and ssi_ptr at 48
    // from si_value, which lies where si_status does.
    out[12..16].copy_from_slice(&word(16));
    out[16..20].copy_from_slice(&word(20));
    out[40..44].copy_from_slice(&word(24));
    out[44..48].copy_from_slice(&word(24));
    out[48..56].copy_from_slice(&raw[24..32]);
    out
}
