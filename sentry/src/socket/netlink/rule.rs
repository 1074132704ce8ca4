//! `RTM_*RULE`: the rules that choose routing tables (ip-rule(8)). Those that every Linux has cannot be taken away.

mod wanted;

use netstack::IpCidr;
use netstack::error::ConfigError;
use netstack::options::Family;
use netstack::route::{MarkMatch, PortMatch, Rule, RuleAction, RuleNic, TosMatch};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::netlink::message::{Builder, Reply, Request};
use crate::socket::netlink::refusal::Refusal;
use crate::task::{Task, Uid};

use wanted::Wanted;

/// Priority and table of the default rules (ip-rule(8)); IPv6 has no default table.
const RULES: [(u32, u8); 3] = [(0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, RT_TABLE_DEFAULT)];

/// Lists the rules in the order in which they are asked.
pub(super) fn dump(
    namespace: &NetNamespace,
    request: &Request<'_>,
    task: Option<&Task>,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let (filter, _) = request.split::<FibRuleHdr>();
    let own = namespace.stack().rules();
    for (number, family, count) in [(AF_INET, Family::V4, 3), (AF_INET6, Family::V6, 2)] {
        if filter.family != 0 && u16::from(filter.family) != number {
            continue;
        }
        let mut own = own.iter().filter(|rule| rule.family == family).peekable();
        for (priority, table) in RULES.into_iter().take(count) {
            while let Some(rule) = own.next_if(|rule| rule.priority < priority) {
                describe(namespace, rule, RTM_NEWRULE, task, reply);
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
        own.for_each(|rule| describe(namespace, rule, RTM_NEWRULE, task, reply));
    }
    Ok(())
}

fn header(family: Family, action: u8) -> FibRuleHdr {
    // Both numbers are below 256.
    let number = if family == Family::V4 { AF_INET } else { AF_INET6 };
    FibRuleHdr { family: u8::try_from(number).unwrap_or(0), action, ..FibRuleHdr::default() }
}

fn describe(namespace: &NetNamespace, rule: &Rule, kind: u16, task: Option<&Task>, reply: &mut Reply) {
    let Rule {
        priority,
        family,
        from,
        to,
        input_nic,
        output_nic,
        mark,
        tos,
        protocol,
        source_port,
        destination_port,
        users,
        is_inverted: _,
        suppress_prefix_len,
        set_by,
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
        tos: if let Some(TosMatch::Tos(tos)) = tos { *tos } else { 0 },
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
        builder.attr(FRA_PROTOCOL, set_by);
        if let RuleAction::Goto(target) = action {
            builder.attr(FRA_GOTO, target);
        }
        name(builder, FRA_IIFNAME, input_nic);
        name(builder, FRA_OIFNAME, output_nic);
        if let Some(MarkMatch { value, mask }) = mark {
            builder.attr(FRA_FWMARK, value);
            builder.attr(FRA_FWMASK, mask);
        }
        if let Some(users) = users {
            let show = |user: u32| task.map_or(user, |task| task.creds().user_ns.show_uid(Uid(user)));
            builder.attr(FRA_UID_RANGE, &[show(*users.start()), show(*users.end())]);
        }
        // fib_nl_fill_rule: of rules without one there is none.
        if *priority != 0 {
            builder.attr(FRA_PRIORITY, priority);
        }
        if let Some(protocol) = protocol {
            builder.attr(FRA_IP_PROTO, protocol);
        }
        ports(builder, (FRA_SPORT_RANGE, FRA_SPORT_MASK), *source_port);
        ports(builder, (FRA_DPORT_RANGE, FRA_DPORT_MASK), *destination_port);
        if let Some(TosMatch::Dscp { value, mask }) = tos {
            builder.attr(FRA_DSCP, value);
            builder.attr(FRA_DSCP_MASK, mask);
        }
        if let Some(network) = to {
            builder.attr_ip(FRA_DST, network.address());
        }
        if let Some(network) = from {
            builder.attr_ip(FRA_SRC, network.address());
        }
    });
}

fn ports(builder: &mut Builder, (range, mask): (u16, u16), ports: Option<PortMatch>) {
    let Some(ports) = ports else { return };
    builder.attr(range, &[ports.first, ports.last]);
    // Only a single port has one.
    if ports.first == ports.last {
        builder.attr(mask, &ports.mask);
    }
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

/// `RTM_NEWRULE`.
pub(super) fn add(
    namespace: &NetNamespace,
    request: &Request<'_>,
    task: Option<&Task>,
) -> Result<(), Refusal> {
    let wanted = Wanted::of(request, task)?;
    let stack = namespace.stack();
    let rules = stack.rules();
    // fib_default_rule_pref: before the first behind the local table.
    let first = || {
        let family = rules.iter().filter(|other| other.family == wanted.rule.family);
        family.map(|other| other.priority).min().unwrap_or(MAIN_PRIORITY).min(MAIN_PRIORITY).saturating_sub(1)
    };
    let rule = Rule { priority: wanted.priority.unwrap_or_else(first), ..wanted.rule.clone() };
    if let RuleAction::Goto(target) = rule.action
        && target <= rule.priority
    {
        return Err(Refusal::new(Errno::EINVAL, "Backward goto not supported"));
    }
    // ip(8) wants a new one.
    if request.has(NLM_F_EXCL) && rules.iter().any(|other| wanted.is_there_as(other, rule.priority)) {
        return Err(Errno::EEXIST.into());
    }
    wanted.configure(request)?;
    if rules.len() >= MAX_RULES {
        return Err(Errno::ENOMEM.into());
    }
    stack.add_rule(rule.clone()).map_err(|error| match error {
        ConfigError::Invalid => Errno::EINVAL,
        _ => Errno::EEXIST,
    })?;
    announce(namespace, &rule, RTM_NEWRULE, task);
    Ok(())
}

/// Tells the listeners of the rule groups.
fn announce(namespace: &NetNamespace, rule: &Rule, kind: u16, task: Option<&Task>) {
    let mut reply = Reply::new(&NlMsgHdr::default(), 0, 0);
    describe(namespace, rule, kind, task, &mut reply);
    reply.flush();
    let group = if rule.family == Family::V4 { RTNLGRP_IPV4_RULE } else { RTNLGRP_IPV6_RULE };
    for datagram in &reply.datagrams {
        namespace.subscribers().broadcast(NETLINK_ROUTE, group, datagram);
    }
}

/// `RTM_DELRULE`: the first rule that is what the request says.
pub(super) fn remove(
    namespace: &NetNamespace,
    request: &Request<'_>,
    task: Option<&Task>,
) -> Result<(), Refusal> {
    let wanted = Wanted::of(request, task)?;
    let stack = namespace.stack();
    let found = stack.rules().into_iter().find(|rule| wanted.is_about(rule)).ok_or(Errno::ENOENT)?;
    stack.remove_rule(&found).map_err(|_| Errno::ENOENT)?;
    announce(namespace, &found, RTM_DELRULE, task);
    Ok(())
}

/// Where Linux has "from all lookup main".
const MAIN_PRIORITY: u32 = 32_766;
/// Bounds the memory that rules take.
const MAX_RULES: usize = 4096;
