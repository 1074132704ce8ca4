//! Matches and targets of iptables inside rules (`nft_compat`).

use netstack::Stack;
use netstack::filter::machine::{CompatTest, Expression};
use netstack::options::Family;

use crate::errno::Errno;
use crate::socket::iptables::{Extension, match_of, target_of};
use crate::socket::netlink::message::Attributes;
use crate::socket::netlink::netfilter::attributes::{Outcome, Refused, name, needed};
use crate::socket::netlink::netfilter::constants::FAMILY_V6;

fn extension<'a>(data: Attributes<'a>) -> Outcome<Extension<'a>> {
    let info = data.find(INFO).ok_or(Refused::from(Errno::EINVAL))?;
    let revision = u8::try_from(needed(data, REVISION)?).map_err(|_| Refused::from(Errno::EINVAL))?;
    Ok(Extension { name: name(data, NAME)?, revision, data: info })
}

/// Tables of both families have none of these: iptables keeps one per family.
fn family_of(family: u8) -> Family {
    if family == FAMILY_V6 { Family::V6 } else { Family::V4 }
}

pub(super) fn matches(stack: &Stack, family: u8, data: Attributes<'_>) -> Outcome<Expression> {
    let mut tests = Vec::new();
    match_of(family_of(family), &extension(data)?, &mut tests)?;
    Ok(Expression::Test(CompatTest::new(stack, tests)))
}

pub(super) fn target(family: u8, data: Attributes<'_>) -> Outcome<Expression> {
    Ok(Expression::Target(target_of(family_of(family), &extension(data)?)?))
}

const NAME: u16 = 1;
const REVISION: u16 = 2;
const INFO: u16 = 3;
