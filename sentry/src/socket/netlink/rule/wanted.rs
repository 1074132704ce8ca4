//! What a request says about a rule: read as `fib_nl2rule` does, with its words for what is wrong.

use std::ops::RangeInclusive;

use netstack::IpCidr;
use netstack::options::Family;
use netstack::route::{MarkMatch, PortMatch, Rule, RuleAction, RuleNic, TableId, TosMatch};
use sentry_abi::ifreq::IFNAMSIZ;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use crate::errno::Errno;
use crate::socket::netlink::message::{Attributes, Request};
use crate::socket::netlink::refusal::Refusal;
use crate::task::Task;

/// What a request describes. What it does not say is `None`.
pub(super) struct Wanted {
    pub(super) priority: Option<u32>,
    pub(super) rule: Rule,
    /// The request names an action other than a look into no table.
    pub(super) has_action: bool,
    /// The byte in the header; zero says nothing.
    tos: u8,
    dscp: Option<u8>,
    dscp_mask: Option<u8>,
    has_flow_label: bool,
}

impl Wanted {
    /// Reads a request. Numbers of users are those of the user namespace of `task`.
    pub(super) fn of(request: &Request<'_>, task: Option<&Task>) -> Result<Self, Refusal> {
        let (fixed, attributes): (FibRuleHdr, Attributes<'_>) =
            request.split_full().map_err(|errno| Refusal::new(errno, "Invalid msg length"))?;
        let family = match u16::from(fixed.family) {
            AF_INET => Family::V4,
            AF_INET6 => Family::V6,
            _ => return Err(Refusal::new(Errno::EAFNOSUPPORT, "Rule family not supported")),
        };
        check_lengths(attributes, request)?;
        // Selectors that the stack does not have are refused; a rule without them would match too much.
        let has_group = attributes.u32(FRA_SUPPRESS_IFGROUP).is_some_and(|group| group != u32::MAX);
        let has_label = attributes.find(FRA_FLOWLABEL).or(attributes.find(FRA_FLOWLABEL_MASK)).is_some();
        let mut unknown = [FRA_FLOW, FRA_TUN_ID, FRA_L3MDEV].into_iter();
        if has_group
            || has_label && family == Family::V6
            || unknown.any(|kind| attributes.find(kind).is_some())
        {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let network = |kind: u16, bits: u8, text: &'static str| match bits {
            0 => Ok(None),
            bits => {
                let network = attributes.address(kind).and_then(|address| IpCidr::new(address, bits));
                let network = network.filter(|network| network.family() == family);
                network.map(Some).ok_or(Refusal::new(Errno::EINVAL, text))
            }
        };
        let from = network(FRA_SRC, fixed.src_len, "Invalid source address")?;
        let to = network(FRA_DST, fixed.dst_len, "Invalid dst address")?;
        let nic = |kind: u16| attributes.str(kind).filter(|name| !name.is_empty()).map(RuleNic::named);
        let mask = attributes.u32(FRA_FWMASK);
        let mark = match attributes.u32(FRA_FWMARK) {
            Some(value) => Some(MarkMatch { value, mask: mask.unwrap_or(u32::MAX) }),
            None => mask.filter(|mask| *mask != 0).map(|mask| MarkMatch { value: 0, mask }),
        };
        let table = attributes.u32(FRA_TABLE).unwrap_or(fixed.table.into());
        let action = action_of(&fixed, attributes, table)?;
        let byte = |kind: u16| attributes.find(kind).and_then(|value| value.first().copied());
        let (dscp, dscp_mask) = (byte(FRA_DSCP), byte(FRA_DSCP_MASK));
        let tos = match dscp {
            Some(value) => Some(TosMatch::Dscp { value, mask: dscp_mask.unwrap_or(DSCP_BITS) }),
            None => Some(fixed.tos).filter(|tos| *tos != 0).map(TosMatch::Tos),
        };
        let priority = attributes.u32(FRA_PRIORITY);
        let rule = Rule {
            from,
            to,
            input_nic: nic(FRA_IIFNAME),
            output_nic: nic(FRA_OIFNAME),
            mark,
            tos,
            users: users(attributes, task)?,
            protocol: byte(FRA_IP_PROTO).filter(|protocol| *protocol != 0),
            source_port: ports(
                request,
                attributes,
                (FRA_SPORT_RANGE, FRA_SPORT_MASK),
                "Invalid sport range",
            )?,
            destination_port: ports(
                request,
                attributes,
                (FRA_DPORT_RANGE, FRA_DPORT_MASK),
                "Invalid dport range",
            )?,
            is_inverted: fixed.flags & FIB_RULE_INVERT != 0,
            // No prefix is longer than 128 bits; a greater number suppresses as much.
            suppress_prefix_len: attributes
                .u32(FRA_SUPPRESS_PREFIXLEN)
                .filter(|len| *len != u32::MAX)
                .map(|len| u8::try_from(len).unwrap_or(u8::MAX)),
            set_by: byte(FRA_PROTOCOL).unwrap_or(0),
            ..Rule::new(family, priority.unwrap_or(0), action)
        };
        let has_action = fixed.action != 0 && (fixed.action != FR_ACT_TO_TBL || table != 0);
        let has_flow_label = has_label;
        Ok(Self { priority, rule, has_action, tos: fixed.tos, dscp, dscp_mask, has_flow_label })
    }

    /// `fib4_rule_configure`, `fib6_rule_configure`: what only a rule that is to be made is checked for.
    pub(super) fn configure(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let refused = |text: &'static str| Err(Refusal::new(Errno::EINVAL, text));
        let is_v4 = self.rule.family == Family::V4;
        if self.has_flow_label {
            return refused("Flow label cannot be specified for IPv4 FIB rules");
        }
        if self.tos & ECN_BITS != 0 {
            return refused("Invalid dsfield (tos): ECN bits must be 0");
        }
        if is_v4 && self.tos & !TOS_MASK != 0 {
            return refused("Invalid tos");
        }
        if self.dscp.is_some() && self.tos != 0 {
            return refused("Cannot specify both TOS and DSCP");
        }
        if let Some(mask) = self.dscp_mask {
            let (_, attributes): (FibRuleHdr, Attributes<'_>) = request.split();
            let value = attributes.find(FRA_DSCP_MASK).unwrap_or_default();
            let text = match self.dscp {
                None => "Cannot specify DSCP mask without DSCP value",
                Some(dscp) if dscp & !mask != 0 => "Invalid DSCP mask",
                Some(_) => return Ok(()),
            };
            return Err(Refusal::new(Errno::EINVAL, text).about(value, request));
        }
        match self.rule.action {
            RuleAction::Lookup(TableId(0)) if !is_v4 => refused("Invalid table"),
            // A rule for no table is none.
            _ if !self.has_action => Err(Errno::EINVAL.into()),
            _ => Ok(()),
        }
    }

    /// `rule_exists`: whether `rule` is what is to be added with `priority`. Whether a rule is inverted does not count, nor do
    /// addresses that the request has none of.
    pub(super) fn is_there_as(&self, rule: &Rule, priority: u32) -> bool {
        let Rule {
            priority: _,
            family,
            from: _,
            to: _,
            input_nic,
            output_nic,
            mark,
            tos: _,
            protocol,
            source_port,
            destination_port,
            users,
            is_inverted: _,
            suppress_prefix_len,
            set_by,
            action,
        } = &self.rule;
        rule.priority == priority
            && rule.family == *family
            && is_like(rule.action, *action)
            && (&rule.input_nic, &rule.output_nic) == (input_nic, output_nic)
            && rule.mark == *mark
            && (rule.protocol, rule.source_port, rule.destination_port)
                == (*protocol, *source_port, *destination_port)
            && rule.users == *users
            && (rule.suppress_prefix_len, rule.set_by) == (*suppress_prefix_len, *set_by)
            && self.compare(rule)
    }

    /// `rule_find`: whether it says nothing that `rule` is not.
    pub(super) fn is_about(&self, rule: &Rule) -> bool {
        let Rule {
            priority: _,
            family,
            from: _,
            to: _,
            input_nic,
            output_nic,
            mark,
            tos: _,
            protocol,
            source_port,
            destination_port,
            users,
            is_inverted,
            suppress_prefix_len,
            set_by,
            action,
        } = &self.rule;
        rule.family == *family
            && self.priority.is_none_or(|priority| rule.priority == priority)
            && (!self.has_action || is_like(rule.action, *action))
            && (input_nic.is_none() || rule.input_nic == *input_nic)
            && (output_nic.is_none() || rule.output_nic == *output_nic)
            && (mark.is_none() || rule.mark == *mark)
            && (protocol.is_none() || rule.protocol == *protocol)
            && (source_port.is_none() || rule.source_port == *source_port)
            && (destination_port.is_none() || rule.destination_port == *destination_port)
            && (users.is_none() || rule.users == *users)
            && (!*is_inverted || rule.is_inverted)
            && (suppress_prefix_len.is_none() || rule.suppress_prefix_len == *suppress_prefix_len)
            && (*set_by == 0 || rule.set_by == *set_by)
            && self.compare(rule)
    }

    /// `fib4_rule_compare`, `fib6_rule_compare`.
    fn compare(&self, rule: &Rule) -> bool {
        let Rule { from, to, .. } = &self.rule;
        let (dscp, mask) = match rule.tos {
            Some(TosMatch::Dscp { value, mask }) => (Some(value), Some(mask)),
            _ => (None, None),
        };
        (from.is_none() || rule.from == *from)
            && (to.is_none() || rule.to == *to)
            && (self.tos == 0 || rule.tos == Some(TosMatch::Tos(self.tos)))
            && (self.dscp.is_none() || self.dscp == dscp)
            && (self.dscp_mask.is_none() || self.dscp_mask == mask)
    }
}

/// The policy of the attributes: those that are too short or out of range fail the whole message.
fn check_lengths(attributes: Attributes<'_>, request: &Request<'_>) -> Result<(), Refusal> {
    for (kind, value) in attributes {
        let errno = match kind {
            // NLA_STRING of IFNAMSIZ - 1 bytes.
            FRA_IIFNAME | FRA_OIFNAME => (length_of(value) >= IFNAMSIZ).then_some(Errno::ERANGE),
            FRA_DSCP => value.first().is_none_or(|dscp| *dscp > DSCP_BITS).then_some(Errno::ERANGE),
            FRA_DSCP_MASK if value.first().is_some_and(|mask| *mask > DSCP_BITS) => Some(Errno::EINVAL),
            FRA_IP_PROTO | FRA_PROTOCOL | FRA_L3MDEV | FRA_DSCP_MASK => too_short(value, 1),
            FRA_SPORT_MASK | FRA_DPORT_MASK => too_short(value, 2),
            FRA_PRIORITY | FRA_FWMARK | FRA_FWMASK | FRA_TABLE | FRA_GOTO | FRA_FLOW => too_short(value, 4),
            FRA_SPORT_RANGE | FRA_DPORT_RANGE | FRA_SUPPRESS_PREFIXLEN => too_short(value, 4),
            FRA_SUPPRESS_IFGROUP => too_short(value, 4),
            FRA_UID_RANGE | FRA_TUN_ID => too_short(value, 8),
            _ => None,
        };
        if let Some(errno) = errno {
            return Err(Refusal::new(errno, "Error parsing msg").about(value, request));
        }
    }
    Ok(())
}

/// The length of a string that may end with a NUL.
fn length_of(value: &[u8]) -> usize {
    value.strip_suffix(&[0]).unwrap_or(value).len()
}

fn too_short(value: &[u8], len: usize) -> Option<Errno> {
    (value.len() < len).then_some(Errno::ERANGE)
}

fn action_of(fixed: &FibRuleHdr, attributes: Attributes<'_>, table: u32) -> Result<RuleAction, Refusal> {
    let target = attributes.u32(FRA_GOTO);
    Ok(match fixed.action {
        FR_ACT_GOTO => {
            let missing = Refusal::new(Errno::EINVAL, "Missing goto target for action goto");
            RuleAction::Goto(target.ok_or(missing)?)
        }
        _ if target.is_some() => return Err(Refusal::new(Errno::EINVAL, "Unexpected goto")),
        0 | FR_ACT_TO_TBL => RuleAction::Lookup(TableId(table)),
        FR_ACT_BLACKHOLE => RuleAction::Blackhole,
        FR_ACT_UNREACHABLE => RuleAction::Unreachable,
        FR_ACT_PROHIBIT => RuleAction::Prohibit,
        FR_ACT_NOP => RuleAction::Nop,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    })
}

/// `nla_get_kuid_range`. Packets that no socket has sent belong to user 0 of the sandbox here; Linux has the root of the user
/// namespace that the network namespace belongs to.
fn users(attributes: Attributes<'_>, task: Option<&Task>) -> Result<Option<RangeInclusive<u32>>, Refusal> {
    let Some(value) = attributes.find(FRA_UID_RANGE) else { return Ok(None) };
    let user = |at: usize| {
        let user = u32::from_ne_bytes(value.get(at..at + 4)?.try_into().ok()?);
        let known = match task {
            Some(task) => task.creds().user_ns.uid(user).map(|uid| uid.0),
            None => Some(user),
        };
        known.filter(|user| *user != u32::MAX)
    };
    match (user(0), user(4)) {
        (Some(first), Some(last)) if first <= last => Ok(Some(first..=last)),
        _ => Err(Refusal::new(Errno::EINVAL, "Invalid uid range")),
    }
}

/// `nla_get_port_range` and `fib_nl2rule_port_mask`.
fn ports(
    request: &Request<'_>,
    attributes: Attributes<'_>,
    (range, mask): (u16, u16),
    invalid: &'static str,
) -> Result<Option<PortMatch>, Refusal> {
    let number = |value: &[u8], at: usize| {
        let bytes = value.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u16::from_ne_bytes)
    };
    let ports = attributes.find(range).map(|value| PortMatch::range(number(value, 0), number(value, 2)));
    if let Some(PortMatch { first, last, .. }) = ports
        && (first == 0 || last < first || last == u16::MAX)
    {
        return Err(Refusal::new(Errno::EINVAL, invalid));
    }
    let Some(value) = attributes.find(mask) else { return Ok(ports) };
    let mask = number(value, 0);
    let text = match ports {
        None => "Cannot specify port mask without port value",
        Some(ports) if ports.first != ports.last => "Cannot specify port mask for port range",
        Some(ports) if ports.first & !mask != 0 => "Invalid port mask",
        Some(ports) => return Ok(Some(PortMatch { mask, ..ports })),
    };
    Err(Refusal::new(Errno::EINVAL, text).about(value, request))
}

/// fib_rules_find: it is not looked at where rules go to.
fn is_like(action: RuleAction, wanted: RuleAction) -> bool {
    matches!((action, wanted), (RuleAction::Goto(_), RuleAction::Goto(_))) || action == wanted
}

/// The bits of a differentiated services code point.
const DSCP_BITS: u8 = 0x3f;
/// RFC 3168.
const ECN_BITS: u8 = 3;
/// `IPTOS_TOS_MASK`.
const TOS_MASK: u8 = 0x1e;
