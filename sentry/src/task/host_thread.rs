//! The threads of the sentry that tasks run on. One whose task has ended waits for the next task, since making a thread,
//! with its stack, costs several times what waking one does.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// The stack of a thread. Handlers recurse nowhere; the deepest chains are path walks and their file systems.
const STACK_SIZE: usize = 512 << 10;
/// Threads that wait. They hold the part of their stack that was used, so there are only as many as a shell needs.
const MAX_IDLE: usize = 4;

/// The life of a task.
type Job = Box<dyn FnOnce() + Send>;

/// The waiting threads.
#[derive(Default)]
pub(crate) struct HostThreads {
    idle: Mutex<Vec<SyncSender<Job>>>,
}

impl HostThreads {
    /// Runs `job` on a thread of its own.
    ///
    /// # Errors
    /// When the host refuses another thread.
    pub(super) fn run(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut job: Job = Box::new(job);
        let idle = self.idle.lock().pop();
        if let Some(thread) = idle {
            match thread.try_send(job) {
                Ok(()) => return Ok(()),
                // It has ended, which only a panic of its last job can bring about.
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => job = back,
            }
        }
        let threads = Arc::downgrade(self);
        std::thread::Builder::new()
            .name("task".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || serve(&threads, job))
            .map(drop)
    }
}

/// Runs jobs until there are enough waiting threads, or nobody is left who could have one.
fn serve(threads: &Weak<HostThreads>, first: Job) {
    let mut job = first;
    loop {
        job();
        // The list has the only sender: once it is gone, so is the channel.
        let (sender, jobs) = sync_channel(1);
        {
            let Some(threads) = threads.upgrade() else { return };
            let mut idle = threads.idle.lock();
            if idle.len() >= MAX_IDLE {
                return;
            }
            idle.push(sender);
        }
        match jobs.recv() {
            Ok(next) => job = next,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::ThreadId;
    use std::time::{Duration, Instant};

    use super::*;

    /// The thread that a job ran on.
    fn ran_on(threads: &Arc<HostThreads>) -> ThreadId {
        let (sender, receiver) = mpsc::channel();
        threads.run(move || sender.send(std::thread::current().id()).unwrap()).unwrap();
        receiver.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn wait_for_idle(threads: &HostThreads, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while threads.idle.lock().len() != count {
            assert!(Instant::now() < deadline, "{} threads wait", threads.idle.lock().len());
            std::thread::yield_now();
        }
    }

    #[test]
    fn thread_of_a_job_that_ended_runs_the_next() {
        let threads = Arc::<HostThreads>::default();
        let first = ran_on(&threads);
        wait_for_idle(&threads, 1);
        assert_eq!(ran_on(&threads), first);
    }

    thread_local! {
        /// Dropped at the end of the thread.
        static MARK: std::cell::RefCell<Option<Arc<()>>> = const { std::cell::RefCell::new(None) };
    }

    #[test]
    fn jobs_run_side_by_side_and_few_threads_stay() {
        let threads = Arc::<HostThreads>::default();
        let (barrier, mark) = (Arc::new(std::sync::Barrier::new(2 * MAX_IDLE + 1)), Arc::new(()));
        for _ in 0..2 * MAX_IDLE {
            let (barrier, mark) = (barrier.clone(), mark.clone());
            let job = move || {
                MARK.set(Some(mark));
                barrier.wait();
            };
            threads.run(job).unwrap();
        }
        barrier.wait();
        let wait_for_threads = |count: usize| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Arc::strong_count(&mark) != count + 1 {
                assert!(Instant::now() < deadline, "{} threads", Arc::strong_count(&mark) - 1);
                std::thread::yield_now();
            }
        };
        wait_for_idle(&threads, MAX_IDLE);
        wait_for_threads(MAX_IDLE);
        drop(threads);
        wait_for_threads(0);
    }
}
