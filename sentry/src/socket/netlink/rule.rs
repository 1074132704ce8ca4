//! `RTM_*RULE`: the rules that choose routing tables (ip-rule(8)). Those that every Linux has cannot be taken away.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::IpCidr;
use netstack::error::ConfigError;
use netstack::options::Family;
use netstack::route::{MarkMatch, Rule, RuleAction, RuleNic, TableId};
use sentry_abi::ifreq::IFNAMSIZ;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::netlink::message::{Attributes, Builder, Reply, Request};

/// Priority and table of the default rules (ip-rule(8)); IPv6 has no default table.
const RULES: [(u32, u8); 3] = [(0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, RT_TABLE_DEFAULT)];

/// Lists the rules in the order in which they are asked.
pub(super) fn dump(namespace: &NetNamespace, request: &Request<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (filter, _) = request.split::<FibRuleHdr>();
    let own = namespace.stack().rules();
    for (number, family, count) in [(AF_INET, Family::V4, 3), (AF_INET6, Family::V6, 2)] {
        if filter.family != 0 && u16::from(filter.family) != number {
            continue;
        }
        let mut own = own.iter().filter(|rule| rule.family == family).peekable();
        for (priority, table) in RULES.into_iter().take(count) {
            while let Some(rule) = own.next_if(|rule| rule.priority < priority) {
                describe(namespace, rule, RTM_NEWRULE, reply);
            }
            let fixed = FibRuleHdr { table, ..header(family, FR_ACT_TO_TBL) };
            reply.message(RTM_NEWRULE, &fixed, |builder| {
                builder.attr(FRA_TABLE, &u32::from(table));
                builder.attr(FRA_SUPPRESS_PREFIXLEN, &u32::MAX);
                builder.attr(FRA_PROTOCOL, &RTPROT_KERNEL);
                if priority > 0 {
                    builder.attr(FRA_PRIORITY, &priority);
                }
            });
        }
        own.for_each(|rule| describe(namespace, rule, RTM_NEWRULE, reply));
    }
    Ok(())
}

fn header(family: Family, action: u8) -> FibRuleHdr {
    // Both numbers are below 256.
    let number = if family == Family::V4 { AF_INET } else { AF_INET6 };
    FibRuleHdr { family: u8::try_from(number).unwrap_or(0), action, ..FibRuleHdr::default() }
}

fn describe(namespace: &NetNamespace, rule: &Rule, kind: u16, reply: &mut Reply) {
    let Rule {
        priority,
        family,
        from,
        to,
        input_nic,
        output_nic,
        mark,
        is_inverted: _,
        suppress_prefix_len,
        action,
    } = rule;
    let (table, kind_of_action) = match action {
        RuleAction::Lookup(table) => (table.0, FR_ACT_TO_TBL),
        RuleAction::Goto(_) => (0, FR_ACT_GOTO),
        RuleAction::Nop => (0, FR_ACT_NOP),
        RuleAction::Blackhole => (0, FR_ACT_BLACKHOLE),
        RuleAction::Unreachable => (0, FR_ACT_UNREACHABLE),
        RuleAction::Prohibit => (0, FR_ACT_PROHIBIT),
    };
    let bits = |network: &Option<IpCidr>| network.map_or(0, IpCidr::prefix_len);
    let fixed = FibRuleHdr {
        dst_len: bits(to),
        src_len: bits(from),
        // RT_TABLE_COMPAT, where the number does not fit.
        table: u8::try_from(table).unwrap_or(252),
        flags: flags_of(namespace, rule),
        ..header(*family, kind_of_action)
    };
    let name = |builder: &mut Builder, kind: u16, nic: &Option<RuleNic>| {
        if let Some(nic) = nic {
            builder.attr_str(kind, nic.name());
        }
    };
    reply.message(kind, &fixed, |builder| {
        builder.attr(FRA_TABLE, &table);
        builder.attr(FRA_SUPPRESS_PREFIXLEN, &suppress_prefix_len.map_or(u32::MAX, u32::from));
        builder.attr(FRA_PROTOCOL, &RTPROT_UNSPEC);
        if let RuleAction::Goto(target) = action {
            builder.attr(FRA_GOTO, target);
        }
        name(builder, FRA_IIFNAME, input_nic);
        name(builder, FRA_OIFNAME, output_nic);
        if let Some(MarkMatch { value, mask }) = mark {
            builder.attr(FRA_FWMARK, value);
            builder.attr(FRA_FWMASK, mask);
        }
        builder.attr(FRA_PRIORITY, priority);
        if let Some(network) = to {
            builder.attr_ip(FRA_DST, network.address());
        }
        if let Some(network) = from {
            builder.attr_ip(FRA_SRC, network.address());
        }
    });
}

