//! Pipes and FIFOs (`pipe(7)`, `fifo(7)`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::errno::{Errno, SysResult};
use crate::fs::ring::Ring;
use crate::io::{IoDst, IoSrc};
use crate::mm::UserAddr;
use crate::task::CurrentTask;
use crate::vfs::anon::{self, AnonKind};
use crate::vfs::{File, FileOps, Inode, OpenFlags};
use crate::wait::{Observer, Readiness, WaitId, WaitQueue};

/// Writes of at most this size are atomic (`limits.h`).
pub const PIPE_BUF: usize = 4096;
/// The capacity of a new pipe (`pipe(7)`).
const DEFAULT_CAPACITY: usize = 65536;
/// `/proc/sys/fs/pipe-max-size`.
pub const MAX_CAPACITY: usize = 1 << 20;
const FIONREAD: u32 = 0x541b;

/// How the ends meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Made with both ends (`pipe(2)`).
    Anonymous,
    /// Opened by name: each side waits for the other.
    Fifo,
}

/// The buffer between two ends.
pub struct Pipe {
    kind: Kind,
    state: Mutex<State>,
    /// Told about everything: data and room one by one, ends that come and go all together.
    queue: WaitQueue,
}

struct State {
    data: Ring,
    capacity: usize,
    /// The lengths of the packets in `data`, for `O_DIRECT` pipes.
    packets: VecDeque<usize>,
    readers: usize,
    writers: usize,
    /// How often a reader or writer has opened it; an open that waits for the other end looks for a change.
    reader_opens: u64,
    writer_opens: u64,
}

/// One open end, or both (`O_RDWR` on a FIFO).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// The other side's open counter when this end was opened.
    seen: u64,
    /// The open still waits for the other side.
    waits_for_peer: AtomicBool,
}

/// Makes a pipe (`pipe2(2)`): the read end and the write end.
#[must_use]
pub fn pair(flags: OpenFlags) -> (Arc<File>, Arc<File>) {
    let pipe = Pipe::new(Kind::Anonymous);
    let path = anon::path(AnonKind::Pipe);
    path.inode().attach(pipe.clone());
    let kept = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let read = PipeEnd::open(&pipe, true, false);
    let write = PipeEnd::open(&pipe, false, true);
    (File::at(Box::new(read), kept, path.clone()), File::at(Box::new(write), kept | OpenFlags::WRONLY, path))
}

/// Opens the FIFO `inode` (`fifo(7)`).
///
/// # Errors
/// `ENXIO` for a non-blocking writer without a reader.
pub fn open_fifo(inode: &Arc<Inode>, flags: OpenFlags) -> Result<Box<dyn FileOps>, Errno> {
    let pipe = inode.attachment_or(|| Pipe::new(Kind::Fifo)).ok_or(Errno::ENXIO)?;
    let (reads, writes) = (flags.is_readable(), flags.is_writable());
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    // A pipe that is opened again by /proc/PID/fd/N never waits for anybody.
    let is_fifo = pipe.kind == Kind::Fifo;
    if is_fifo && writes && !reads && nonblocking && pipe.state.lock().readers == 0 {
        return Err(Errno::ENXIO);
    }
    let end = PipeEnd::open(&pipe, reads, writes);
    end.waits_for_peer.store(is_fifo && reads != writes && !nonblocking, Ordering::Relaxed);
    Ok(Box::new(end))
}

