//! Changing fields of packets other than addresses and ports, with their checksums.

use netstack_wire::ip::Protocol;
use netstack_wire::tcp::{self, TcpFlags};

use super::rewrite;
use super::rule::{MssTarget, TtlAction};
use super::subject::Subject;
use super::test::{OPTION_MSS, find_option};
use crate::ip::Transit;

/// Clears bits of the type of service or traffic class, and toggles others.
pub(super) fn tos(transit: &mut Transit, value: u8, mask: u8) {
    transit.set_tos((transit.tos() & !mask) ^ value);
}

/// Changes the TTL or hop limit.
pub(super) fn ttl(transit: &mut Transit, action: TtlAction) {
    let current = transit.ttl();
    transit.set_ttl(match action {
        TtlAction::Set(ttl) => ttl,
        TtlAction::Increase(by) => current.saturating_add(by),
        TtlAction::Decrease(by) => current.saturating_sub(by),
    });
}

/// Lowers the MSS that a SYN announces. One that announces none is left alone.
pub(super) fn mss(subject: &mut Subject<'_>, target: MssTarget) {
    let limit = match target {
        MssTarget::Set(mss) => mss,
        MssTarget::ClampToPath => {
            let Some(mtu) = path_mtu(subject) else { return };
            let headers = if subject.transit.is_v4() { 20 } else { 40 } + 20;
            match u16::try_from(mtu.saturating_sub(headers)) {
                Ok(mss) if mss > 0 => mss,
                _ => return,
            }
        }
    };
    let transit = &mut *subject.transit;
    if transit.protocol != Protocol::TCP {
        return;
    }
    let header = transit.transport();
    let is_syn =
        header.get(13).is_some_and(|flags| TcpFlags::from_bits_retain(*flags).contains(TcpFlags::SYN));
    let Some((at, 4)) = header.get(tcp::MIN_HEADER_LEN..).and_then(|list| find_option(list, OPTION_MSS))
    else {
        return;
    };
    let at = tcp::MIN_HEADER_LEN + at + 2;
    let announced = u16::from_be_bytes([header[at], header[at + 1]]);
    if is_syn && announced > limit {
        rewrite::replace_in_transport(transit, at, &limit.to_be_bytes());
    }
}

/// The largest packet that fits both ways: the one it takes, and the one that answers take.
fn path_mtu(subject: &Subject<'_>) -> Option<u32> {
    let out = subject.path_mtu?;
    let back = subject.input.map_or(out, |input| input.mtu());
    Some(out.min(back))
}
