//! `sysfs(5)`: what programs look up about CPUs, memory nodes and network devices.

mod net;

use std::sync::{Arc, Weak};

use crate::fs::proc::cpu_count;
use crate::fs::pseudo::{PseudoDir, PseudoFs, TextInode};
use crate::socket::NetNamespace;
use crate::vfs::{Dentry, Inode, SuperBlock};

/// `statfs(2)`.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// The file system with the interfaces of `namespace`; returns the dentry of its root.
#[must_use]
pub fn create(namespace: Option<&Arc<NetNamespace>>) -> Arc<Dentry> {
    let fs = PseudoFs { name: "sysfs", magic: SYSFS_MAGIC, is_dynamic: true };
    // Weak, as on Linux: a mount does not keep a network alive.
    let namespace = namespace.map_or_else(Weak::new, Arc::downgrade);
    SuperBlock::new(Box::new(fs), root(&namespace)).1
}

fn text(value: impl Into<String>) -> Arc<Inode> {
    let value = value.into();
    TextInode::inode(0o444, move || format!("{value}\n").into_bytes())
}

fn empty() -> Arc<Inode> {
    PseudoDir::inode(Vec::new())
}

fn root(namespace: &Weak<NetNamespace>) -> Arc<Inode> {
    let fs = PseudoDir::inode(vec![("cgroup", empty())]);
    let devices = PseudoDir::inode(vec![
        ("system", PseudoDir::inode(vec![("cpu", cpus()), ("node", nodes())])),
        ("virtual", PseudoDir::inode(vec![("net", net::directory(namespace, net::Kind::Devices))])),
    ]);
    let kernel = PseudoDir::inode(vec![(
        "mm",
        PseudoDir::inode(vec![(
            "transparent_hugepage",
            PseudoDir::inode(vec![
                ("enabled", text("always madvise [never]")),
                ("hpage_pmd_size", text("2097152")),
            ]),
        )]),
    )]);
    PseudoDir::inode(vec![
        ("block", empty()),
        ("bus", empty()),
        (
            "class",
            PseudoDir::inode(vec![
                ("net", net::directory(namespace, net::Kind::Class)),
                ("power_supply", empty()),
            ]),
        ),
        ("dev", empty()),
        ("devices", devices),
        ("firmware", empty()),
        ("fs", fs),
        ("kernel", kernel),
        ("module", empty()),
        ("power", empty()),
    ])
}

fn cpus() -> Arc<Inode> {
    let count = cpu_count();
    let range = if count == 1 { "0".to_owned() } else { format!("0-{}", count - 1) };
    let mut entries: Vec<(String, Arc<Inode>)> = Vec::new();
    for cpu in 0..count {
        let topology = PseudoDir::inode(vec![
            ("core_cpus_list", text(cpu.to_string())),
            ("core_id", text(cpu.to_string())),
            ("core_siblings_list", text(range.clone())),
            ("physical_package_id", text("0")),
            ("thread_siblings_list", text(cpu.to_string())),
        ]);
        entries.push((
            format!("cpu{cpu}"),
            PseudoDir::inode(vec![("online", text("1")), ("topology", topology)]),
        ));
    }
    for name in ["online", "possible", "present"] {
        entries.push((name.to_owned(), text(range.clone())));
    }
    entries.push(("kernel_max".to_owned(), text((count - 1).to_string())));
    entries.push(("offline".to_owned(), text("")));
    PseudoDir::inode(entries.iter().map(|(name, inode)| (name.as_str(), inode.clone())).collect())
}

fn nodes() -> Arc<Inode> {
    let count = cpu_count();
    let range = if count == 1 { "0".to_owned() } else { format!("0-{}", count - 1) };
    let node = PseudoDir::inode(vec![("cpulist", text(range))]);
    PseudoDir::inode(vec![("node0", node), ("online", text("0")), ("possible", text("0"))])
}
