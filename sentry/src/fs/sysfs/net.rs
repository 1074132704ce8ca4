//! `/sys/class/net` and `/sys/devices/virtual/net`: the interfaces of the network namespace in which the file system was
//! mounted (`network_namespaces(7)`).

use std::sync::{Arc, Weak};

use netstack::nic::NicInfo;

use crate::errno::Errno;
use crate::fs::pseudo::{PseudoDir, PseudoLink, Text, TextInode, pseudo_stat};
use crate::socket::{LinkDetails, NetNamespace, TunDetails};
use crate::vfs::open::open_directory;
use crate::vfs::{Caller, DirEntry, FileOps, FileType, Inode, InodeOps, OpenFlags, SetAttr, Stat};

/// What a file says of an interface.
type Show = fn(&NicInfo, &LinkDetails) -> Result<String, Errno>;

/// The directory with links to the interfaces (`class`), or with the interfaces themselves.
pub(super) fn directory(namespace: &Weak<NetNamespace>, kind: Kind) -> Arc<Inode> {
    let stat = pseudo_stat(FileType::Directory, 0o755);
    Inode::new(FileType::Directory, Box::new(Interfaces { stat, namespace: namespace.clone(), kind }))
}

/// Which of the two directories it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/sys/class/net`.
    Class,
    /// `/sys/devices/virtual/net`.
    Devices,
}

struct Interfaces {
    stat: Stat,
    namespace: Weak<NetNamespace>,
    kind: Kind,
}

impl Interfaces {
    fn all(&self) -> Vec<NicInfo> {
        self.namespace.upgrade().map(|namespace| namespace.stack().nics()).unwrap_or_default()
    }

    fn of(&self, nic: &NicInfo) -> Arc<Inode> {
        let file = |(name, show): &(&'static str, Show)| {
            let text = Attribute { namespace: self.namespace.clone(), name: nic.name.clone(), show: *show };
            (*name, TextInode::inode(0o444, text))
        };
        let mut files: Vec<(&str, Arc<Inode>)> = FILES.iter().map(file).collect();
        files.push(("statistics", PseudoDir::inode(STATISTICS.iter().map(file).collect())));
        files.push(("subsystem", PseudoLink::inode("../../../../class/net")));
        let details = self.namespace.upgrade().map(|namespace| namespace.link_details(nic));
        if let Some(master) = details.as_ref().and_then(|details| details.master.as_ref()) {
            files.push(("master", PseudoLink::inode(&format!("../{}", master.name))));
        }
        if details.as_ref().is_some_and(|details| details.tun.is_some()) {
            files.extend(TUN.iter().map(file));
        }
        if details.is_some_and(|details| details.kind == Some("bridge")) {
            files.push(("bridge", PseudoDir::inode(BRIDGE.iter().map(file).collect())));
        }
        PseudoDir::inode(files)
    }
}

