//! Frames on their way from one stack of the process to another, on the sender's thread.

use std::sync::{Arc, Weak};

use crate::sync::{Mutex, RwLock};

use crate::link::LinkError;
use crate::nic::NicId;
use crate::packet::{Checksum, Packet};
use crate::stack::{Core, Stack};

/// What waits to be delivered to the NIC of one stack.
///
/// The answers that a delivery causes come back on the same thread, one level deep: an inbox that is being delivered from
/// only queues what comes meanwhile, and the deliverer takes it when it is done.
#[derive(Default)]
pub(super) struct Inbox {
    home: RwLock<Option<Home>>,
    queue: Mutex<Queue>,
}

/// Where the frames go.
struct Home {
    /// Weak: the stack owns the link.
    core: Weak<Core>,
    nic: NicId,
}

#[derive(Default)]
struct Queue {
    frames: Vec<Packet>,
    /// Some thread delivers frames here and will look again.
    is_delivering: bool,
}

impl Inbox {
    /// Tells which NIC the frames are for.
    pub(super) fn attach(&self, stack: &Stack, nic: NicId) {
        *self.home.write() = Some(Home { core: Arc::downgrade(&stack.core), nic });
    }

    /// Queues frames from the front of `packets`, as many as there is room for, and delivers them unless somebody is at
    /// it.
    pub(super) fn send(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        if self.home.read().is_none() {
            return Err(LinkError::Down);
        }
        let taken = {
            let mut queue = self.queue.lock();
            let taken = BACKLOG.saturating_sub(queue.frames.len()).min(packets.len());
            queue.frames.extend(packets[..taken].iter_mut().map(|packet| arriving(std::mem::take(packet))));
            taken
        };
        self.deliver();
        if taken == 0 && !packets.is_empty() { Err(LinkError::Full) } else { Ok(taken) }
    }

    fn deliver(&self) {
        let home = self.home.read().as_ref().and_then(|home| Some((home.core.upgrade()?, home.nic)));
        let Some((core, nic)) = home else { return };
        let stack = Stack { core };
        loop {
            let mut frames = {
                let mut queue = self.queue.lock();
                if queue.is_delivering || queue.frames.is_empty() {
                    return;
                }
                queue.is_delivering = true;
                std::mem::take(&mut queue.frames)
            };
            stack.deliver(nic, &mut frames);
            self.queue.lock().is_delivering = false;
        }
    }
}

/// The bytes stay in the process, so an unfinished checksum is as good as a right one. A finished one comes from a wrapper
/// that may have damaged the frame, and is looked at.
fn arriving(mut frame: Packet) -> Packet {
    if frame.meta.checksum != Checksum::Plain {
        frame.meta.checksum = Checksum::Verified;
    }
    frame
}

/// Linux's `net.core.netdev_max_backlog`.
const BACKLOG: usize = 1000;
