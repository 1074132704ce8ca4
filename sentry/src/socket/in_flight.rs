//! Files under way in messages of local sockets, counted for each user (`unix(7)`, `ETOOMANYREFS`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::task::{Capabilities, CurrentTask, Resource, Uid};

/// The counts of a sandbox.
#[derive(Debug, Default)]
pub(crate) struct FilesInFlight {
    users: Mutex<HashMap<Uid, usize>>,
}

/// What one message has under way for its sender; given back when dropped.
#[derive(Debug)]
pub struct FlightCharge {
    counts: Weak<FilesInFlight>,
    user: Uid,
    files: usize,
}

impl FilesInFlight {
    /// Charges the user of `task` with `files` more.
    ///
    /// # Errors
    /// `ETOOMANYREFS` where the user has more under way than the task may have open, and no privilege: as
    /// `too_many_unix_fds` of Linux, which looks before it adds.
    pub(crate) fn charge(
        self: &Arc<Self>,
        task: &CurrentTask,
        files: usize,
    ) -> Result<Arc<FlightCharge>, Errno> {
        let creds = task.creds();
        let is_held = !creds.has(Capabilities::SYS_RESOURCE) && !creds.has(Capabilities::SYS_ADMIN);
        let limit = usize::try_from(task.rlimit(Resource::Nofile).soft).unwrap_or(usize::MAX);
        let user = creds.uid;
        let mut users = self.users.lock();
        let count = users.entry(user).or_default();
        if is_held && *count > limit {
            return Err(Errno::ETOOMANYREFS);
        }
        *count += files;
        Ok(Arc::new(FlightCharge { counts: Arc::downgrade(self), user, files }))
    }
}

impl Drop for FlightCharge {
    fn drop(&mut self) {
        let Some(counts) = self.counts.upgrade() else { return };
        if let Entry::Occupied(mut count) = counts.users.lock().entry(self.user) {
            *count.get_mut() -= self.files;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