impl InodeOps for Interfaces {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let nic = self.all().into_iter().find(|nic| nic.name.as_bytes() == name).ok_or(Errno::ENOENT)?;
        Ok(match self.kind {
            Kind::Class => PseudoLink::inode(&format!("../../devices/virtual/net/{}", nic.name)),
            Kind::Devices => self.of(&nic),
        })
    }

    fn caches(&self, _: &[u8]) -> bool {
        false
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let kind = if self.kind == Kind::Class { FileType::Symlink } else { FileType::Directory };
        // The numbers of what comes and goes are as good as any.
        let entry = |nic: NicInfo| DirEntry {
            name: nic.name.into_bytes(),
            ino: (self.stat.ino << 16) + u64::from(nic.id.index()),
            kind,
        };
        Ok(self.all().into_iter().map(entry).collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

struct Attribute {
    namespace: Weak<NetNamespace>,
    name: String,
    show: Show,
}

impl Text for Attribute {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let namespace = self.namespace.upgrade().ok_or(Errno::ENODEV)?;
        let stack = namespace.stack();
        let nic = stack.nic_by_name(&self.name).and_then(|id| stack.nic(id)).ok_or(Errno::ENODEV)?;
        let text = (self.show)(&nic, &namespace.link_details(&nic))?;
        Ok(format!("{text}\n").into_bytes())
    }
}

fn address(bytes: Option<[u8; 6]>) -> String {
    bytes.map_or_else(String::new, |bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

const FILES: &[(&str, Show)] = &[
    ("addr_assign_type", |_, _| Ok("0".into())),
    ("addr_len", |_, details| Ok(if details.address.is_some() { "6" } else { "0" }.into())),
    ("address", |_, details| Ok(address(details.address))),
    ("broadcast", |nic, details| {
        let all = if nic.mac().is_some() { 0xff } else { 0 };
        Ok(address(details.address.map(|_| [all; 6])))
    }),
    // net-sysfs: of an interface that is down, "Invalid argument".
    ("carrier", |nic, details| match nic.is_up {
        true => Ok(u8::from(details.has_carrier).to_string()),
        false => Err(Errno::EINVAL),
    }),
    ("dev_id", |_, _| Ok("0x0".into())),
    ("dev_port", |_, _| Ok("0".into())),
    ("dormant", |nic, _| if nic.is_up { Ok("0".into()) } else { Err(Errno::EINVAL) }),
    ("duplex", |_, _| Err(Errno::EINVAL)),
    ("flags", |_, details| Ok(format!("0x{:x}", details.flags & 0xffff & !0x40))),
    ("ifalias", |_, _| Ok(String::new())),
    ("ifindex", |nic, _| Ok(nic.id.index().to_string())),
    ("iflink", |nic, details| Ok(details.lower.map_or(nic.id, |lower| lower.nic).index().to_string())),
    ("link_mode", |_, _| Ok("0".into())),
    ("mtu", |nic, _| Ok(nic.mtu.to_string())),
    ("netdev_group", |_, _| Ok("0".into())),
    ("operstate", |_, details| Ok(details.operational_state().into())),
    ("speed", |_, _| Err(Errno::EINVAL)),
    ("tx_queue_len", |_, details| Ok(details.queue_len().to_string())),
    ("type", |_, details| Ok(details.hardware_type.to_string())),
    ("uevent", |nic, _| Ok(format!("INTERFACE={}\nIFINDEX={}", nic.name, nic.id.index()))),
];

const BRIDGE: &[(&str, Show)] =
    &[("stp_state", |_, _| Ok("0".into())), ("ageing_time", |_, _| Ok("30000".into()))];

const TUN: &[(&str, Show)] = &[
    ("tun_flags", |_, details| Ok(format!("0x{:x}", tun(details)?.flags))),
    ("owner", |_, details| Ok(tun(details)?.owner.map_or("-1".into(), |owner| owner.0.to_string()))),
    ("group", |_, details| Ok(tun(details)?.group.map_or("-1".into(), |group| group.0.to_string()))),
];

fn tun(details: &LinkDetails) -> Result<TunDetails, Errno> {
    details.tun.ok_or(Errno::EINVAL)
}

const STATISTICS: &[(&str, Show)] = &[
    ("collisions", |_, _| Ok("0".into())),
    ("multicast", |nic, _| Ok(nic.stats.rx_multicast.to_string())),
    ("rx_bytes", |nic, _| Ok(nic.stats.rx_bytes.to_string())),
    ("rx_dropped", |nic, _| {
        let stats = &nic.stats;
        let all = stats.rx_dropped_down + stats.rx_dropped_other_host + stats.rx_dropped_unknown_protocol;
        Ok(all.to_string())
    }),
    ("rx_errors", |nic, _| Ok(nic.stats.rx_dropped_malformed.to_string())),
    ("rx_packets", |nic, _| Ok(nic.stats.rx_packets.to_string())),
    ("tx_bytes", |nic, _| Ok(nic.stats.tx_bytes.to_string())),
    ("tx_dropped", |nic, _| {
        let stats = &nic.stats;
        Ok((stats.tx_dropped_full + stats.tx_dropped_down + stats.tx_dropped_too_large).to_string())
    }),
    ("tx_errors", |nic, _| Ok(nic.stats.tx_dropped_unresolved.to_string())),
    ("tx_packets", |nic, _| Ok(nic.stats.tx_packets.to_string())),
];
