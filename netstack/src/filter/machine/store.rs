//! Changing bytes of a packet.

use super::expression::{Payload, PayloadBase};
use crate::filter::rewrite;
use crate::filter::subject::Subject;

/// Writes bytes into a header, and changes the checksums that cover them. `None` if they are not all there, or are not to be
/// changed: those that say where headers end.
pub(super) fn payload(to: Payload, value: &[u8], subject: &mut Subject<'_>) -> Option<()> {
    let offset = usize::try_from(to.offset).ok()?;
    let transit = &mut *subject.transit;
    match to.base {
        PayloadBase::Network => {
            let before = (transit.source, transit.destination);
            transit.set_network_bytes(offset, value)?;
            rewrite::follow_addresses(transit, before);
            Some(())
        }
        PayloadBase::Transport if !transit.is_later_fragment => {
            transit.transport().get(offset..offset + value.len())?;
            rewrite::replace_in_transport(transit, offset, value);
            Some(())
        }
        PayloadBase::Link | PayloadBase::Transport | PayloadBase::Inner => None,
    }
}
