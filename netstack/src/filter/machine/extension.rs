//! Options and extension headers: finding, loading and changing them.

use netstack_wire::ip::Protocol;
use netstack_wire::ipv6::{self, Extensions, Ipv6Repr};
use netstack_wire::{ipv4, tcp};

use super::Register;
use super::expression::ExtensionKind;
use super::run::Registers;
use crate::filter::rewrite;
use crate::filter::subject::Subject;
use crate::filter::test::find_option;

/// What to load of an option.
pub(super) struct Wanted {
    pub(super) kind: ExtensionKind,
    pub(super) number: u8,
    pub(super) offset: u8,
    pub(super) len: Option<u8>,
}

/// Loads a part of an option, or whether it is there. `None` if the part is not there.
pub(super) fn load(
    wanted: &Wanted,
    to: Register,
    subject: &Subject<'_>,
    registers: &mut Registers,
) -> Option<()> {
    let found = match wanted.kind {
        ExtensionKind::Tcp => tcp_options(subject).and_then(|options| {
            let (at, len) = find_option(options, wanted.number)?;
            options.get(at..at + len)
        }),
        ExtensionKind::Ipv4 => {
            subject.transit.is_v4().then(|| &subject.transit.l3()[ipv4::MIN_HEADER_LEN..]).and_then(
                |options| {
                    let (at, len) = find_option(options, wanted.number)?;
                    options.get(at..at + len)
                },
            )
        }
        ExtensionKind::Ipv6 => ipv6_extension(subject, wanted.number),
    };
    let Some(len) = wanted.len else {
        registers.put(to, &[u8::from(found.is_some())]);
        return Some(());
    };
    let offset = usize::from(wanted.offset);
    let part = found?.get(offset..offset + usize::from(len))?;
    registers.put(to, part);
    Some(())
}

/// Changes a part of a TCP option. An MSS is never raised. `None` if the option is not there.
pub(super) fn store(number: u8, offset: u8, value: &[u8], subject: &mut Subject<'_>) -> Option<()> {
    let options = tcp_options(subject)?;
    let (at, len) = find_option(options, number)?;
    let offset = usize::from(offset);
    if offset < 2 || offset + value.len() > len {
        return None;
    }
    let old = options.get(at + offset..at + offset + value.len())?;
    // nft_exthdr_tcp_set_eval: "increase can cause connection to stall".
    let raises_mss = number == 2 && old < value;
    if !raises_mss && old != value {
        rewrite::replace_in_transport(subject.transit, tcp::MIN_HEADER_LEN + at + offset, value);
    }
    Some(())
}

fn tcp_options<'a>(subject: &'a Subject<'_>) -> Option<&'a [u8]> {
    let transit = &*subject.transit;
    (transit.protocol == Protocol::TCP).then(|| transit.transport().get(tcp::MIN_HEADER_LEN..)).flatten()
}

fn ipv6_extension<'a>(subject: &'a Subject<'_>, number: u8) -> Option<&'a [u8]> {
    let l3 = subject.transit.l3();
    if subject.transit.is_v4() {
        return None;
    }
    let first = Ipv6Repr::parse_unchecked(l3).ok()?.next_header;
    let chain = l3.get(ipv6::HEADER_LEN..)?;
    Extensions::new(first, chain)
        .filter_map(Result::ok)
        .find(|extension| extension.kind.0 == number)
        .map(|extension| extension.bytes)
}
