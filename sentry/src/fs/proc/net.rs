//! `/proc/PID/net`: what the network stack says of itself.

use std::sync::{Arc, OnceLock};

use crate::errno::Errno;
use crate::fs::pseudo::{PseudoDir, Text, TextInode};
use crate::vfs::Inode;

/// Makes the contents of one file.
pub type NetText = Box<dyn Fn() -> String + Send + Sync>;

/// The files, given once by whoever set the network up. One network namespace for each sandbox process.
static FILES: OnceLock<Vec<(&'static str, NetText)>> = OnceLock::new();

/// Names what is shown in `/proc/net`; files not named are shown empty, with their headings. Only the first call
/// counts.
pub fn register_net(files: Vec<(&'static str, NetText)>) {
    let _ = FILES.set(files);
}

/// The files with their headings, for what nobody registered.
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

struct NetFile {
    name: &'static str,
    heading: &'static str,
}

impl Text for NetFile {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let registered = FILES.get().and_then(|files| files.iter().find(|(name, _)| *name == self.name));
        Ok(registered.map_or_else(|| self.heading.to_owned(), |(_, text)| text()).into_bytes())
    }
}

/// The directory.
pub(super) fn directory() -> Arc<Inode> {
    let mut entries: Vec<(&str, Arc<Inode>)> = Vec::new();
    for (name, heading) in HEADINGS {
        entries.push((name, TextInode::inode(0o444, NetFile { name, heading })));
    }
    let extra = FILES.get().into_iter().flatten().filter(|(n, _)| HEADINGS.iter().all(|(h, _)| h != n));
    for (name, _) in extra {
        entries.push((name, TextInode::inode(0o444, NetFile { name, heading: "" })));
    }
    PseudoDir::inode(entries)
}
