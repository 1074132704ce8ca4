//! Network namespaces (`network_namespaces(7)`): a stack with what hangs on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use netstack::Stack;
use netstack::filter::FilterLog;
use parking_lot::Mutex;

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::socket::flow_label::FlowLabels;
use crate::socket::iptables::IpTables;
use crate::socket::mroute::MulticastRouting;
use crate::socket::netlink::{NfTables, Subscribers};
use crate::socket::ops::Socket;
use crate::socket::settings::Settings;
use crate::socket::timer_thread::TimerThread;
use crate::socket::unix::AbstractNames;
use crate::task::CurrentTask;

/// A network namespace. Tasks and sockets share it through `Arc`.
pub struct NetNamespace {
    stack: Stack,
    backing: Backing,
    abstract_names: AbstractNames,
    sockets: SocketList,
    subscribers: Subscribers,
    ip_tables: IpTables,
    nf_tables: NfTables,
    multicast_routing: MulticastRouting,
    flow_labels: FlowLabels,
    hints: AtomicUsize,
    next_netlink_port: AtomicU64,
    timers: OnceLock<TimerThread>,
    settings: Settings,
}

impl NetNamespace {
    /// A namespace over `stack`, whose interfaces the caller configures and whose timers the caller drives.
    #[must_use]
    pub fn new(stack: Stack) -> Arc<Self> {
        Self::with_backing(stack, Backing::Stack)
    }

    /// A namespace whose internet sockets are the host's. `stack` has its loopback only, and nothing uses it.
    #[must_use]
    pub fn on_host(stack: Stack) -> Arc<Self> {
        Self::with_backing(stack, Backing::Host)
    }

    fn with_backing(stack: Stack, backing: Backing) -> Arc<Self> {
        stack.set_filter_log(Some(Arc::new(DebugLog)));
        Arc::new(Self {
            stack,
            backing,
            abstract_names: AbstractNames::default(),
            sockets: SocketList::default(),
            subscribers: Subscribers::default(),
            ip_tables: IpTables::default(),
            nf_tables: NfTables::default(),
            multicast_routing: MulticastRouting::default(),
            flow_labels: FlowLabels::default(),
            hints: AtomicUsize::new(0),
            next_netlink_port: AtomicU64::new(0),
            timers: OnceLock::new(),
            settings: Settings::default(),
        })
    }

    /// A namespace over a stack without links, whose timers a thread of its own runs.
    ///
    /// # Errors
    /// What the host says when it has no thread to give.
    pub fn standalone(stack: Stack) -> std::io::Result<Arc<Self>> {
        let namespace = Self::new(stack);
        let timers = TimerThread::start(&namespace)?;
        // Set once: nobody else has seen the namespace yet.
        let _ = namespace.timers.set(timers);
        Ok(namespace)
    }

    /// The network stack.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The settings of its sockets.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the guest can change settings: not those of the host.
    ///
    /// # Errors
    /// `EPERM`.
    pub(crate) fn check_configurable(&self) -> Result<(), Errno> {
        match self.backing {
            Backing::Stack => Ok(()),
            Backing::Host => Err(Errno::EPERM),
        }
    }

    /// What its internet sockets are.
    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    /// The tables of iptables.
    pub(crate) fn ip_tables(&self) -> &IpTables {
        &self.ip_tables
    }

    /// The tables of nftables.
    pub(crate) fn nf_tables(&self) -> &NfTables {
        &self.nf_tables
    }

    /// The flow labels that sockets have leased.
    pub(crate) fn flow_labels(&self) -> &FlowLabels {
        &self.flow_labels
    }

    /// What programs route packets for groups.
    pub(crate) fn multicast_routing(&self) -> &MulticastRouting {
        &self.multicast_routing
    }

    /// The abstract names of local sockets.
    pub(crate) fn abstract_names(&self) -> &AbstractNames {
        &self.abstract_names
    }

    /// The open sockets, for `/proc/net` and `ss`.
    #[must_use]
    pub fn sockets(&self) -> &SocketList {
        &self.sockets
    }

    /// Netlink sockets that listen to multicast groups.
    pub(crate) fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// Counts a socket option that was taken and has no effect.
    pub(crate) fn count_hint(&self) {
        self.hints.fetch_add(1, Ordering::Relaxed);
    }

    /// How many socket options were taken without effect.
    #[must_use]
    pub fn hints(&self) -> usize {
        self.hints.load(Ordering::Relaxed)
    }

    /// A netlink port number for a socket that does not get its process's id.
    pub(crate) fn next_netlink_port(&self) -> u32 {
        // Linux draws negative numbers: ports that cannot be process ids.
        let serial = self.next_netlink_port.fetch_add(1, Ordering::Relaxed);
        u32::MAX - u32::try_from(serial % 0x4000_0000).unwrap_or(0) - 4096
    }

    /// The namespace of `task`.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` where the sandbox was booted without a network stack.
    pub fn of(task: &CurrentTask) -> Result<Arc<Self>, Errno> {
        task.kernel().net_namespace().cloned().ok_or(Errno::EAFNOSUPPORT)
    }
}

/// What rules of the packet filter write goes to the sandbox's log, for who wants to see its details.
struct DebugLog;

impl FilterLog for DebugLog {
    fn line(&self, level: u8, text: &str) {
        tracing::debug!("packet filter <{level}>: {}", text.escape_debug());
    }
}

impl std::fmt::Debug for NetNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetNamespace").field("hints", &self.hints).finish_non_exhaustive()
    }
}

impl Kernel {
    /// The first network namespace, once boot made it.
    #[must_use]
    pub fn net_namespace(&self) -> Option<&Arc<NetNamespace>> {
        self.net.get()
    }

    /// Sets the first network namespace. Called once, at boot, before the first task.
    pub fn set_net_namespace(&self, namespace: Arc<NetNamespace>) {
        // A second call would change nothing: sockets may exist in the first namespace.
        let _ = self.net.set(namespace);
    }
}

/// What the internet sockets of a namespace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Sockets of the namespace's stack.
    Stack,
    /// Sockets of the host.
    Host,
}

/// Open sockets by inode number.
#[derive(Default)]
pub struct SocketList {
    open: Mutex<BTreeMap<u64, Weak<dyn Socket>>>,
}

impl SocketList {
    /// Adds a socket with its inode number.
    pub(crate) fn add(&self, ino: u64, socket: &Arc<dyn Socket>) {
        self.open.lock().insert(ino, Arc::downgrade(socket));
    }

    /// Removes a socket.
    pub(crate) fn remove(&self, ino: u64) {
        let removed = self.open.lock().remove(&ino);
        drop(removed);
    }

    /// All of them, in the order they were made.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<dyn Socket>> {
        self.open.lock().values().filter_map(Weak::upgrade).collect()
    }
}
