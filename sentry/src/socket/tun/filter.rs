//! Which frames the reader of a tap wants: those of certain stations (`TUNSETTXFILTER`), and those that a program chooses
//! (`TUNATTACHFILTER`).

use std::collections::BTreeSet;

use netstack::bpf::Program;
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;

/// The filters of a device. Without any, everything passes.
#[derive(Default)]
pub(super) struct Filters {
    pub(super) stations: Option<Stations>,
    pub(super) program: Option<Program>,
}

/// The stations whose frames are wanted.
pub(super) struct Stations {
    pub(super) wanted: BTreeSet<[u8; 6]>,
    /// Frames for groups are, too.
    pub(super) all_groups: bool,
}

impl Filters {
    pub(super) fn is_empty(&self) -> bool {
        self.stations.is_none() && self.program.is_none()
    }

    /// Whether a frame is wanted. A program may cut it.
    pub(super) fn passes(&self, frame: &mut Packet) -> bool {
        if let Some(stations) = &self.stations {
            let mut to = [0; 6];
            frame.copy_to(0, &mut to);
            let is_wanted =
                stations.wanted.contains(&to) || (stations.all_groups && !MacAddr(to).is_unicast());
            if !is_wanted {
                return false;
            }
        }
        let Some(program) = &self.program else { return true };
        let wanted = usize::try_from(program.run_on_bytes(&frame.to_vec())).unwrap_or(usize::MAX);
        frame.truncate(wanted.min(frame.len()));
        wanted > 0
    }
}
