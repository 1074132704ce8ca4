//! Where a socket keeps its program.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::Mutex;
use netstack_wire::ethernet::EtherType;

use super::{Program, Subject};
use crate::ip::{IpMeta, Rx};
use crate::packet::Packet;

/// A program, or none. Packets of a socket without one cost a relaxed load.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Whether there is one. Relaxed: a packet on its way while the program changes may meet either.
    is_set: AtomicBool,
    program: Mutex<Option<Program>>,
}

impl Slot {
    pub(crate) fn new(program: Option<Program>) -> Self {
        Self { is_set: AtomicBool::new(program.is_some()), program: Mutex::new(program) }
    }

    /// Replaces the program.
    pub(crate) fn set(&self, program: Option<Program>) {
        let mut current = self.program.lock();
        self.is_set.store(program.is_some(), Ordering::Relaxed);
        *current = program;
    }

    /// Whether there is a program.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// The program.
    #[inline]
    pub(crate) fn get(&self) -> Option<Program> {
        if self.is_set() { self.program.lock().clone() } else { None }
    }

    /// Shows a received IP packet to the program, its bytes from `start` on, and cuts it to what is wanted, but to no less
    /// than `min` bytes (`sk_filter_trim_cap`). False if nothing is wanted.
    #[inline]
    pub(crate) fn admits(
        &self,
        rx: &Rx<'_>,
        ip: &IpMeta,
        packet: &mut Packet,
        start: usize,
        min: usize,
    ) -> bool {
        self.get().is_none_or(|program| admits(&program, rx, ip, packet, start, min))
    }
}

/// Shows a received IP packet to a program, as [`Slot::admits`] does.
pub(crate) fn admits(
    program: &Program,
    rx: &Rx<'_>,
    ip: &IpMeta,
    packet: &mut Packet,
    start: usize,
    min: usize,
) -> bool {
    let wanted = program.run(&subject_of(rx, ip, packet, start));
    let kept = usize::try_from(wanted).unwrap_or(usize::MAX).max(min);
    packet.truncate(start.saturating_add(kept));
    wanted != 0
}

/// A received IP packet as programs see it, from `start` on.
pub(crate) fn subject_of<'a>(rx: &'a Rx<'_>, ip: &IpMeta, packet: &'a Packet, start: usize) -> Subject<'a> {
    let network = usize::from(packet.meta.l3_offset);
    let protocol = if ip.source.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    let subject = Subject::new(packet, start)
        .on(ip.nic, rx.interface.medium(), packet.meta.addressed_to)
        .of_protocol(protocol)
        .with_secrets(&rx.core.secrets);
    // A message that was taken out of its packet has no headers in front.
    match ip.offset > 0 && packet.meta.l4_offset > 0 {
        true => subject.with_headers((network > 0).then_some(0), network),
        false => subject,
    }
}
