//! Which of several files gets a packet: the one that wrote the last packet of the conversation, so that a program that
//! reads with a thread for each file keeps a conversation on one of them (`tun_automq_select_queue`).

use std::sync::atomic::{AtomicU16, Ordering};

use netstack::packet::Packet;

/// Where conversations were seen. Those that share a number share a file, which costs order nowhere.
pub(super) struct Steering {
    /// One more than the number of the file; zero for none.
    files: Box<[AtomicU16]>,
}

impl Default for Steering {
    fn default() -> Self {
        Self { files: (0..SLOTS).map(|_| AtomicU16::new(0)).collect() }
    }
}

impl Steering {
    /// A packet of the conversation was written to a file.
    pub(super) fn learn(&self, packet: &Packet, l3: usize, file: usize) {
        let number = u16::try_from(file + 1).unwrap_or(0);
        self.files[slot(packet, l3)].store(number, Ordering::Relaxed);
    }

    /// The file, of `files`, for a packet of the stack.
    pub(super) fn choose(&self, packet: &Packet, l3: usize, files: usize) -> usize {
        if files <= 1 {
            return 0;
        }
        let slot = slot(packet, l3);
        match self.files[slot].load(Ordering::Relaxed) {
            0 => slot % files,
            number => usize::from(number - 1) % files,
        }
    }

    /// A file is gone, and others have its number now.
    pub(super) fn forget(&self) {
        self.files.iter().for_each(|file| file.store(0, Ordering::Relaxed));
    }
}

/// The number of a conversation, the same in both directions.
fn slot(packet: &Packet, l3: usize) -> usize {
    let mut header = [0; 64];
    let len = packet.copy_to(l3, &mut header);
    let header = &header[..len];
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    let (addresses, protocol, transport) = match header.first().map(|first| first >> 4) {
        Some(4) => (word(12) ^ word(16), header.get(9), usize::from(header[0] & 15) * 4),
        Some(6) => ((8..40).step_by(4).fold(0, |sum, at| sum ^ word(at)), header.get(6), 40),
        _ => return 0,
    };
    let ports = match protocol {
        Some(6 | 17) => (word(transport) >> 16) ^ (word(transport) & 0xffff),
        _ => 0,
    };
    // Fibonacci hashing spreads what differs in few bits.
    let mixed = (addresses ^ ports.rotate_left(16) ^ ports).wrapping_mul(0x9e37_79b9);
    // The upper 10 bits.
    (mixed >> 22) as usize % SLOTS
}

const SLOTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn udp(from: [u8; 6], to: [u8; 6]) -> Packet {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        bytes.extend(&from[..4]);
        bytes.extend(&to[..4]);
        bytes.extend(&from[4..]);
        bytes.extend(&to[4..]);
        Packet::from_frame(Bytes::from(bytes))
    }

    #[test]
    fn answers_go_to_the_file_that_asked() {
        let steering = Steering::default();
        for port in 0..100 {
            let [question, answer] = [
                udp([10, 0, 0, 1, 0, port], [10, 0, 0, 2, 0, 53]),
                udp([10, 0, 0, 2, 0, 53], [10, 0, 0, 1, 0, port]),
            ];
            steering.learn(&question, 0, usize::from(port) % 3);
            assert_eq!(steering.choose(&answer, 0, 3), usize::from(port) % 3);
            assert_eq!(steering.choose(&answer, 0, 1), 0);
        }
        steering.forget();
        let chosen: Vec<usize> = (0..100)
            .map(|port| steering.choose(&udp([10, 0, 0, 2, 0, 53], [10, 0, 0, 1, 0, port]), 0, 3))
            .collect();
        for file in 0..3 {
            let share = chosen.iter().filter(|number| **number == file).count();
            assert!((15..60).contains(&share), "{chosen:?}");
        }
    }

    #[test]
    fn garbage_has_a_number_too() {
        for len in 0..70 {
            for first in [0x40, 0x4f, 0x60, 0xff] {
                let packet = Packet::from_frame(Bytes::from(vec![first; len]));
                assert!(Steering::default().choose(&packet, 0, 5) < 5);
            }
        }
    }
}
