//! `/proc/sys/net`, but for TCP: settings of the sandbox's stack and of its sockets (`ip-sysctl` in the kernel's
//! documentation says what they mean). What has no effect here cannot be written.

use std::sync::{Arc, Weak};
use std::time::Duration;

use netstack::nic::{NicInfo, NicOptions, ReversePath};
use netstack::options::Family;
use netstack::{AutoFlowLabels, IpConfig};

use crate::errno::Errno;
use crate::fs::proc::{sys_conf, sys_tcp};
use crate::fs::pseudo::{PseudoDir, Text, TextInode};
use crate::kernel::Kernel;
use crate::socket::settings::Number;
use crate::socket::{NetNamespace, Settings};
use crate::task::Task;
use crate::vfs::Inode;

/// The directory.
pub(super) fn directory(kernel: &Arc<Kernel>) -> Arc<Inode> {
    let mut ipv4 = files(kernel, IPV4);
    ipv4.extend(sys_tcp::files(kernel));
    let directory = |rows| PseudoDir::inode(files(kernel, rows));
    ipv4.extend([("conf", sys_conf::directory(kernel, Family::V4)), ("route", directory(ROUTE_V4))]);
    let mut ipv6 = files(kernel, IPV6);
    ipv6.extend([
        ("conf", sys_conf::directory(kernel, Family::V6)),
        ("icmp", directory(ICMPV6)),
        ("route", directory(ROUTE_V6)),
    ]);
    PseudoDir::inode(vec![
        ("core", PseudoDir::inode(files(kernel, CORE))),
        ("ipv4", PseudoDir::inode(ipv4)),
        ("ipv6", PseudoDir::inode(ipv6)),
        ("unix", PseudoDir::inode(files(kernel, UNIX))),
    ])
}

fn files(kernel: &Arc<Kernel>, rows: &'static [Row]) -> Vec<(&'static str, Arc<Inode>)> {
    rows.iter().map(|row| (row.name, file(kernel, row.get, row.set))).collect()
}

fn file(kernel: &Arc<Kernel>, get: Get, set: Option<Set>) -> Arc<Inode> {
    let setting = Setting { whose: Whose::First(Arc::downgrade(kernel)), get, set };
    TextInode::inode(if set.is_some() { 0o644 } else { 0o444 }, setting)
}

/// Shows a setting.
type Get = fn(&NetNamespace) -> String;
/// Changes it as the text says.
type Set = fn(&NetNamespace, &str) -> Result<(), Errno>;

/// One setting.
struct Row {
    name: &'static str,
    get: Get,
    set: Option<Set>,
}

/// A setting as a file.
struct Setting {
    whose: Whose,
    get: Get,
    set: Option<Set>,
}

impl Text for Setting {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let text = (self.get)(&*self.whose.namespace()?);
        Ok(format!("{text}\n").into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let set = self.set.ok_or(Errno::EACCES)?;
        let namespace = self.whose.namespace()?;
        namespace.check_configurable()?;
        set(&namespace, words(data)?)
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        Some(Arc::new(Self { whose: Whose::of(task)?, ..*self }))
    }
}

/// Which namespace settings are of.
#[derive(Clone)]
pub(super) enum Whose {
    /// The first one. Weak: the kernel owns the tree of files.
    First(Weak<Kernel>),
    /// That of whoever opened the file.
    Of(Arc<NetNamespace>),
}

impl Whose {
    /// The namespace of `task`.
    pub(super) fn of(task: &Task) -> Option<Self> {
        task.net().map(Self::Of)
    }

    /// The namespace.
    ///
    /// # Errors
    /// `ENOENT` without a network.
    pub(super) fn namespace(&self) -> Result<Arc<NetNamespace>, Errno> {
        match self {
            Self::First(kernel) => {
                let kernel = kernel.upgrade().ok_or(Errno::ESRCH)?;
                kernel.net.get().cloned().ok_or(Errno::ENOENT)
            }
            Self::Of(namespace) => Ok(namespace.clone()),
        }
    }
}

/// What was written, as text without the ends.
pub(super) fn words(data: &[u8]) -> Result<&str, Errno> {
    let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    Ok(text.trim_matches(['\n', '\0', ' ', '\t']))
}

/// A number within `range`, out of which Linux answers `EINVAL`.
pub(super) fn number(text: &str, range: std::ops::RangeInclusive<u32>) -> Result<u32, Errno> {
    text.parse().ok().filter(|value| range.contains(value)).ok_or(Errno::EINVAL)
}

