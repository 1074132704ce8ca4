//! The host's files of `/proc/net`, for guests that use the host's network.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::socket::NetNamespace;
use crate::socket::proc_net::{NetFile, own_files};

/// The files, opened while the process can still name them. They are those of the network namespace in which they were
/// opened.
#[derive(Debug)]
pub struct HostFiles(Vec<(&'static str, Arc<Mutex<File>>)>);

impl HostFiles {
    /// Opens what there is.
    #[must_use]
    pub fn open() -> Self {
        let open = |name| {
            let file = File::open(format!("/proc/self/net/{name}")).ok()?;
            // The kernel makes the text anew when it is read from the start, and keeps its place for one reader.
            Some((name, Arc::new(Mutex::new(file))))
        };
        Self(NAMES.into_iter().filter_map(open).collect())
    }
}

/// The files of a namespace on the host: the host's, and the guest's own of what the host knows nothing about.
pub(super) fn files(namespace: &Arc<NetNamespace>, host: &HostFiles) -> Vec<NetFile> {
    let names: Vec<_> = host.0.iter().map(|(name, _)| *name).collect();
    let own = own_files(namespace).into_iter().filter(|(name, _)| !names.contains(name));
    let hosts = host.0.iter().map(|(name, file)| -> NetFile {
        let file = file.clone();
        (*name, Box::new(move || read(&file.lock())))
    });
    own.chain(hosts).collect()
}

/// The whole text as it is now.
fn read(file: &File) -> String {
    let mut text = Vec::new();
    let mut part = vec![0; PART_BYTES];
    while text.len() < TEXT_MAX {
        match file.read_at(&mut part, text.len() as u64) {
            Ok(0) | Err(_) => break,
            Ok(n) => text.extend_from_slice(&part[..n]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What is about interfaces, routes and internet sockets. Local, packet and netlink sockets are the guest's own.
const NAMES: [&str; 15] = [
    "arp",
    "dev",
    "if_inet6",
    "ipv6_route",
    "netstat",
    "raw",
    "raw6",
    "route",
    "snmp",
    "snmp6",
    "sockstat",
    "tcp",
    "tcp6",
    "udp",
    "udp6",
];
const PART_BYTES: usize = 64 << 10;
/// More than a host with a hundred thousand connections shows; the rest is left out.
const TEXT_MAX: usize = 16 << 20;
