//! A link that misbehaves on purpose: seeded loss, duplication, reordering and corruption, for tests and demonstrations.

use std::sync::Arc;

use crate::sync::Mutex;
use bytes::Bytes;

use crate::link::{Capabilities, Link, LinkError, Medium};
use crate::packet::Packet;

/// How often what goes wrong, in parts per million of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The frame vanishes.
    pub loss_ppm: u32,
    /// The frame is sent twice.
    pub duplicate_ppm: u32,
    /// The frame is held back and sent after the next one.
    pub reorder_ppm: u32,
    /// One bit of the frame is flipped.
    pub corrupt_ppm: u32,
}

/// How many frames something was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Vanished.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Sent with another bit.
    pub corrupted: u64,
}

/// Wraps a link and does it wrong.
///
/// It takes no offloads from the wrapped link: what is lost are frames as they would be on the wire.
pub struct FaultLink {
    inner: Arc<dyn Link>,
    faults: Faults,
    state: Mutex<State>,
}

struct State {
    random: u64,
    held_back: Option<Packet>,
    counts: FaultCounts,
}

impl FaultLink {
    /// Wraps `inner`; the same `seed` gives the same faults.
    pub fn new(inner: Arc<dyn Link>, faults: Faults, seed: u64) -> Arc<Self> {
        // The generator below must not start at zero.
        let state = Mutex::new(State { random: seed | 1, held_back: None, counts: FaultCounts::default() });
        Arc::new(Self { inner, faults, state })
    }

    /// What it has done so far.
    pub fn counts(&self) -> FaultCounts {
        self.state.lock().counts
    }

    /// What becomes of the frames.
    fn spoil(&self, packets: &mut [Packet]) -> Vec<Packet> {
        let mut state = self.state.lock();
        let mut out = Vec::with_capacity(packets.len() + 1);
        for packet in packets {
            let mut packet = std::mem::take(packet);
            if state.happens(self.faults.loss_ppm) {
                state.counts.lost += 1;
                continue;
            }
            if state.happens(self.faults.corrupt_ppm) {
                state.counts.corrupted += 1;
                packet = state.corrupt(&packet);
            }
            if state.happens(self.faults.duplicate_ppm) {
                state.counts.duplicated += 1;
                out.push(packet.clone());
            }
            if state.held_back.is_none() && state.happens(self.faults.reorder_ppm) {
                state.counts.reordered += 1;
                state.held_back = Some(packet);
                continue;
            }
            out.push(packet);
            out.extend(state.held_back.take());
        }
        out
    }
}

impl State {
    /// xorshift64* (Vigna 2016): small, seeded, good enough for dice.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.next() % 1_000_000 < u64::from(ppm)
    }

    fn corrupt(&mut self, packet: &Packet) -> Packet {
        let mut bytes = packet.to_vec();
        if !bytes.is_empty() {
            let bit = self.next() % (bytes.len() as u64 * 8);
            // Below the length of the frame.
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        Packet::from_frame(Bytes::from(bytes))
    }
}

impl Link for FaultLink {
    fn medium(&self) -> Medium {
        self.inner.medium()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { rx_checksum_trusted: false, ..Capabilities::default() }
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let count = packets.len();
        let mut frames = self.spoil(packets);
        if !frames.is_empty() {
            self.inner.send_batch(&mut frames)?;
        }
        // What was lost on purpose was taken all the same.
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;
    use crate::link::channel::ChannelLink;

    fn run(faults: Faults, seed: u64) -> Vec<Vec<u8>> {
        let medium = Medium::Ethernet(MacAddr::ZERO);
        let channel = ChannelLink::new(medium, 1500, Capabilities::default(), 10_000);
        let link = FaultLink::new(channel.clone(), faults, seed);
        for number in 0..1000_u32 {
            let frame = Packet::from_frame(Bytes::copy_from_slice(&number.to_be_bytes()));
            assert_eq!(link.send_batch(&mut [frame]), Ok(1));
        }
        channel.take().iter().map(Packet::to_vec).collect()
    }

    #[test]
    fn faults_come_as_often_as_asked_and_repeat() {
        assert_eq!(run(Faults::default(), 1).len(), 1000);
        let lost = run(Faults { loss_ppm: 100_000, ..Faults::default() }, 1).len();
        assert!((850..950).contains(&lost), "{lost}");
        let doubled = run(Faults { duplicate_ppm: 100_000, ..Faults::default() }, 1).len();
        assert!((1050..1150).contains(&doubled), "{doubled}");
        let swapped = run(Faults { reorder_ppm: 100_000, ..Faults::default() }, 1);
        let inversions = swapped.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((50..150).contains(&inversions), "{inversions}");
        let all =
            Faults { loss_ppm: 50_000, duplicate_ppm: 50_000, reorder_ppm: 50_000, corrupt_ppm: 50_000 };
        assert_eq!(run(all, 7), run(all, 7));
        assert_ne!(run(all, 7), run(all, 8));
    }

    #[test]
    fn faults_are_counted() {
        let channel =
            ChannelLink::new(Medium::Ethernet(MacAddr::ZERO), 1500, Capabilities::default(), 10_000);
        let faults = Faults { loss_ppm: 200_000, duplicate_ppm: 200_000, ..Faults::default() };
        let link = FaultLink::new(channel.clone(), faults, 3);
        for _ in 0..1000 {
            link.send_batch(&mut [Packet::from_frame(Bytes::from_static(b"frame"))]).unwrap();
        }
        let FaultCounts { lost, duplicated, reordered: 0, corrupted: 0 } = link.counts() else {
            panic!("{:?}", link.counts())
        };
        assert_eq!(channel.take().len() as u64, 1000 - lost + duplicated);
    }
}
