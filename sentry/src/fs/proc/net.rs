//! `/proc/PID/net`: what the network stack says of itself.

use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::pseudo::{PseudoDir, Text, TextInode, pseudo_stat};
use crate::socket::NetNamespace;
use crate::socket::proc_net::{self, NetText};
use crate::vfs::open::open_directory;
use crate::vfs::{Caller, DirEntry, FileOps, FileType, Inode, InodeOps, OpenFlags, Stat};

/// A folder of `/proc/net` whose files come and go.
pub trait NetFolder: Send + Sync + 'static {
    /// The permission bits of the files.
    fn permissions(&self) -> u32;

    /// The files' names now.
    fn names(&self) -> Vec<String>;

    /// What a file says; `None` if there is none of that name.
    fn text(&self, name: &str) -> Option<String>;

    /// Takes what was written to a file by one call.
    ///
    /// # Errors
    /// `EINVAL` for what makes no sense.
    fn store(&self, name: &str, data: &[u8]) -> Result<(), Errno> {
        let _ = (name, data);
        Err(Errno::EACCES)
    }
}

/// The files with their headings, for what the namespace does not show.
const HEADINGS: &[(&str, &str)] = &[
    ("arp", "IP address       HW type     Flags       HW address            Mask     Device\n"),
    (
        "dev",
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls \
         carrier compressed\n",
    ),
    ("if_inet6", ""),
    ("ip6_tables_matches", ""),
    ("ip6_tables_names", ""),
    ("ip6_tables_targets", ""),
    ("ip_tables_matches", ""),
    (
        "ip6_mr_cache",
        "Group                            Origin                           Iif      Pkts  Bytes     Wrong  Oifs\n",
    ),
    ("ip6_mr_vif", "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags\n"),
    ("ip_mr_cache", "Group    Origin   Iif     Pkts    Bytes    Wrong Oifs\n"),
    ("ip_mr_vif", "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags Local    Remote\n"),
    ("ip_tables_names", ""),
    ("ip_tables_targets", ""),
    ("ipv6_route", ""),
    ("nf_conntrack", ""),
    ("netlink", "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"),
    ("packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"),
    ("protocols", ""),
    ("psched", "000003e8 00000040 000f4240 3b9aca00\n"),
    (
        "raw",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ),
    ("route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"),
    ("snmp", ""),
    ("netstat", ""),
    (
        "tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    ),
    (
        "tcp6",
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr \
         tm->when retrnsmt   uid  timeout inode\n",
    ),
    (
        "udp",
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref \
         pointer drops\n",
    ),
    (
        "udp6",
        "  sl  local_address                         remote_address                        st tx_queue rx_queue tr \
         tm->when retrnsmt   uid  timeout inode ref pointer drops\n",
    ),
    ("unix", "Num       RefCount Protocol Flags    Type St Inode Path\n"),
];

/// A file without contents but a heading.
struct Heading(&'static str);

impl Text for Heading {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.0.as_bytes().to_vec())
    }
}

/// A file of a namespace.
struct Contents(NetText);

impl Text for Contents {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok((self.0)().into_bytes())
    }
}

/// The directory of a namespace.
pub(super) fn directory(namespace: Option<&Arc<NetNamespace>>) -> Arc<Inode> {
    let mut entries: Vec<(&str, Arc<Inode>)> = Vec::new();
    let files = namespace.map(proc_net::files).unwrap_or_default();
    let missing = HEADINGS.iter().filter(|(name, _)| files.iter().all(|(own, _)| own != name));
    for (name, heading) in missing {
        entries.push((name, TextInode::inode(0o444, Heading(heading))));
    }
    for (name, contents) in files {
        entries.push((name, TextInode::inode(0o444, Contents(contents))));
    }
    for (name, folder) in namespace.map(proc_net::folders).unwrap_or_default() {
        let stat = pseudo_stat(FileType::Directory, 0o555);
        let folder = FolderInode { stat, folder: Arc::from(folder) };
        entries.push((name, Inode::new(FileType::Directory, Box::new(folder))));
    }
    PseudoDir::inode(entries)
}

struct FolderInode {
    stat: Stat,
    folder: Arc<dyn NetFolder>,
}

impl InodeOps for FolderInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(self.stat)
    }

    fn lookup(&self, _: &Arc<Inode>, _: &Caller<'_>, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        self.folder.text(name).ok_or(Errno::ENOENT)?;
        let file = FolderFile { folder: Arc::clone(&self.folder), name: name.to_owned() };
        Ok(TextInode::inode(self.folder.permissions(), file))
    }

    fn caches(&self, _: &[u8]) -> bool {
        false
    }

    fn read_dir(&self, _: &Caller<'_>) -> Result<Vec<DirEntry>, Errno> {
        // The numbers of files that come and go are as good as any.
        let entry =
            |(name, ino): (String, u64)| DirEntry { name: name.into_bytes(), ino, kind: FileType::Regular };
        Ok(self.folder.names().into_iter().zip(self.stat.ino << 16..).map(entry).collect())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        Ok(open_directory())
    }
}

struct FolderFile {
    folder: Arc<dyn NetFolder>,
    name: String,
}

impl Text for FolderFile {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.folder.text(&self.name).unwrap_or_default().into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        self.folder.store(&self.name, data)
    }
}
