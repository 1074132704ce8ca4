//! `PR_SET_PDEATHSIG` (`prctl(2)`): what processes are sent when the thread ends that made them.

use sentry_abi::signal::{SigInfo, Signal, si_code};

use crate::kernel::ProcessTree;
use crate::syscall::signal::check_permission_in;
use crate::task::Task;
use crate::task::signal::Posted;

impl Task {
    /// Tells the children of this thread, which ends, and hands them to another thread of its process; the last
    /// one tells all that are left before they get another parent (`forget_original_parent`).
    pub(crate) fn tell_children_of_end(&self) {
        let posted: Vec<_> = {
            let mut tree = self.kernel().tree();
            let other = self.thread_group().signals.lock().threads.first().map(|thread| thread.tid());
            // Without a maker they have been told, by another of the last threads.
            let is_meant =
                |maker: Option<_>| maker.is_some_and(|maker| other.is_none() || maker == self.tid());
            let children = tree.change_maker(self.pid(), is_meant, other);
            let groups = children.iter().filter_map(|child| tree.process(*child)).map(|p| p.group.clone());
            let mut posted = Vec::new();
            for group in groups {
                let threads = group.signals.lock().threads.clone();
                for signal in threads.iter().filter_map(|thread| self.death_signal_for(&tree, thread)) {
                    let info =
                        SigInfo::from_process(signal, si_code::SI_USER, self.pid().0, self.creds().uid.0);
                    // A full queue of real-time signals loses it, as it does on Linux.
                    posted.extend(group.post_with_others(&tree, signal, info));
                }
            }
            posted
        };
        posted.into_iter().for_each(Posted::announce);
    }

    /// The signal that `child` has asked for, if this thread may send it.
    fn death_signal_for(&self, tree: &ProcessTree, child: &Self) -> Option<Signal> {
        let signal = Signal::new(child.parent_death_signal())?;
        check_permission_in(tree, self, child, Some(signal)).is_ok().then_some(signal)
    }
}
