//! Matches that look at flows.

use netstack::IpCidr;
use netstack::filter::{ConnState, ConnStatus, ConnTest, Test};
use netstack::options::Family;
use netstack::route::MarkMatch;
use netstack::wire::ip::Protocol;

use super::{Tested, ip};
use crate::errno::Errno;
use crate::socket::iptables::blob::{half, word};

/// `struct xt_state_info`.
pub(super) fn state(data: &[u8]) -> Result<Tested, Errno> {
    Ok((Test::State(states(word(data, 0), 1 << 6)?), false))
}

/// `struct xt_connmark_mtinfo1`.
pub(super) fn mark(data: &[u8]) -> Result<Tested, Errno> {
    let inverted = *data.get(8).ok_or(Errno::EINVAL)? != 0;
    Ok((Test::ConnMark(MarkMatch { value: word(data, 0), mask: word(data, 4) }), inverted))
}

/// `struct xt_conntrack_mtinfo3`: four addresses with masks, then the rest.
pub(super) fn conntrack(family: Family, data: &[u8], tests: &mut Vec<Tested>) -> Result<(), Errno> {
    if data.len() < LEN {
        return Err(Errno::EINVAL);
    }
    let (flags, inverted) = (half(data, 146), half(data, 148));
    let is_set = |flag: usize| flags & flag != 0;
    let is_inverted = |flag: usize| inverted & flag != 0;
    if is_set(STATE) {
        let mask = u32::try_from(half(data, 150)).unwrap_or(0);
        tests.push((Test::State(states(mask, 1 << 8)?), is_inverted(STATE)));
    }
    let mut test = ConnTest::default();
    if is_set(PROTOCOL) {
        let protocol = u8::try_from(half(data, 136)).map_err(|_| Errno::EINVAL)?;
        test.protocol = Some((Protocol(protocol), is_inverted(PROTOCOL)));
    }
    if is_set(STATUS) {
        let status = u32::try_from(half(data, 152)).unwrap_or(0);
        test.status = Some((ConnStatus::from_bits_truncate(status), is_inverted(STATUS)));
    }
    if is_set(EXPIRES) {
        test.expires = Some((word(data, 128)..=word(data, 132), is_inverted(EXPIRES)));
    }
    if is_set(DIRECTION) {
        // Without the inversion it is the original direction.
        test.is_original = Some(!is_inverted(DIRECTION));
    }
    let len = if family == Family::V4 { 4 } else { 16 };
    for index in 0..4 {
        let end = &mut test.ends[index / 2][index % 2];
        let (address_flag, port_flag) = (ADDRESS << index, PORT << index);
        if is_set(address_flag) {
            let at = index * 32;
            let (address, mask) = (ip(&data[at..at + len])?, &data[at + 16..at + 16 + len]);
            let ones = mask.iter().map(|byte| byte.count_ones()).sum::<u32>();
            let network = IpCidr::new(address, u8::try_from(ones).map_err(|_| Errno::EINVAL)?);
            end.address = Some((network.ok_or(Errno::EINVAL)?, is_inverted(address_flag)));
        }
        if is_set(port_flag) {
            // In the machine's order since revision 3, with the ends of ranges behind everything else.
            let port = |at: usize| u16::try_from(half(data, at)).unwrap_or(u16::MAX);
            end.ports = Some((port(138 + 2 * index)..=port(154 + 2 * index), is_inverted(port_flag)));
        }
    }
    if test != ConnTest::default() {
        tests.push((Test::Flow(test), false));
    }
    Ok(())
}

/// `XT_STATE_BIT`: invalid, then established, related and new. In `conntrack` those of translation follow.
fn states(mask: u32, untracked: u32) -> Result<ConnState, Errno> {
    let mut states = ConnState::empty();
    states.set(ConnState::INVALID, mask & 1 != 0);
    states.set(ConnState::ESTABLISHED, mask & (1 << 1) != 0);
    states.set(ConnState::RELATED, mask & (1 << 2) != 0);
    states.set(ConnState::NEW, mask & (1 << 3) != 0);
    states.set(ConnState::UNTRACKED, mask & untracked != 0);
    if untracked != 1 << 6 {
        states.set(ConnState::SNAT, mask & (1 << 6) != 0);
        states.set(ConnState::DNAT, mask & (1 << 7) != 0);
    }
    if states.is_empty() { Err(Errno::EINVAL) } else { Ok(states) }
}

/// `sizeof(struct xt_conntrack_mtinfo3)`, without its padding.
const LEN: usize = 162;
const STATE: usize = 1;
const PROTOCOL: usize = 1 << 1;
/// The first of four.
const ADDRESS: usize = 1 << 2;
const STATUS: usize = 1 << 6;
const EXPIRES: usize = 1 << 7;
/// The first of four.
const PORT: usize = 1 << 8;
const DIRECTION: usize = 1 << 12;
