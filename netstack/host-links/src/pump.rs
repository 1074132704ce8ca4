//! The loop around links: wait, read, deliver, run timers.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netstack::packet::Packet;
use netstack::{NicId, Stack};

use crate::error::ReceiveError;
use crate::host_link::HostLink;
use crate::sleep::Sleep;
use crate::sys::{Keys, Patience};
use crate::wake::Wake;

/// Carries frames from links to a stack, and runs the stack's timers, whenever somebody [turns](Self::turn) it.
///
/// Each turn runs to completion: a frame goes through the stack to its socket, and the answer back to the link, before
/// the next batch is read. Sockets are notified from within the turn, so a program may do its own work between turns
/// on the same thread, without a hand-over between threads.
pub struct Pump {
    stack: Stack,
    ports: Vec<Port>,
    wake: Wake,
    busy_poll: Duration,
    frames: Vec<Packet>,
    sleep: Sleep,
    /// How many ports there have been: the key of the next.
    next_key: u64,
}

/// A NIC and its link; the link is let go when it is gone for good.
struct Port {
    nic: NicId,
    link: Arc<dyn HostLink>,
    key: u64,
    /// Whether the pump sleeps on it.
    is_registered: bool,
}

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Frames that were delivered.
    pub frames: usize,
}

impl Pump {
    /// Makes a pump for the timers of `stack` and for the links that are added. Where a stack has several, each for links
    /// or queues of its own, all of them run timers, and the last one that was made is woken for new ones.
    pub fn new(stack: Stack) -> io::Result<Self> {
        let wake = Wake::new()?;
        let waker = wake.clone();
        stack.set_timer_waker(Arc::new(move || waker.wake_if_asleep()));
        let (ports, frames) = (Vec::new(), Vec::new());
        let sleep = Sleep::new(wake.fd())?;
        Ok(Self { stack, ports, wake, busy_poll: Duration::ZERO, frames, sleep, next_key: 0 })
    }

    /// Adds a link; `nic` is the stack's NIC on it.
    pub fn add(&mut self, nic: NicId, link: Arc<dyn HostLink>) {
        self.ports.push(Port { nic, link, key: self.next_key, is_registered: false });
        self.next_key += 1;
    }

    /// Looks for frames for that long before the thread sleeps. Saves wake-ups across CPUs, and burns the CPU instead;
    /// useless if the peer needs the same CPU.
    pub fn set_busy_poll(&mut self, limit: Duration) {
        self.busy_poll = limit;
    }

    /// What ends a wait from another thread.
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Waits for frames, timers or a wake, at most for `limit`, and carries what there is through the stack: up to one
    /// batch of each link. It may end early.
    ///
    /// The caller looks around after a turn, so what others [wanted](Wake::wake_soon) during it does not shorten the next one.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<Turn> {
        let turn = self.carry(limit)?;
        self.wake.take_due();
        Ok(turn)
    }

    fn carry(&mut self, limit: Option<Duration>) -> io::Result<Turn> {
        let may_spin = !self.busy_poll.is_zero() && limit != Some(Duration::ZERO);
        if let Some(turn) = may_spin.then(|| self.spin(limit)).flatten() {
            return Ok(turn);
        }
        let ready = self.wait(limit)?;
        let mut turn = Turn::default();
        for key in ready {
            if let Some(index) = self.ports.iter().position(|port| port.key == key) {
                turn.frames += self.receive(index);
            }
        }
        self.run_timers();
        Ok(turn)
    }

    fn wait(&mut self, limit: Option<Duration>) -> io::Result<Keys> {
        for port in self.ports.iter_mut().filter(|port| !port.is_registered) {
            self.sleep.add(port.link.fd(), port.key)?;
            port.is_registered = true;
        }
        if limit == Some(Duration::ZERO) {
            return self.sleep.wait(Patience::None);
        }
        // Before the deadline is read: who moves it later sees that we sleep, and wakes us.
        self.wake.set_asleep(true);
        let end = limit.map(|limit| self.stack.now() + limit);
        let end = [end, self.stack.next_deadline()].into_iter().flatten().min();
        let ready = match end {
            Some(end) => self.sleep.set_alarm(|| self.stack.now(), end),
            None => Ok(()),
        };
        let patience = if self.wake.take_due() { Patience::None } else { Patience::Endless };
        let ready = ready.and_then(|()| self.sleep.wait(patience));
        self.wake.set_asleep(false);
        ready
    }

    /// Looks for frames for a while; `None` if none came.
    fn spin(&mut self, limit: Option<Duration>) -> Option<Turn> {
        let end = Instant::now() + limit.map_or(self.busy_poll, |limit| limit.min(self.busy_poll));
        loop {
            let frames: usize = (0..self.ports.len()).rev().map(|index| self.receive(index)).sum();
            if frames > 0 {
                self.run_timers();
                return Some(Turn { frames });
            }
            if Instant::now() >= end {
                return None;
            }
            if self.wake.take_due() {
                return Some(Turn::default());
            }
            std::hint::spin_loop();
        }
    }

    /// Reads and delivers a batch of a link. The link is let go if it is gone.
    fn receive(&mut self, index: usize) -> usize {
        let Port { nic, link, .. } = &self.ports[index];
        let mut leader = link.lead();
        match leader.receive(&mut self.frames) {
            Ok(0) | Err(ReceiveError::Down) => 0,
            Ok(count) => {
                self.stack.deliver(*nic, &mut self.frames);
                count
            }
            Err(ReceiveError::Gone) => {
                drop(leader);
                let gone = self.ports.remove(index);
                if gone.is_registered {
                    self.sleep.remove(gone.link.fd());
                }
                0
            }
        }
    }

    fn run_timers(&self) {
        if self.stack.next_deadline().is_some_and(|deadline| deadline <= self.stack.now()) {
            self.stack.run_timers();
        }
    }

    /// How many links are left.
    pub fn links(&self) -> usize {
        self.ports.len()
    }
}
