//! Network namespaces (`network_namespaces(7)`): a stack with what hangs on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use netstack::filter::FilterLog;
use netstack::{Stack, tcp};
use parking_lot::Mutex;

use crate::errno::Errno;
use crate::kernel::{Kernel, NamespaceBase, NamespaceKind};
use crate::socket::departed::Departed;
use crate::socket::device::{self, Devices, PeerIds};
use crate::socket::flow_label::FlowLabels;
use crate::socket::iptables::IpTables;
use crate::socket::mroute::MulticastRouting;
use crate::socket::netlink::{NfTables, Subscribers};
use crate::socket::ops::Socket;
use crate::socket::proc_net::HostFiles;
use crate::socket::settings::Settings;
use crate::socket::timer_thread::{self, Registration};
use crate::socket::unix::AbstractNames;
use crate::task::{Capabilities, Credentials, CurrentTask};

/// A network namespace. Tasks and sockets share it through `Arc`.
pub struct NetNamespace {
    base: NamespaceBase,
    stack: Stack,
    backing: Backing,
    host_files: Option<HostFiles>,
    abstract_names: AbstractNames,
    sockets: SocketList,
    departed: Departed,
    subscribers: Subscribers,
    ip_tables: IpTables,
    nf_tables: NfTables,
    multicast_routing: MulticastRouting,
    flow_labels: FlowLabels,
    hints: AtomicUsize,
    next_netlink_port: AtomicU64,
    timers: OnceLock<Registration>,
    settings: Settings,
    devices: Devices,
    peer_ids: PeerIds,
}

impl NetNamespace {
    /// The first namespace, over `stack`, whose interfaces the caller configures and whose timers the caller drives.
    #[must_use]
    pub fn new(stack: Stack) -> Arc<Self> {
        Arc::new(Self::with(NamespaceBase::initial(NamespaceKind::Net), stack, Backing::Stack, None))
    }

    /// A namespace that `maker` makes (`CLONE_NEWNET`): a stack of its own with a loopback that is down. The caller checked
    /// that it may. What Linux has new namespaces take over, they take over from `first`, whoever the maker is.
    ///
    /// # Errors
    /// `ENOSPC` where there are too many, `EAGAIN` when the host has no thread to give.
    pub(crate) fn create(maker: &Credentials, first: Option<&Self>) -> Result<Arc<Self>, Errno> {
        let base = NamespaceBase::new(NamespaceKind::Net, maker)?;
        let stack = Stack::builder().build();
        for nic in stack.nics() {
            // They come with the loopback going up. The NIC is there, and so are its addresses.
            for own in &nic.addresses {
                let _ = stack.remove_address(nic.id, own.address());
            }
            let _ = stack.set_nic_up(nic.id, false);
        }
        if let Some(first) = first {
            inherit(&stack, &first.stack);
        }
        let namespace = Arc::new(Self::with(base, stack, Backing::Stack, None));
        namespace.run_timers().map_err(|_| Errno::EAGAIN)?;
        Ok(namespace)
    }

    /// A namespace whose internet sockets are the host's. `stack` has its loopback only, and nothing uses it.
    #[must_use]
    pub fn on_host(stack: Stack, files: Option<HostFiles>) -> Arc<Self> {
        Arc::new(Self::with(NamespaceBase::initial(NamespaceKind::Net), stack, Backing::Host, files))
    }

    fn with(base: NamespaceBase, stack: Stack, backing: Backing, host_files: Option<HostFiles>) -> Self {
        stack.set_filter_log(Some(Arc::new(DebugLog)));
        Self {
            base,
            stack,
            backing,
            host_files,
            abstract_names: AbstractNames::default(),
            sockets: SocketList::default(),
            departed: Departed::default(),
            subscribers: Subscribers::default(),
            ip_tables: IpTables::default(),
            nf_tables: NfTables::default(),
            multicast_routing: MulticastRouting::default(),
            flow_labels: FlowLabels::default(),
            hints: AtomicUsize::new(0),
            next_netlink_port: AtomicU64::new(0),
            timers: OnceLock::new(),
            settings: Settings::default(),
            devices: Devices::default(),
            peer_ids: PeerIds::default(),
        }
    }

    /// The first namespace, over a stack without links, whose timers are run as well.
    ///
    /// # Errors
    /// What the host says when it has no thread to give.
    pub fn standalone(stack: Stack) -> std::io::Result<Arc<Self>> {
        let namespace = Self::new(stack);
        namespace.run_timers()?;
        Ok(namespace)
    }

    fn run_timers(self: &Arc<Self>) -> std::io::Result<()> {
        // Set once: nobody else has seen the namespace yet.
        let _ = self.timers.set(timer_thread::register(self)?);
        Ok(())
    }

    /// What keeps its timers running, if the namespace does that itself.
    #[cfg(test)]
    pub(super) fn timers(&self) -> Option<&Registration> {
        self.timers.get()
    }

    /// Its number and the user namespace that it belongs to.
    pub(crate) fn base(&self) -> &NamespaceBase {
        &self.base
    }

    /// Whether capabilities of `creds` count here (`ns_capable(net->user_ns, ...)`).
    pub(crate) fn grants(&self, creds: &Credentials, caps: Capabilities) -> bool {
        creds.has_in(self.base.owner(), caps)
    }

