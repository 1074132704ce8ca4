//! Virtual LANs on an Ethernet NIC (IEEE 802.1Q): each is the link of a NIC of its own, whose frames have a tag on the
//! NIC below.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use netstack_wire::ethernet::MacAddr;

use crate::error::ConfigError;
use crate::link::inbox::Inbox;
use crate::link::{Capabilities, FrameTap, Link, LinkError, Medium};
use crate::nic::NicId;
use crate::packet::{Checksum, Packet};
use crate::stack::{Core, Stack};
use crate::sync::RwLock;

/// A NIC that carries virtual LANs. It lives as long as one of them does.
pub struct VlanTrunk {
    core: Weak<Core>,
    nic: NicId,
    mtu: usize,
    links: RwLock<BTreeMap<u16, Weak<VlanLink>>>,
}

/// One virtual LAN: the link of a NIC, which may be of another stack.
pub struct VlanLink {
    id: u16,
    mac: MacAddr,
    trunk: Arc<VlanTrunk>,
    inbox: Arc<Inbox>,
}

impl VlanTrunk {
    /// Makes a NIC carry virtual LANs. What it receives with a tag of one of them goes there; the rest stays where it was.
    pub fn new(stack: &Stack, nic: NicId) -> Result<Arc<Self>, ConfigError> {
        let info = stack.nic(nic).ok_or(ConfigError::NoSuchNic)?;
        info.mac().ok_or(ConfigError::Invalid)?;
        let trunk = Arc::new(Self {
            core: Arc::downgrade(&stack.core),
            nic,
            mtu: usize::try_from(info.mtu).unwrap_or(usize::MAX),
            links: RwLock::default(),
        });
        stack.set_frame_tap(nic, Some(Arc::new(TrunkTap(Arc::downgrade(&trunk)))))?;
        Ok(trunk)
    }

    /// Adds a virtual LAN with an id from 0 to 4094 for a station with that address.
    pub fn add(self: &Arc<Self>, id: u16, mac: MacAddr) -> Result<Arc<VlanLink>, ConfigError> {
        if id > MAX_ID || !mac.is_unicast() {
            return Err(ConfigError::Invalid);
        }
        let mut links = self.links.write();
        if links.get(&id).is_some_and(|link| link.strong_count() > 0) {
            return Err(ConfigError::Exists);
        }
        let link = Arc::new(VlanLink { id, mac, trunk: Arc::clone(self), inbox: Arc::default() });
        links.insert(id, Arc::downgrade(&link));
        Ok(link)
    }

    fn link(&self, id: u16) -> Option<Arc<VlanLink>> {
        self.links.read().get(&id)?.upgrade()
    }
}

impl Drop for VlanTrunk {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            // The NIC may be gone.
            let _ = Stack { core }.set_frame_tap(self.nic, None);
        }
    }
}

impl VlanLink {
    /// Its id.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// What carries it.
    pub fn trunk(&self) -> &Arc<VlanTrunk> {
        &self.trunk
    }

    /// Tells which NIC it belongs to; before that it receives nothing.
    pub fn attach(&self, stack: &Stack, nic: NicId) {
        self.inbox.attach(stack, nic);
    }
}

impl Link for VlanLink {
    fn medium(&self) -> Medium {
        Medium::Ethernet(self.mac)
    }

    fn mtu(&self) -> usize {
        self.trunk.mtu
    }

    /// None: who cuts frames up below does not look behind tags.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let core = self.trunk.core.upgrade().ok_or(LinkError::Gone)?;
        let count = packets.len();
        let mut frames =
            packets.iter_mut().filter_map(|packet| tagged(std::mem::take(packet), self.id)).collect();
        Stack { core }.transmit(self.trunk.nic, &mut frames);
        Ok(count)
    }
}

impl Drop for VlanLink {
    fn drop(&mut self) {
        let mut links = self.trunk.links.write();
        // Another one may have taken its place.
        if links.get(&self.id).is_some_and(|link| link.strong_count() == 0) {
            links.remove(&self.id);
        }
    }
}

/// What the stack of a trunk knows of it.
struct TrunkTap(Weak<VlanTrunk>);

impl FrameTap for TrunkTap {
    fn wants(&self, frame: &Packet) -> bool {
        let link = |id| self.0.upgrade()?.link(id);
        tag_of(frame).and_then(link).is_some()
    }

    fn receive(&self, frames: &mut Vec<Packet>) {
        let Some(trunk) = self.0.upgrade() else { return };
        for frame in frames.drain(..) {
            let Some(link) = tag_of(&frame).and_then(|id| trunk.link(id)) else { continue };
            // A full queue loses what comes.
            let _ = link.inbox.send(&mut [untagged(frame)]);
        }
    }
}

/// The id of a frame's tag, if it has one.
fn tag_of(frame: &Packet) -> Option<u16> {
    let mut bytes = [0; 4];
    if frame.copy_to(ADDRESSES, &mut bytes) < bytes.len() || bytes[..2] != ETHER_TYPE {
        return None;
    }
    Some(u16::from_be_bytes([bytes[2], bytes[3]]) & ID_MASK)
}

/// Puts a tag behind a frame's addresses; `None` for what is no frame.
fn tagged(mut frame: Packet, id: u16) -> Option<Packet> {
    let mut header = [0; ADDRESSES + TAG];
    if frame.copy_to(0, &mut header[..ADDRESSES]) < ADDRESSES {
        return None;
    }
    let checksum = std::mem::take(&mut frame.meta.checksum);
    frame.trim_front(ADDRESSES);
    header[ADDRESSES..ADDRESSES + 2].copy_from_slice(&ETHER_TYPE);
    header[ADDRESSES + 2..].copy_from_slice(&id.to_be_bytes());
    frame.prepend(&header);
    frame.meta.checksum = moved(checksum, TAG.cast_signed());
    Some(frame)
}

/// Takes the tag, which is there, off a frame.
fn untagged(mut frame: Packet) -> Packet {
    let mut header = [0; ADDRESSES];
    frame.copy_to(0, &mut header);
    let checksum = std::mem::take(&mut frame.meta.checksum);
    frame.trim_front(ADDRESSES + TAG);
    frame.prepend(&header);
    frame.meta.checksum = moved(checksum, -TAG.cast_signed());
    frame
}

/// An unfinished checksum where the frame has become longer in front of it.
fn moved(checksum: Checksum, by: isize) -> Checksum {
    match checksum {
        Checksum::Partial { start, offset } => {
            // Headers are short, and one that begins within the tag is nonsense.
            let start = usize::from(start).saturating_add_signed(by);
            Checksum::Partial { start: u16::try_from(start).unwrap_or(u16::MAX), offset }
        }
        other @ (Checksum::Plain | Checksum::Verified) => other,
    }
}

/// Destination and source.
const ADDRESSES: usize = 12;
/// Type and tag control information.
const TAG: usize = 4;
/// IEEE 802.1Q, table 9-1: a customer's tag.
const ETHER_TYPE: [u8; 2] = [0x81, 0x00];
/// The lower twelve bits of the tag control information.
const ID_MASK: u16 = 0xfff;
/// IEEE 802.1Q, table 9-2: the greatest number is reserved.
const MAX_ID: u16 = 4094;

#[cfg(test)]
#[path = "vlan_tests.rs"]
mod tests;
