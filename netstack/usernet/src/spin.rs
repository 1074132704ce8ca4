//! Looking a little longer before sleeping, where that saves the price of being woken.
//!
//! On a virtual machine a wake-up across processors takes longer than most answers do. So when the last sleeps were
//! short, the next wait looks for events for a bounded time first; when that finds nothing a few times in a row (nobody
//! answers that fast, or the processors are needed by others) the gateway sleeps at once again.

use std::io;
use std::time::{Duration, Instant};

use crate::host::Poller;

/// Decides whether to look or to sleep.
#[derive(Debug)]
pub(crate) struct Spin {
    /// Looks in vain that are left before it gives up; zero is sleeping at once.
    credit: u32,
    /// With one processor nobody can answer while it looks.
    is_sensible: bool,
}

impl Spin {
    pub(crate) fn new() -> Self {
        let is_sensible = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        Self { credit: 0, is_sensible }
    }

    /// Waits for events, at most for `limit`.
    pub(crate) fn wait(&mut self, poller: &mut Poller, limit: Option<Duration>) -> io::Result<usize> {
        let at_once = poller.wait(Some(Duration::ZERO))?;
        if at_once > 0 || limit == Some(Duration::ZERO) {
            return Ok(at_once);
        }
        let start = Instant::now();
        while self.credit > 0 {
            let found = poller.wait(Some(Duration::ZERO))?;
            if found > 0 {
                self.credit = CREDIT;
                return Ok(found);
            }
            let waited = start.elapsed();
            if waited > LOOK || limit.is_some_and(|limit| waited > limit) {
                self.credit -= 1;
                break;
            }
            std::hint::spin_loop();
        }
        let found = poller.wait(limit)?;
        if self.is_sensible && found > 0 && start.elapsed() < SHORT {
            self.credit = CREDIT;
        }
        Ok(found)
    }
}

/// How long it looks: about what sleeping and being woken takes on a virtual machine.
const LOOK: Duration = Duration::from_micros(50);
/// A sleep that was over so soon would have been worth a look.
const SHORT: Duration = Duration::from_micros(100);
/// Looks in vain before it sleeps at once again.
const CREDIT: u32 = 4;