fn pair(text: &str, most: u32) -> Result<(u32, u32), Errno> {
    match text.split_whitespace().map(|word| number(word, 0..=most)).collect::<Result<Vec<_>, _>>()?[..] {
        [first, last] => Ok((first, last)),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn bit(on: bool) -> String {
    u8::from(on).to_string()
}

const fn row(name: &'static str, get: Get, set: Set) -> Row {
    Row { name, get, set: Some(set) }
}

const fn fixed(name: &'static str, get: Get) -> Row {
    Row { name, get, set: None }
}

/// Changes a number of the sockets' settings.
fn change(
    namespace: &NetNamespace,
    text: &str,
    range: std::ops::RangeInclusive<u32>,
    which: fn(&Settings) -> &Number,
) -> Result<(), Errno> {
    which(namespace.settings()).set(number(text, range)?);
    Ok(())
}

fn change_ip(
    namespace: &NetNamespace,
    change: impl FnOnce(&mut IpConfig) -> Result<(), Errno>,
) -> Result<(), Errno> {
    namespace.stack().change_ip_config(change)
}

/// The NICs that settings are about: the loopback has no part in routing.
pub(super) fn nics(namespace: &NetNamespace) -> impl Iterator<Item = NicInfo> {
    namespace.stack().nics().into_iter()
}

/// Changes options of `nic`, or of all.
pub(super) fn change_nics(
    namespace: &NetNamespace,
    nic: Option<&str>,
    change: impl Fn(&mut NicOptions),
) -> Result<(), Errno> {
    for info in nics(namespace).filter(|info| nic.is_none_or(|name| info.name == name)) {
        // One that went away meanwhile has no options.
        let _ = namespace.stack().set_nic_options(info.id, &change);
    }
    Ok(())
}

/// The number of `rp_filter`.
pub(super) fn reverse_path_number(mode: ReversePath) -> u8 {
    match mode {
        ReversePath::Off => 0,
        ReversePath::Strict => 1,
        ReversePath::Loose => 2,
    }
}

/// Linux's least sizes of a buffer (`SOCK_MIN_RCVBUF`, `SOCK_MIN_SNDBUF`) up to the greatest `int`.
const RECEIVE_RANGE: std::ops::RangeInclusive<u32> = 2304..=i32::MAX.unsigned_abs();
const SEND_RANGE: std::ops::RangeInclusive<u32> = 4608..=i32::MAX.unsigned_abs();

const CORE: &[Row] = &[
    fixed("default_qdisc", |_| "pfifo_fast".to_owned()),
    fixed("netdev_max_backlog", |_| "1000".to_owned()),
    fixed("optmem_max", |_| "131072".to_owned()),
    row(
        "rmem_default",
        |net| net.settings().receive_default.get().to_string(),
        |net, text| change(net, text, RECEIVE_RANGE, |settings| &settings.receive_default),
    ),
    row(
        "rmem_max",
        |net| net.settings().receive_max.get().to_string(),
        |net, text| change(net, text, RECEIVE_RANGE, |settings| &settings.receive_max),
    ),
    row(
        "somaxconn",
        |net| net.settings().somaxconn.get().to_string(),
        |net, text| change(net, text, 0..=i32::MAX.unsigned_abs(), |settings| &settings.somaxconn),
    ),
    row(
        "wmem_default",
        |net| net.settings().send_default.get().to_string(),
        |net, text| change(net, text, SEND_RANGE, |settings| &settings.send_default),
    ),
    row(
        "wmem_max",
        |net| net.settings().send_max.get().to_string(),
        |net, text| change(net, text, SEND_RANGE, |settings| &settings.send_max),
    ),
];

const IPV4: &[Row] = &[
    row(
        "icmp_echo_ignore_all",
        |net| bit(net.stack().ip_config().ignores_echo_v4),
        |net, text| {
            let on = number(text, 0..=1)? != 0;
            change_ip(net, |config| {
                config.ignores_echo_v4 = on;
                Ok(())
            })
        },
    ),
    fixed("icmp_echo_ignore_broadcasts", |_| "1".to_owned()),
    row(
        "ip_default_ttl",
        |net| net.stack().ip_config().default_ttl.to_string(),
        |net, text| {
            let ttl = u8::try_from(number(text, 1..=255)?).map_err(|_| Errno::EINVAL)?;
            change_ip(net, |config| {
                config.default_ttl = ttl;
                Ok(())
            })
        },
    ),
    row(
        "ip_forward",
        |net| bit(nics(net).all(|nic| nic.options.forwards_v4)),
        |net, text| {
            let on = number(text, 0..=i32::MAX.unsigned_abs())? != 0;
            change_nics(net, None, |options| options.forwards_v4 = on)
        },
    ),
    row(
        "ip_local_port_range",
        |net| {
            let ports = net.stack().ip_config().ephemeral_ports;
            format!("{}\t{}", ports.start(), ports.end())
        },
        |net, text| {
            let (first, last) = pair(text, u16::MAX.into())?;
            // ipv4_local_port_range: "range[1] < range[0]" and a first port of 0 are refused.
            if first == 0 || last < first {
                return Err(Errno::EINVAL);
            }
            let port = |port| u16::try_from(port).map_err(|_| Errno::EINVAL);
            let range = port(first)?..=port(last)?;
            change_ip(net, |config| {
                config.ephemeral_ports = range;
                Ok(())
            })
        },
    ),
    fixed("ip_local_reserved_ports", |_| String::new()),
    row(
        "ip_nonlocal_bind",
        |net| bit(net.settings().binds_anywhere()),
        |net, text| {
            net.settings().set_binds_anywhere(number(text, 0..=255)? != 0);
            Ok(())
        },
    ),
    row(
        "ip_unprivileged_port_start",
        |net| net.settings().unprivileged_port_start.get().to_string(),
        |net, text| change(net, text, 0..=65_535, |settings| &settings.unprivileged_port_start),
    ),
    row(
        "ping_group_range",
        |net| {
            let (first, last) = net.settings().ping_groups();
            format!("{first}\t{last}")
        },
        |net, text| {
            let (first, last) = pair(text, i32::MAX.unsigned_abs())?;
            // set_ping_group_range: an empty range is kept as "1 0".
            let (first, last) = if last < first { (1, 0) } else { (first, last) };
            net.settings().set_ping_groups(first, last);
            Ok(())
        },
    ),
    fixed("tcp_max_syn_backlog", |_| "4096".to_owned()),
    fixed("tcp_mem", |_| "188319\t251094\t376638".to_owned()),
];

const IPV6: &[Row] = &[
    row(
        "auto_flowlabels",
        |net| auto_number(net.stack().ip_config().flow_labels.auto).to_string(),
        |net, text| {
            let auto = match number(text, 0..=3)? {
                0 => AutoFlowLabels::Off,
                1 => AutoFlowLabels::OptOut,
                2 => AutoFlowLabels::OptIn,
                _ => AutoFlowLabels::Forced,
            };
            change_ip(net, |config| {
                config.flow_labels.auto = auto;
                Ok(())
            })
        },
    ),
    fixed("flowlabel_consistency", |_| "1".to_owned()),
    row(
        "flowlabel_reflect",
        |net| {
            let labels = net.stack().ip_config().flow_labels;
            let bits = [labels.reflects_streams, labels.reflects_resets, labels.reflects_echo];
            (0..).zip(bits).fold(0, |all, (at, bit)| all | u8::from(bit) << at).to_string()
        },
        |net, text| {
            let bits = number(text, 0..=7)?;
            change_ip(net, |config| {
                config.flow_labels.reflects_streams = bits & 1 != 0;
                config.flow_labels.reflects_resets = bits & 2 != 0;
                config.flow_labels.reflects_echo = bits & 4 != 0;
                Ok(())
            })
        },
    ),
    row(
        "flowlabel_state_ranges",
        |net| bit(net.stack().ip_config().flow_labels.are_stateless_marked),
        |net, text| {
            let on = number(text, 0..=1)? != 0;
            change_ip(net, |config| {
                config.flow_labels.are_stateless_marked = on;
                Ok(())
            })
        },
    ),
];

fn auto_number(auto: AutoFlowLabels) -> u8 {
    match auto {
        AutoFlowLabels::Off => 0,
        AutoFlowLabels::OptOut => 1,
        AutoFlowLabels::OptIn => 2,
        AutoFlowLabels::Forced => 3,
    }
}

const ICMPV6: &[Row] = &[row(
    "echo_ignore_all",
    |net| bit(net.stack().ip_config().ignores_echo_v6),
    |net, text| {
        let on = number(text, 0..=1)? != 0;
        change_ip(net, |config| {
            config.ignores_echo_v6 = on;
            Ok(())
        })
    },
)];

const ROUTE_V4: &[Row] = &[
    row(
        "min_pmtu",
        |net| net.stack().ip_config().min_path_mtu.to_string(),
        |net, text| {
            // The kernel's ip_min_valid_pmtu: the least MTU of a link (RFC 791).
            let mtu = number(text, 68..=i32::MAX.unsigned_abs())?;
            change_ip(net, |config| {
                config.min_path_mtu = mtu;
                Ok(())
            })
        },
    ),
    row(
        "mtu_expires",
        |net| net.stack().ip_config().path_mtu_lifetime_v4.as_secs().to_string(),
        |net, text| {
            let lifetime = seconds(text)?;
            change_ip(net, |config| {
                config.path_mtu_lifetime_v4 = lifetime;
                Ok(())
            })
        },
    ),
];

const ROUTE_V6: &[Row] = &[row(
    "mtu_expires",
    |net| net.stack().ip_config().path_mtu_lifetime_v6.as_secs().to_string(),
    |net, text| {
        let lifetime = seconds(text)?;
        change_ip(net, |config| {
            config.path_mtu_lifetime_v6 = lifetime;
            Ok(())
        })
    },
)];

/// A span that the kernel counts in ticks as an `int`.
fn seconds(text: &str) -> Result<Duration, Errno> {
    number(text, 0..=i32::MAX.unsigned_abs() / TICKS).map(|count| Duration::from_secs(count.into()))
}

/// Of Linux's clock in a second (`CONFIG_HZ`).
const TICKS: u32 = 250;

const UNIX: &[Row] = &[row(
    "max_dgram_qlen",
    |net| net.settings().local_datagrams.get().to_string(),
    |net, text| change(net, text, 0..=i32::MAX.unsigned_abs(), |settings| &settings.local_datagrams),
)];
