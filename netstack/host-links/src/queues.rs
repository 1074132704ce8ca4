//! One interface through several queues, so that threads send and receive without a lock or a descriptor in common.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netstack::link::{Capabilities, Link, LinkError, Medium};
use netstack::packet::Packet;

use crate::host_link::HostLink;

/// The queues of an interface as one link for the stack.
///
/// The kernel spreads arriving flows over the queues; each is read by a pump of its own, all for the same NIC. A thread
/// sends through the queue that it [reads](Self::use_queue), and a tap's kernel then brings the flow's answers to the
/// same queue (`tun_flow_update`). Threads that read none take turns in picking one for good.
pub struct Queues {
    queues: Vec<Arc<dyn HostLink>>,
}

impl Queues {
    /// Makes a link of queues that were opened alike; `None` without any.
    pub fn new(queues: Vec<Arc<dyn HostLink>>) -> Option<Arc<Self>> {
        (!queues.is_empty()).then(|| Arc::new(Self { queues }))
    }

    /// The queues, for their pumps.
    pub fn queues(&self) -> &[Arc<dyn HostLink>] {
        &self.queues
    }

    /// Has the calling thread send through the queue with this index from now on, on each link of several queues.
    pub fn use_queue(index: usize) {
        OWN.set(Some(index));
    }

    fn own(&self) -> &dyn HostLink {
        // Fails while the thread ends.
        let own = OWN.try_with(|own| {
            own.get().unwrap_or_else(|| {
                // Relaxed: any number is as good as another.
                let next = NEXT.fetch_add(1, Ordering::Relaxed);
                own.set(Some(next));
                next
            })
        });
        &*self.queues[own.unwrap_or(0) % self.queues.len()]
    }
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queues({})", self.queues.len())
    }
}

impl Link for Queues {
    fn medium(&self) -> Medium {
        self.queues[0].medium()
    }

    fn mtu(&self) -> usize {
        self.queues[0].mtu()
    }

    fn capabilities(&self) -> Capabilities {
        self.queues[0].capabilities()
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        self.own().send_batch(packets)
    }
}

thread_local! {
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

static NEXT: AtomicUsize = AtomicUsize::new(0);