    /// The host's files of `/proc/net`, where its sockets are the host's.
    pub(crate) fn host_files(&self) -> Option<&HostFiles> {
        self.host_files.as_ref()
    }

    /// The network stack.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The devices that are more than NICs of the stack.
    pub(in crate::socket) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The numbers by which it knows other namespaces.
    pub(in crate::socket) fn peer_ids(&self) -> &PeerIds {
        &self.peer_ids
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

    /// Those that were closed, while packets are recorded.
    pub(crate) fn departed(&self) -> &Departed {
        &self.departed
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
        task.net().ok_or(Errno::EAFNOSUPPORT)
    }
}

/// `tcp_sk_init` copies the sizes of buffers and the congestion control of the first namespace; all else begins anew.
fn inherit(stack: &Stack, first: &Stack) {
    let given = first.tcp_config();
    let mut config = tcp::Config::clone(&stack.tcp_config());
    (config.receive_buffer, config.send_buffer) = (given.receive_buffer, given.send_buffer);
    config.congestion = given.congestion;
    stack.set_tcp_config(config);
}

impl Drop for NetNamespace {
    fn drop(&mut self) {
        let devices = self.devices.take_all();
        if !devices.is_empty() {
            // Whoever was the last may be changing devices at this moment.
            timer_thread::later(move || device::abandon(devices));
        }
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

#[cfg(test)]
mod tests {
    use netstack::options::Family;
    use netstack::{TcpSocket, UdpSocket};

    use super::*;
    use crate::socket::device::{self, Spec, SpecKind};

    fn up(namespace: &Arc<NetNamespace>, nic: netstack::NicId) {
        let nic = namespace.stack().nic(nic).unwrap();
        device::set_up(namespace, &nic, true).unwrap();
    }

    fn pair(one: &Arc<NetNamespace>, two: &Arc<NetNamespace>) -> [netstack::NicId; 2] {
        let spec = |namespace, kind| Spec { namespace, name: None, index: None, mac: None, mtu: None, kind };
        let _changes = device::lock();
        let peer = Box::new(spec(two, SpecKind::Dummy));
        let made = device::make(&spec(one, SpecKind::Veth(peer))).unwrap();
        let (own, peer) = (made.place().unwrap().1, made.peer_place().unwrap().1);
        up(one, own);
        up(two, peer);
        [own, peer]
    }

    /// Namespaces with pairs, sockets and timers between them, made and dropped a thousand times.
    #[test]
    fn what_is_dropped_leaves_nothing() {
        let creds = Credentials::root();
        let first = NetNamespace::create(&creds, None).unwrap();
        let (mut gone, mut stacks) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            let namespace = NetNamespace::create(&creds, None).unwrap();
            let [_, inside] = pair(&first, &namespace);
            namespace.stack().add_address(inside, "10.0.0.2/24".parse().unwrap()).unwrap();
            let tcp = TcpSocket::new(namespace.stack(), Family::V4);
            // Nobody answers: a timer runs.
            let _ = tcp.connect("10.0.0.1:9".parse().unwrap());
            let udp = UdpSocket::new(namespace.stack(), Family::V4);
            udp.bind("10.0.0.2:9".parse().unwrap()).unwrap();
            gone.push(Arc::downgrade(&namespace));
            stacks.push(udp);
            stacks.truncate(1);
        }
        // The thread that takes the pairs apart has a while.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while first.stack().nics().len() > 1 && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(gone.iter().all(|namespace| namespace.strong_count() == 0));
        assert_eq!(first.stack().nics().len(), 1);
        assert_eq!(first.peer_ids().all(), Vec::<i32>::new());
    }

    #[test]
    fn a_pair_ends_with_either_end() {
        let creds = Credentials::root();
        let (one, two) =
            (NetNamespace::create(&creds, None).unwrap(), NetNamespace::create(&creds, None).unwrap());
        let [own, peer] = pair(&one, &two);
        assert!(one.link_details(&one.stack().nic(own).unwrap()).has_carrier);
        let down = two.stack().nic(peer).unwrap();
        device::set_up(&two, &down, false).unwrap();
        assert!(!one.link_details(&one.stack().nic(own).unwrap()).has_carrier);
        device::remove_nic(&one, own).unwrap();
        assert!(two.stack().nic(peer).is_none() && two.devices().get(peer).is_none());
        assert_eq!(device::remove_nic(&one, own), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn buffers_and_congestion_control_are_those_of_the_first_namespace() {
        let creds = Credentials::root();
        let change = |namespace: &Arc<NetNamespace>, congestion, size| {
            let mut config = tcp::Config::clone(&namespace.stack().tcp_config());
            (config.congestion, config.receive_buffer.max, config.send_buffer.max) = (congestion, size, size);
            config.sack = false;
            namespace.stack().set_tcp_config(config);
        };
        let first = NetNamespace::create(&creds, None).unwrap();
        change(&first, tcp::Algorithm::NewReno, 1 << 20);
        // What this one has concerns nobody else.
        let second = NetNamespace::create(&creds, Some(&first)).unwrap();
        change(&second, tcp::Algorithm::Bbr, 2 << 20);
        let config = NetNamespace::create(&creds, Some(&first)).unwrap().stack().tcp_config();
        let sizes = (config.receive_buffer.max, config.send_buffer.max);
        assert_eq!(
            (config.congestion, sizes, config.sack),
            (tcp::Algorithm::NewReno, (1 << 20, 1 << 20), true)
        );
    }
}
