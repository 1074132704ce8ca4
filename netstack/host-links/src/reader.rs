//! A pump on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::pump::Pump;
use crate::wake::Wake;

/// The thread that reads a stack's links and runs its timers. Dropping it stops the thread and waits for its end.
#[derive(Debug)]
pub struct Reader {
    wake: Wake,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Reader {
    /// Starts the thread.
    pub fn spawn(mut pump: Pump) -> io::Result<Self> {
        let wake = pump.wake();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopping);
        let thread = std::thread::Builder::new().name("link-reader".into()).spawn(move || {
            // Relaxed: the wake that follows the store orders it, through the host.
            while !stop.load(Ordering::Relaxed) {
                pump.turn(None)?;
            }
            Ok(())
        })?;
        Ok(Self { wake, is_stopping, thread: Some(thread) })
    }

    /// Stops the thread and says what ended it early, if something did.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.wake.wake();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // A panic has been reported by its thread already.
            Some(Err(_)) => Err(io::Error::other("the link reader panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _ = self.end();
    }
}
