//! A path between two links: delay, loss of data segments, a bottleneck with a drop-tail queue.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use netstack::packet::Packet;
use netstack_host_links::{HostLink, ReceiveError};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// What the path does to frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) rtt: Duration,
    /// The share of the sender's data segments that is lost.
    pub(crate) loss: f64,
    pub(crate) seed: u64,
    /// Bits per second in each direction.
    pub(crate) rate: u64,
    /// The bottleneck's queue, as the time that it takes to drain.
    pub(crate) queue: Duration,
}

/// What happened to the frames of the lossy direction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) forwarded: u64,
    pub(crate) lost: u64,
    pub(crate) overflowed: u64,
}

/// Carries frames both ways until `stop`; frames of `links[0]` may be lost.
pub(crate) fn run(links: [Arc<dyn HostLink>; 2], path: &Path, stop: &AtomicBool) -> anyhow::Result<Tally> {
    // The default of 50 us would add to every delay.
    nix::sys::prctl::set_timerslack(1_000).context("PR_SET_TIMERSLACK")?;
    let mut lanes = [Lane::default(), Lane::default()];
    let mut dice = Dice::new(path.seed);
    let mut frames = Vec::new();
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        for from in 0..2 {
            take(&links[from], &mut frames)?;
            for frame in frames.drain(..) {
                let is_victim = from == 0 && frame.len() > LONGEST_CONTROL && dice.roll() < path.loss;
                let verdict =
                    if is_victim { Verdict::Lost } else { lanes[from].enter(frame, Instant::now(), path) };
                if from == 0 {
                    tally.count(verdict);
                }
            }
        }
        let mut next = None;
        for (from, lane) in lanes.iter_mut().enumerate() {
            lane.leave(&links[1 - from], Instant::now());
            next = next.into_iter().chain(lane.next()).min();
        }
        sleep(&links, next)?;
    }
    Ok(tally)
}

/// Reads what waits, at most a few batches.
fn take(link: &Arc<dyn HostLink>, frames: &mut Vec<Packet>) -> anyhow::Result<()> {
    let mut leader = link.lead();
    for _ in 0..BATCHES {
        match leader.receive(frames) {
            Ok(0) | Err(ReceiveError::Down) => break,
            Ok(_) => {}
            Err(ReceiveError::Gone) => anyhow::bail!("the link is gone"),
        }
    }
    Ok(())
}

/// Waits for a frame or the next departure.
fn sleep(links: &[Arc<dyn HostLink>; 2], next: Option<Instant>) -> anyhow::Result<()> {
    let left = next.map_or(LONGEST_SLEEP, |next| next.saturating_duration_since(Instant::now()));
    if left.is_zero() {
        return Ok(());
    }
    let fds: [BorrowedFd<'_>; 2] = [links[0].fd(), links[1].fd()];
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match ppoll(&mut polled, Some(TimeSpec::from_duration(left.min(LONGEST_SLEEP))), None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("ppoll"),
    }
}

/// What became of a frame.
#[derive(Clone, Copy)]
enum Verdict {
    Forwarded,
    Lost,
    Overflowed,
}

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Forwarded => self.forwarded += 1,
            Verdict::Lost => self.lost += 1,
            Verdict::Overflowed => self.overflowed += 1,
        }
    }
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// Frames with the time when they leave, in order.
    frames: VecDeque<(Instant, Packet)>,
    /// When the bottleneck has sent what it holds.
    free_at: Option<Instant>,
}

impl Lane {
    fn enter(&mut self, frame: Packet, now: Instant, path: &Path) -> Verdict {
        let start = self.free_at.map_or(now, |at| at.max(now));
        if start - now > path.queue {
            return Verdict::Overflowed;
        }
        // A frame is shorter than 2^32 bytes.
        let bits = frame.len() as u64 * 8;
        let free_at = start + Duration::from_nanos(bits * 1_000_000_000 / path.rate.max(1));
        self.free_at = Some(free_at);
        self.frames.push_back((free_at + path.rtt / 2, frame));
        Verdict::Forwarded
    }

    fn next(&self) -> Option<Instant> {
        self.frames.front().map(|(at, _)| *at)
    }

    /// Sends what is due. What the interface refuses is lost, as on a wire.
    fn leave(&mut self, to: &Arc<dyn HostLink>, now: Instant) {
        let due = self.frames.iter().take_while(|(at, _)| *at <= now).count();
        let mut frames: Vec<Packet> = self.frames.drain(..due).map(|(_, frame)| frame).collect();
        if !frames.is_empty() {
            let _ = to.send_batch(&mut frames);
        }
    }
}

/// xorshift64*: good enough to choose losses.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 up to 1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // 53 bits are exact in a double.
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Frames up to this length are handshakes, ACKs and ARP, which are never lost: an early loss of a SYN would decide the
/// whole measurement.
const LONGEST_CONTROL: usize = 128;
/// Batches of one link before the other has its turn.
const BATCHES: usize = 4;
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
