//! What a socket wants a link to receive (`PACKET_ADD_MEMBERSHIP`).

use sentry_abi::packet::{
    PACKET_MR_ALLMULTI, PACKET_MR_MULTICAST, PACKET_MR_PROMISC, PACKET_MR_UNICAST, PacketMreq,
};

use crate::errno::Errno;

/// The memberships of a socket, with how often each was asked for. Links deliver whatever they see, so they change
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Memberships(Vec<(PacketMreq, u32)>);

impl Memberships {
    /// Adds one.
    ///
    /// # Errors
    /// `EINVAL` for an address that is longer than those of the link; `ENOBUFS` for more than anybody needs.
    pub(super) fn add(&mut self, wanted: PacketMreq, station_len: u16) -> Result<(), Errno> {
        if wanted.alen > station_len {
            return Err(Errno::EINVAL);
        }
        let wanted = normal(wanted);
        match self.0.iter().position(|(present, _)| *present == wanted) {
            Some(place) => self.0[place].1 = self.0[place].1.saturating_add(1),
            None if self.0.len() >= MAX_MEMBERSHIPS => return Err(Errno::ENOBUFS),
            None => self.0.push((wanted, 1)),
        }
        Ok(())
    }

    /// Takes one back. Nothing is said of one that is not there (`packet_mc_drop`).
    pub(super) fn remove(&mut self, wanted: PacketMreq) {
        let wanted = normal(wanted);
        let Some(place) = self.0.iter().position(|(present, _)| *present == wanted) else { return };
        match &mut self.0[place].1 {
            1 => drop(self.0.remove(place)),
            count => *count -= 1,
        }
    }
}

/// Without the bytes that do not count.
fn normal(mut wanted: PacketMreq) -> PacketMreq {
    let has_address = match i32::from(wanted.kind) {
        PACKET_MR_MULTICAST | PACKET_MR_UNICAST => true,
        PACKET_MR_PROMISC | PACKET_MR_ALLMULTI => false,
        _ => true,
    };
    let used = if has_address { usize::from(wanted.alen).min(wanted.address.len()) } else { 0 };
    wanted.address[used..].fill(0);
    wanted
}

/// Bounds the memory of a socket.
const MAX_MEMBERSHIPS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_are_counted() {
        let group = PacketMreq { ifindex: 2, kind: 0, alen: 6, address: [1, 0, 0x5e, 0, 0, 1, 7, 7] };
        let mut all = Memberships::default();
        assert_eq!(all.add(PacketMreq { alen: 7, ..group }, 6), Err(Errno::EINVAL));
        all.add(group, 6).unwrap();
        all.add(PacketMreq { address: [1, 0, 0x5e, 0, 0, 1, 0, 0], ..group }, 6).unwrap();
        all.remove(group);
        assert_eq!(all.0.len(), 1);
        all.remove(group);
        all.remove(group);
        assert!(all.0.is_empty());
    }
}
