//! Signals that were sent and not yet delivered.

use std::collections::VecDeque;

use sentry_abi::signal::{SigInfo, SigSet, Signal};

/// A queue of pending signals: one instance of each standard signal, any number of each real-time signal.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    /// The pending signals.
    #[must_use]
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// How many instances are queued.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True where nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Queues a signal. A standard signal that is already pending is not queued again (`signal(7)`).
    pub fn push(&mut self, signal: Signal, info: SigInfo) {
        if !signal.is_realtime() && self.set.contains(signal) {
            return;
        }
        self.set = self.set.with(signal);
        self.queue.push_back(info);
    }

    /// Takes the next signal of `allowed`: synchronous ones first, then the lowest number; among instances of one
    /// signal the oldest.
    pub fn pop(&mut self, allowed: SigSet) -> Option<(Signal, SigInfo)> {
        let ready = self.set.intersection(allowed);
        let synchronous = ready.intersection(SigSet::SYNCHRONOUS);
        let signal = if synchronous.is_empty() { ready.lowest()? } else { synchronous.lowest()? };
        let at = self.queue.iter().position(|i| i.signo == signal.number())?;
        let info = self.queue.remove(at)?;
        if !self.queue.iter().any(|i| i.signo == signal.number()) {
            self.set = self.set.minus(SigSet::of(signal));
        }
        Some((signal, info))
    }

    /// Copies of queued instances, oldest first (`PTRACE_PEEKSIGINFO`).
    pub fn queued(&self, skip: usize, count: usize) -> Vec<SigInfo> {
        self.queue.iter().skip(skip).take(count).copied().collect()
    }

    /// Drops every instance of the signals in `which`.
    pub fn discard(&mut self, which: SigSet) {
        if self.set.intersection(which).is_empty() {
            return;
        }
        self.set = self.set.minus(which);
        let keep = self.set;
        self.queue.retain(|i| Signal::new(i.signo).is_some_and(|s| keep.contains(s)));
    }

    /// The queued instance of `signal` that matches, for in-place updates (timer overruns).
    pub fn find_mut(&mut self, mut which: impl FnMut(&SigInfo) -> bool) -> Option<&mut SigInfo> {
        self.queue.iter_mut().find(|i| which(i))
    }
}

#[cfg(test)]
mod tests {
    use sentry_abi::signal::si_code;

    use super::*;

    fn info(signal: Signal, tag: u64) -> SigInfo {
        let mut info = SigInfo::new(signal, si_code::SI_USER);
        info.fields[1] = tag;
        info
    }

    #[test]
    fn standard_signals_do_not_queue_and_realtime_signals_do() {
        let mut pending = Pending::default();
        let rt = Signal::new(40).unwrap();
        for tag in 1..=2 {
            pending.push(Signal::SIGUSR1, info(Signal::SIGUSR1, tag));
            pending.push(rt, info(rt, tag));
        }
        let all = SigSet(u64::MAX);
        let order: Vec<_> = std::iter::from_fn(|| pending.pop(all)).map(|(s, i)| (s, i.fields[1])).collect();
        assert_eq!(order, [(Signal::SIGUSR1, 1), (rt, 1), (rt, 2)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn synchronous_signals_come_first_and_blocked_ones_stay() {
        let mut pending = Pending::default();
        for signal in [Signal::SIGHUP, Signal::SIGSEGV, Signal::SIGINT] {
            pending.push(signal, info(signal, 0));
        }
        let unblocked = SigSet(u64::MAX).minus(SigSet::of(Signal::SIGHUP));
        let order: Vec<_> = std::iter::from_fn(|| pending.pop(unblocked)).map(|(s, _)| s).collect();
        assert_eq!(order, [Signal::SIGSEGV, Signal::SIGINT]);
        assert_eq!(pending.set(), SigSet::of(Signal::SIGHUP));
    }

    #[test]
    fn discarding_removes_all_instances() {
        let mut pending = Pending::default();
        let rt = Signal::new(50).unwrap();
        pending.push(rt, info(rt, 1));
        pending.push(rt, info(rt, 2));
        pending.push(Signal::SIGTSTP, info(Signal::SIGTSTP, 3));
        pending.discard(SigSet::of(rt));
        assert_eq!(pending.len(), 1);
        assert_eq!(pending.set(), SigSet::of(Signal::SIGTSTP));
    }
}