impl Pipe {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            state: Mutex::new(State {
                data: Ring::default(),
                capacity: DEFAULT_CAPACITY,
                packets: VecDeque::new(),
                readers: 0,
                writers: 0,
                reader_opens: 0,
                writer_opens: 0,
            }),
            queue: WaitQueue::default(),
        })
    }

    /// Bytes that can be read now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().data.len()
    }

    /// True where nothing can be read now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self, dst: &mut dyn IoDst) -> Result<usize, Errno> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let n = {
            let mut state = self.state.lock();
            if state.data.len() == 0 {
                return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            match state.packets.front().copied() {
                // What does not fit of a packet is lost (pipe(2), O_DIRECT).
                Some(len) => {
                    let n = state.data.peek(dst, len)?;
                    state.data.consume(len);
                    state.packets.pop_front();
                    n
                }
                None => state.data.drain(dst, usize::MAX)?,
            }
        };
        self.queue.notify_next(Readiness::OUT);
        Ok(n)
    }

    fn write(&self, src: &mut dyn IoSrc, packets: bool) -> Result<usize, Errno> {
        let want = src.remaining();
        let n = {
            let mut state = self.state.lock();
            if state.readers == 0 {
                return Err(Errno::EPIPE);
            }
            if want == 0 {
                return Ok(0);
            }
            let room = state.capacity.saturating_sub(state.data.len());
            let whole = if want <= PIPE_BUF || packets { want.min(PIPE_BUF) } else { 1 };
            if room < whole {
                return Err(Errno::EAGAIN);
            }
            let State { data, capacity, packets: lengths, .. } = &mut *state;
            let max = if packets { PIPE_BUF } else { usize::MAX };
            let n = data.fill(src, max, *capacity)?;
            if packets {
                lengths.push_back(n);
            }
            n
        };
        self.queue.notify_next(Readiness::IN);
        Ok(n)
    }

    /// Copies up to `max` readable bytes without taking them (`tee(2)`).
    ///
    /// # Errors
    /// `EAGAIN` while there are none and a writer exists.
    pub fn peek(&self, dst: &mut dyn IoDst, max: usize) -> Result<usize, Errno> {
        let state = self.state.lock();
        if state.data.len() == 0 && state.writers > 0 {
            return Err(Errno::EAGAIN);
        }
        state.data.peek(dst, max)
    }

    /// The capacity (`F_GETPIPE_SZ`).
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Sets the capacity (`F_SETPIPE_SZ`), rounded up to a power of two of pages, and returns it.
    ///
    /// # Errors
    /// `EBUSY` when more is queued, `EPERM` above the limit for unprivileged callers, `EINVAL` for 0.
    pub fn set_capacity(&self, wanted: usize, is_privileged: bool) -> Result<usize, Errno> {
        if wanted == 0 || wanted > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let size = wanted.max(PIPE_BUF).next_power_of_two();
        if size > MAX_CAPACITY && !is_privileged {
            return Err(Errno::EPERM);
        }
        // DEVIATION: Linux lets a privileged caller go beyond; the sandbox's memory is bounded for it too.
        let size = size.min(MAX_CAPACITY);
        {
            let mut state = self.state.lock();
            if state.data.len() > size {
                return Err(Errno::EBUSY);
            }
            state.capacity = size;
        }
        self.queue.notify(Readiness::OUT);
        Ok(size)
    }
}

impl PipeEnd {
    fn open(pipe: &Arc<Pipe>, reads: bool, writes: bool) -> Self {
        let seen = {
            let mut state = pipe.state.lock();
            if reads {
                state.readers += 1;
                state.reader_opens += 1;
            }
            if writes {
                state.writers += 1;
                state.writer_opens += 1;
            }
            if reads { state.writer_opens } else { state.reader_opens }
        };
        pipe.queue.notify(Readiness::IN | Readiness::OUT);
        Self { pipe: pipe.clone(), reads, writes, seen, waits_for_peer: AtomicBool::new(false) }
    }

    /// The buffer.
    #[must_use]
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

impl FileOps for PipeEnd {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        if self.reads { self.pipe.read(dst) } else { Err(Errno::EBADF) }
    }

    fn write(&self, file: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        let packets = file.flags().contains(OpenFlags::DIRECT);
        if self.writes { self.pipe.write(src, packets) } else { Err(Errno::EBADF) }
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        if request != FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        let n = i32::try_from(self.pipe.len()).unwrap_or(i32::MAX);
        task.mm().write_obj(UserAddr(arg), &n)?;
        Ok(0)
    }

    fn readiness(&self, _: &File) -> Readiness {
        let state = self.pipe.state.lock();
        let mut ready = Readiness::empty();
        if self.reads {
            ready.set(Readiness::IN, state.data.len() > 0);
            // A FIFO that no writer has opened since is not hung up (fifo(7)).
            let had_writer = self.seen != state.writer_opens || self.writes || state.writer_opens > 0;
            ready.set(Readiness::HUP, state.writers == 0 && had_writer);
        }
        if self.writes {
            ready.set(Readiness::OUT, state.capacity - state.data.len() >= PIPE_BUF);
            ready.set(Readiness::ERR, state.readers == 0);
        }
        ready
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.pipe.queue.register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.pipe.queue.unregister(id);
    }

    fn turns(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
    }

    fn finish_open(&self, _: &File) -> Result<(), Errno> {
        if !self.waits_for_peer.load(Ordering::Relaxed) {
            return Ok(());
        }
        let state = self.pipe.state.lock();
        let met = if self.reads {
            state.writers > 0 || state.writer_opens != self.seen
        } else {
            state.readers > 0 || state.reader_opens != self.seen
        };
        if !met {
            return Err(Errno::EAGAIN);
        }
        self.waits_for_peer.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        {
            let mut state = self.pipe.state.lock();
            state.readers -= usize::from(self.reads);
            state.writers -= usize::from(self.writes);
            if state.readers == 0 && state.writers == 0 {
                // A FIFO forgets its data with its last user.
                let left = state.data.len();
                state.data.consume(left);
                state.packets.clear();
            }
        }
        self.pipe.queue.notify(Readiness::IN | Readiness::OUT | Readiness::HUP | Readiness::ERR);
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
