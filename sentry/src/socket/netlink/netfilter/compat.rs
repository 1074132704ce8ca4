//! `NFNL_SUBSYS_NFT_COMPAT`: which of iptables' matches and targets there are.

use netstack::options::Family;

use super::Header;
use super::attributes::{Outcome, Refused, name, needed, put};
use super::constants::{FAMILY_V4, FAMILY_V6, SUBSYS_NFT_COMPAT};
use crate::errno::Errno;
use crate::socket::iptables::{MATCHES, TARGETS};
use crate::socket::netlink::message::{Attributes, Reply, Request};

/// `NFNL_MSG_COMPAT_GET`: answers with the highest revision of a match or target, if the one asked for is there.
pub(super) fn get(kind: u16, request: &Request<'_>, reply: &mut Reply) -> Outcome {
    let (header, attributes): (Header, Attributes<'_>) = request.split_full().map_err(Refused::from)?;
    if kind != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (text, revision) = (name(attributes, NAME)?, needed(attributes, REVISION)?);
    let target = needed(attributes, TYPE)?;
    let known = if target == 0 { MATCHES } else { TARGETS };
    let is_for = |of: &Option<Family>| match (of, header.family) {
        (None, _) => true,
        (Some(Family::V4), family) => family == FAMILY_V4,
        (Some(Family::V6), family) => family == FAMILY_V6,
    };
    let revisions = || {
        let named = known.iter().filter(|(other, _, of)| *other == text && is_for(of));
        named.map(|(_, revision, _)| u32::from(*revision))
    };
    let best = revisions().max().ok_or(Refused::from(Errno::ENOENT))?;
    if !revisions().any(|other| other == revision) {
        // Linux says the same of a revision that is not there.
        return Err(Errno::ENOENT.into());
    }
    let answer = Header { family: header.family, version: 0, resource: [0; 2] };
    reply.message(SUBSYS_NFT_COMPAT << 8, &answer, |builder| {
        builder.attr_str(NAME, text);
        put(builder, REVISION, best);
        put(builder, TYPE, target);
    });
    Ok(())
}

const NAME: u16 = 1;
const REVISION: u16 = 2;
const TYPE: u16 = 3;
