//! `/proc/sys/net/ipv4/conf` and `/proc/sys/net/ipv6/conf`: a directory for each interface, and `all` and `default`.

use std::sync::{Arc, Weak};

use netstack::nic::{NicOptions, ReversePath};
use netstack::options::Family;

use crate::errno::Errno;
use crate::fs::proc::sys_net::{Whose, bit, change_nics, nics, number, reverse_path_number, words};
use crate::fs::pseudo::{PseudoDir, Text, TextInode, pseudo_stat};
use crate::kernel::Kernel;
use crate::vfs::open::open_directory;
use crate::vfs::{Caller, DirEntry, FileOps, FileType, Inode, InodeOps, OpenFlags, SetAttr, Stat};

/// The directory of the interfaces.
pub(super) fn directory(kernel: &Arc<Kernel>, family: Family) -> Arc<Inode> {
    let kernel = Arc::downgrade(kernel);
    let conf = Conf { stat: pseudo_stat(FileType::Directory, 0o555), kernel, family };
    Inode::new(FileType::Directory, Box::new(conf))
}

struct Conf {
    stat: Stat,
    /// Weak: the kernel owns the tree of files.
    kernel: Weak<Kernel>,
    family: Family,
}

impl Conf {
    /// The namespace of who looks.
    fn whose(&self, caller: &Caller<'_>) -> Whose {
        caller.task.and_then(|task| Whose::of(task)).unwrap_or_else(|| Whose::First(self.kernel.clone()))
    }

    fn names(whose: &Whose) -> Vec<String> {
        let own = whose.namespace().map(|net| nics(&net).map(|nic| nic.name).collect::<Vec<_>>());
        ["all", "default"].map(str::to_owned).into_iter().chain(own.unwrap_or_default()).collect()
    }

    fn of(&self, whose: &Whose, name: &str) -> Arc<Inode> {
        let rows = match self.family {
            Family::V4 => V4,
            Family::V6 => V6,
        };
        let scope = match name {
            "all" => Scope::All,
            "default" => Scope::Default,
            name => Scope::One(name.to_owned()),
        };
        let file = |row: &'static Row| {
            let scope = scope.clone();
            // Nothing but the interfaces of the start ever comes, so that defaults have no effect.
            let is_writable = row.set.is_some() && scope != Scope::Default;
            let option = NicOption { whose: whose.clone(), scope, row };
            (row.name, TextInode::inode(if is_writable { 0o644 } else { 0o444 }, option))
        };
        let mut files: Vec<_> = rows.iter().map(file).collect();
        let routed = MulticastForwarding { whose: whose.clone(), family: self.family, scope };
        files.push(("mc_forwarding", TextInode::inode(0o444, routed)));
        PseudoDir::inode(files)
    }
}

impl InodeOps for Conf {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn lookup(&self, _: &Arc<Inode>, caller: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let whose = self.whose(caller);
        let found = Self::names(&whose).into_iter().find(|own| own.as_bytes() == name);
        found.map(|name| self.of(&whose, &name)).ok_or(Errno::ENOENT)
    }

    /// Who looks next may be in another namespace.
    fn caches(&self, _: &[u8]) -> bool {
        false
    }

    fn read_dir(&self, caller: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        let entries = Self::names(&self.whose(caller)).into_iter().map(|name| DirEntry {
            name: name.into_bytes(),
            ino: self.stat.ino,
            kind: FileType::Directory,
        });
        Ok(entries.collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    All,
    Default,
    One(String),
}

/// One option of interfaces.
struct Row {
    name: &'static str,
    get: fn(&NicOptions) -> String,
    set: Option<fn(&mut NicOptions, u32)>,
    most: u32,
}

/// An option of one interface, or of all, as a file.
struct NicOption {
    whose: Whose,
    scope: Scope,
    row: &'static Row,
}

impl Text for NicOption {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let net = self.whose.namespace()?;
        let shown = match &self.scope {
            Scope::Default => None,
            Scope::All => nics(&net).last(),
            Scope::One(name) => nics(&net).find(|nic| nic.name == *name),
        };
        let options = shown.map_or_else(NicOptions::default, |nic| nic.options);
        Ok(format!("{}\n", (self.row.get)(&options)).into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let set = self.row.set.filter(|_| self.scope != Scope::Default).ok_or(Errno::EACCES)?;
        let net = self.whose.namespace()?;
        net.check_configurable()?;
        let value = number(words(data)?, 0..=self.row.most)?;
        let nic = match &self.scope {
            Scope::One(name) => Some(name.as_str()),
            Scope::All | Scope::Default => None,
        };
        change_nics(&net, nic, |options| set(options, value))
    }
}

/// Whether a program routes packets for groups (`mc_forwarding`); of an interface, how many virtual ones stand for it.
struct MulticastForwarding {
    whose: Whose,
    family: Family,
    scope: Scope,
}

impl Text for MulticastForwarding {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let net = self.whose.namespace()?;
        let routing = net.multicast_routing();
        let count = match &self.scope {
            Scope::Default => 0,
            Scope::All => usize::from(routing.is_active(self.family)),
            Scope::One(name) => nics(&net)
                .find(|nic| nic.name == *name)
                .map_or(0, |nic| routing.virtual_interfaces(self.family, nic.id)),
        };
        Ok(format!("{count}\n").into_bytes())
    }

    /// Routing programs tell by their sockets (MRT_INIT), not here.
    fn store(&self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }
}

const ANY: u32 = i32::MAX.unsigned_abs();

const V4: &[Row] = &[
    Row {
        name: "accept_redirects",
        get: |options| bit(options.accepts_redirects),
        set: Some(|options, value| options.accepts_redirects = value != 0),
        most: ANY,
    },
    Row {
        name: "forwarding",
        get: |options| bit(options.forwards_v4),
        set: Some(|options, value| options.forwards_v4 = value != 0),
        most: ANY,
    },
    Row {
        name: "rp_filter",
        get: |options| reverse_path_number(options.reverse_path).to_string(),
        set: Some(|options, value| {
            options.reverse_path = match value {
                0 => ReversePath::Off,
                1 => ReversePath::Strict,
                _ => ReversePath::Loose,
            };
        }),
        most: 2,
    },
    Row {
        name: "send_redirects",
        get: |options| bit(options.sends_redirects),
        set: Some(|options, value| options.sends_redirects = value != 0),
        most: ANY,
    },
];

const V6: &[Row] = &[
    Row { name: "disable_ipv6", get: |_| bit(false), set: None, most: 0 },
    Row {
        name: "forwarding",
        get: |options| bit(options.forwards_v6),
        set: Some(|options, value| options.forwards_v6 = value != 0),
        most: ANY,
    },
];
