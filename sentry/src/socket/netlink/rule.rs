//! `RTM_GETRULE`: the rules that exist on every Linux; others cannot be made.

use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::Errno;
use crate::socket::netlink::message::{Reply, Request};

/// Priority and table of the default rules (ip-rule(8)); IPv6 has no default table.
const RULES: [(u32, u8); 3] = [(0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, RT_TABLE_DEFAULT)];

pub(super) fn dump(request: &Request<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (filter, _) = request.split::<FibRuleHdr>();
    for family in [AF_INET, AF_INET6] {
        if filter.family != 0 && u16::from(filter.family) != family {
            continue;
        }
        let count = if family == AF_INET { 3 } else { 2 };
        for (priority, table) in RULES.into_iter().take(count) {
            let fixed = FibRuleHdr {
                // Both families are below 256.
                family: u8::try_from(family).unwrap_or(0),
                table,
                action: FR_ACT_TO_TBL,
                ..FibRuleHdr::default()
            };
            reply.message(RTM_NEWRULE, &fixed, |builder| {
                builder.attr(FRA_TABLE, &u32::from(table));
                builder.attr(FRA_SUPPRESS_PREFIXLEN, &u32::MAX);
                builder.attr(FRA_PROTOCOL, &RTPROT_KERNEL);
                if priority > 0 {
                    builder.attr(FRA_PRIORITY, &priority);
                }
            });
        }
    }
    Ok(())
}