fn flags_of(namespace: &NetNamespace, rule: &Rule) -> u32 {
    let is_unresolved = match rule.action {
        RuleAction::Goto(target) => !namespace.stack().has_rule_at(rule.family, target),
        _ => false,
    };
    let is_detached = |nic: &Option<RuleNic>| nic.as_ref().is_some_and(|nic| nic.id().is_none());
    [
        (rule.is_inverted, FIB_RULE_INVERT),
        (is_unresolved, FIB_RULE_UNRESOLVED),
        (is_detached(&rule.input_nic), FIB_RULE_IIF_DETACHED),
        (is_detached(&rule.output_nic), FIB_RULE_OIF_DETACHED),
    ]
    .into_iter()
    .filter_map(|(is_set, flag)| is_set.then_some(flag))
    .sum()
}

/// What a request describes. What it does not say is `None`.
struct Wanted {
    priority: Option<u32>,
    rule: Rule,
    /// The request names an action other than a look into the main table.
    has_action: bool,
}

fn decode(request: &Request<'_>) -> Result<Wanted, Errno> {
    let (fixed, attributes): (FibRuleHdr, Attributes<'_>) = request.split_full()?;
    let (family, any) = match u16::from(fixed.family) {
        AF_INET => (Family::V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AF_INET6 => (Family::V6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    // Selectors that the stack does not have are refused; a rule without them would match too much.
    let unknown = [FRA_FLOW, FRA_TUN_ID, FRA_SUPPRESS_IFGROUP, FRA_L3MDEV, FRA_UID_RANGE]
        .into_iter()
        .chain([FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE]);
    if fixed.tos != 0 || unknown.into_iter().any(|kind| attributes.find(kind).is_some()) {
        return Err(Errno::EOPNOTSUPP);
    }
    let network = |kind: u16, bits: u8| match bits {
        0 => Ok(None),
        bits => {
            let network = IpCidr::new(attributes.address(kind).unwrap_or(any), bits);
            network.filter(|network| network.family() == family).map(Some).ok_or(Errno::EINVAL)
        }
    };
    let nic = |kind: u16| match attributes.find(kind).map(|_| attributes.str(kind)) {
        None => Ok(None),
        // NLA_STRING of IFNAMSIZ - 1 bytes.
        Some(Some(name)) if name.len() < IFNAMSIZ => Ok(Some(RuleNic::named(name))),
        Some(_) => Err(Errno::ERANGE),
    };
    let mask = attributes.u32(FRA_FWMASK);
    let mark = match attributes.u32(FRA_FWMARK) {
        Some(value) => Some(MarkMatch { value, mask: mask.unwrap_or(u32::MAX) }),
        None => mask.filter(|mask| *mask != 0).map(|mask| MarkMatch { value: 0, mask }),
    };
    let table = attributes.u32(FRA_TABLE).unwrap_or(fixed.table.into());
    // fib_nl2rule: "FRA_GOTO" is for that action only.
    if fixed.action != FR_ACT_GOTO && attributes.find(FRA_GOTO).is_some() {
        return Err(Errno::EINVAL);
    }
    let action = match fixed.action {
        0 | FR_ACT_TO_TBL => RuleAction::Lookup(TableId(table)),
        FR_ACT_BLACKHOLE => RuleAction::Blackhole,
        FR_ACT_UNREACHABLE => RuleAction::Unreachable,
        FR_ACT_PROHIBIT => RuleAction::Prohibit,
        FR_ACT_NOP => RuleAction::Nop,
        FR_ACT_GOTO => RuleAction::Goto(attributes.u32(FRA_GOTO).ok_or(Errno::EINVAL)?),
        _ => return Err(Errno::EOPNOTSUPP),
    };
    let has_action = fixed.action != 0 && (fixed.action != FR_ACT_TO_TBL || table != 0);
    let rule = Rule {
        from: network(FRA_SRC, fixed.src_len)?,
        to: network(FRA_DST, fixed.dst_len)?,
        input_nic: nic(FRA_IIFNAME)?,
        output_nic: nic(FRA_OIFNAME)?,
        mark,
        is_inverted: fixed.flags & FIB_RULE_INVERT != 0,
        // No prefix is longer than 128 bits; a greater number suppresses as much.
        suppress_prefix_len: attributes
            .u32(FRA_SUPPRESS_PREFIXLEN)
            .filter(|len| *len != u32::MAX)
            .map(|len| u8::try_from(len).unwrap_or(u8::MAX)),
        ..Rule::new(family, attributes.u32(FRA_PRIORITY).unwrap_or(0), action)
    };
    Ok(Wanted { priority: attributes.u32(FRA_PRIORITY), rule, has_action })
}

/// `RTM_NEWRULE`.
pub(super) fn add(namespace: &NetNamespace, request: &Request<'_>) -> Result<(), Errno> {
    let Wanted { priority, rule, has_action } = decode(request)?;
    // fib_nl2rule: a rule for no table is none.
    if !has_action {
        return Err(Errno::EINVAL);
    }
    let stack = namespace.stack();
    // fib_default_rule_pref: before the first behind the local table.
    let first =
        stack.rules().iter().filter(|other| other.family == rule.family).map(|other| other.priority).min();
    let priority = match priority {
        Some(priority) => priority,
        None => first.unwrap_or(MAIN_PRIORITY).min(MAIN_PRIORITY).saturating_sub(1),
    };
    if stack.rules().len() >= MAX_RULES {
        return Err(Errno::ENOMEM);
    }
    let rule = Rule { priority, ..rule };
    stack.add_rule(rule.clone()).map_err(|error| match error {
        ConfigError::Invalid => Errno::EINVAL,
        _ => Errno::EEXIST,
    })?;
    announce(namespace, &rule, RTM_NEWRULE);
    Ok(())
}

/// Tells the listeners of the rule groups.
fn announce(namespace: &NetNamespace, rule: &Rule, kind: u16) {
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(namespace, rule, kind, &mut reply);
    reply.flush();
    let group = if rule.family == Family::V4 { RTNLGRP_IPV4_RULE } else { RTNLGRP_IPV6_RULE };
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}

/// `RTM_DELRULE`: the first rule that is what the request says.
pub(super) fn remove(namespace: &NetNamespace, request: &Request<'_>) -> Result<(), Errno> {
    let Wanted { priority, rule: wanted, has_action } = decode(request)?;
    let stack = namespace.stack();
    let is_it = |rule: &Rule| {
        let Rule {
            priority: _,
            family,
            from,
            to,
            input_nic,
            output_nic,
            mark,
            is_inverted,
            suppress_prefix_len,
            action,
        } = &wanted;
        rule.family == *family
            && priority.is_none_or(|priority| rule.priority == priority)
            && (!has_action || is_like(rule.action, *action))
            && (from.is_none() || rule.from == *from)
            && (to.is_none() || rule.to == *to)
            && (input_nic.is_none() || rule.input_nic == *input_nic)
            && (output_nic.is_none() || rule.output_nic == *output_nic)
            && (mark.is_none() || rule.mark == *mark)
            && (!*is_inverted || rule.is_inverted)
            && (suppress_prefix_len.is_none() || rule.suppress_prefix_len == *suppress_prefix_len)
    };
    let found = stack.rules().into_iter().find(is_it).ok_or(Errno::ENOENT)?;
    stack.remove_rule(&found).map_err(|_| Errno::ENOENT)?;
    announce(namespace, &found, RTM_DELRULE);
    Ok(())
}

/// fib_rules_find: it is not looked at where rules go to.
fn is_like(action: RuleAction, wanted: RuleAction) -> bool {
    matches!((action, wanted), (RuleAction::Goto(_), RuleAction::Goto(_))) || action == wanted
}

/// Where Linux has "from all lookup main".
const MAIN_PRIORITY: u32 = 32_766;
/// Bounds the memory that rules take.
const MAX_RULES: usize = 4096;
