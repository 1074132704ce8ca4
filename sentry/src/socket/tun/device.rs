//! The device: a link of a stack, and what programs set about it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use netstack::NicId;
use netstack::link::{Capabilities, Link, LinkError, Medium};
use netstack::packet::Packet;
use netstack::wire::ethernet::MacAddr;
use parking_lot::{Mutex, RwLock};
use sentry_abi::tun::*;

use super::files::Files;
use super::filter::Filters;
use super::header::{Written, ethertype_of};
use super::offload;
use super::queue::Queue;
use super::steering::Steering;
use crate::errno::Errno;
use crate::socket::NetNamespace;
use crate::socket::inet::ToErrno;
use crate::socket::packet::vnet_header;
use crate::task::{Capabilities as TaskCapabilities, Credentials, Gid, Uid};
use crate::wait::Readiness;

/// What a device carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::socket) enum TunKind {
    /// IP packets (`IFF_TUN`).
    Tun,
    /// Ethernet frames (`IFF_TAP`), of a station that has this address at first.
    Tap(MacAddr),
}

/// What is in front of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) kind: TunKind,
    /// `struct tun_pi`.
    pub(super) has_protocol: bool,
    /// The length of the virtio-net header, where there is one.
    pub(super) vnet_len: Option<usize>,
}

/// A tunnel device.
pub(in crate::socket) struct TunDevice {
    kind: TunKind,
    /// Those of `FEATURES`.
    flags: AtomicU32,
    vnet_len: AtomicUsize,
    is_up: AtomicBool,
    has_carrier: AtomicBool,
    is_gone: AtomicBool,
    settings: Mutex<Settings>,
    has_filters: AtomicBool,
    filters: RwLock<Filters>,
    files: RwLock<Files>,
    steering: Steering,
    /// Weak: the namespace owns the device.
    home: RwLock<Option<(Weak<NetNamespace>, NicId)>>,
}

/// What is asked for rarely.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) owner: Option<Uid>,
    pub(super) group: Option<Gid>,
    /// It stays when nobody has a file of it.
    pub(super) is_persistent: bool,
    pub(super) send_buffer: i32,
    /// `ARPHRD_*`, where somebody chose one.
    pub(super) hardware_type: Option<u16>,
    /// `TUNSETVNETLE`: kept, since all headers are little-endian here.
    pub(super) is_little_endian: bool,
    /// The structure that `TUNATTACHFILTER` was given.
    pub(super) program: [u8; crate::bpf::FPROG_LEN],
}

/// What is shown of a device.
#[derive(Debug, Clone, Copy)]
pub struct TunDetails {
    /// `IFF_*`, those of the type among them.
    pub flags: u32,
    /// Who may attach to it without being an administrator.
    pub owner: Option<Uid>,
    /// The same for a group.
    pub group: Option<Gid>,
    /// Files that get packets.
    pub queues: u32,
    /// Files that do not at the moment.
    pub resting_queues: u32,
    /// `ARPHRD_*`, where somebody chose one.
    pub hardware_type: Option<u16>,
}

impl TunDetails {
    /// How many packets wait at most (`TUN_READQ_SIZE`, and what `ether_setup` says).
    #[must_use]
    pub fn queue_len(&self) -> u32 {
        if self.flags & IFF_TAP == 0 { TUN_QUEUE_LEN } else { TAP_QUEUE_LEN }
    }
}

impl TunDevice {
    /// A device that is nowhere yet.
    pub(in crate::socket) fn new(kind: TunKind, flags: u32) -> Arc<Self> {
        Arc::new(Self {
            kind,
            flags: AtomicU32::new(flags & FEATURES),
            vnet_len: AtomicUsize::new(vnet_header::PLAIN_LEN),
            is_up: AtomicBool::new(false),
            has_carrier: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            settings: Mutex::new(Settings {
                owner: None,
                group: None,
                is_persistent: false,
                send_buffer: i32::MAX,
                hardware_type: None,
                is_little_endian: false,
                program: Default::default(),
            }),
            has_filters: AtomicBool::new(false),
            filters: RwLock::default(),
            files: RwLock::default(),
            steering: Steering::default(),
            home: RwLock::default(),
        })
    }

    /// What it carries.
    pub(in crate::socket) fn kind(&self) -> TunKind {
        self.kind
    }

    /// Tells where it is now.
    pub(in crate::socket) fn attach(&self, namespace: &Arc<NetNamespace>, nic: NicId) {
        *self.home.write() = Some((Arc::downgrade(namespace), nic));
    }

    /// Where it is.
    pub(super) fn place(&self) -> Option<(Arc<NetNamespace>, NicId)> {
        let (namespace, nic) = self.home.read().clone()?;
        Some((namespace.upgrade()?, nic))
    }

    /// The NIC went up or down.
    pub(in crate::socket) fn set_on(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Release);
        if is_up {
            self.tell(Readiness::OUT);
        }
    }

    /// Whether somebody is at the other end.
    pub(in crate::socket) fn has_carrier(&self) -> bool {
        self.has_carrier.load(Ordering::Acquire)
    }

    pub(super) fn set_carrier(&self, has_carrier: bool) {
        self.has_carrier.store(has_carrier, Ordering::Release);
    }

    /// The interface is deleted: files are as they were before they were attached.
    pub(in crate::socket) fn end(&self) {
        self.is_gone.store(true, Ordering::Release);
        let files = std::mem::take(&mut *self.files.write());
        for file in files.all() {
            file.clear();
            file.wait().notify(Readiness::IN | Readiness::ERR);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    fn tell(&self, ready: Readiness) {
        // Who is told may look at the device.
        let all: Vec<Arc<Queue>> = self.files.read().all().cloned().collect();
        all.iter().for_each(|file| file.wait().notify(ready));
    }

    /// `IFF_*` as `TUNGETIFF` shows them (`tun_flags`).
    pub(super) fn flags(&self) -> u32 {
        let kind = if self.kind == TunKind::Tun { IFF_TUN } else { IFF_TAP };
        let persistent = if self.settings.lock().is_persistent { IFF_PERSIST } else { 0 };
        kind | persistent | self.flags.load(Ordering::Relaxed)
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    pub(super) fn set_features(&self, flags: u32) {
        self.flags.store(flags & FEATURES, Ordering::Relaxed);
    }

    pub(super) fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.lock());
    }

    pub(super) fn change_filters(&self, change: impl FnOnce(&mut Filters)) {
        let mut filters = self.filters.write();
        change(&mut filters);
        self.has_filters.store(!filters.is_empty(), Ordering::Release);
    }

    /// The length of the virtio-net header, whether there is one or not.
    pub(super) fn vnet_len(&self) -> usize {
        self.vnet_len.load(Ordering::Relaxed)
    }

    pub(super) fn set_vnet_len(&self, len: usize) {
        self.vnet_len.store(len, Ordering::Relaxed);
    }

    pub(super) fn format(&self) -> Format {
        let flags = self.flags.load(Ordering::Relaxed);
        Format {
            kind: self.kind,
            has_protocol: flags & IFF_NO_PI == 0,
            vnet_len: (flags & IFF_VNET_HDR != 0).then(|| self.vnet_len()),
        }
    }

    /// What its readers finish themselves (`TUNSETOFFLOAD`, `set_offload`). Only a header tells them that they have to.
    ///
    /// # Errors
    /// `EINVAL` for what goes with nothing that is there, or is unknown.
    pub(super) fn set_offload(&self, wanted: u32) -> Result<(), Errno> {
        let capabilities = offload::capabilities(wanted)?;
        let (namespace, nic) = self.place().ok_or(Errno::EBADFD)?;
        let capabilities = if self.has(IFF_VNET_HDR) { capabilities } else { Capabilities::default() };
        namespace.stack().set_nic_capabilities(nic, capabilities).map_err(|e| e.to_errno())
    }

    /// Whether somebody may attach a file (`tun_not_capable`).
    pub(super) fn admits(&self, namespace: &NetNamespace, creds: &Credentials) -> bool {
        let settings = self.settings();
        let is_owner = settings.owner.is_none_or(|owner| owner == creds.euid);
        let is_member =
            settings.group.is_none_or(|group| creds.egid == group || creds.groups.contains(&group));
        (is_owner && is_member) || namespace.grants(creds, TaskCapabilities::NET_ADMIN)
    }

    /// Attaches a file.
    ///
    /// # Errors
    /// `EBUSY` for a second one of a device with one queue, `E2BIG` for one too many.
    pub(super) fn add_file(&self, file: &Arc<Queue>) -> Result<(), Errno> {
        self.files.write().add(file, self.has(IFF_MULTI_QUEUE))
    }

    /// Detaches a file; whether it was the last one.
    pub(super) fn remove_file(&self, file: &Arc<Queue>) -> bool {
        let mut files = self.files.write();
        files.remove(file);
        self.steering.forget();
        files.len() == 0
    }

    /// Gives a file no packets for now, or some again (`TUNSETQUEUE`).
    ///
    /// # Errors
    /// `EINVAL` if that is so already, or the device has one queue.
    pub(super) fn set_resting(&self, file: &Arc<Queue>, rests: bool) -> Result<(), Errno> {
        if !self.has(IFF_MULTI_QUEUE) {
            return Err(Errno::EINVAL);
        }
        self.files.write().set_resting(file, rests)?;
        self.steering.forget();
        if rests {
            file.clear();
        }
        Ok(())
    }

    pub(super) fn is_resting(&self, file: &Arc<Queue>) -> bool {
        self.files.read().is_resting(file)
    }

    /// How many files are attached.
    pub(super) fn file_count(&self) -> usize {
        self.files.read().len()
    }

    /// Whether what is written gets anywhere.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// Lets the stack receive what was written to a file.
    ///
    /// # Errors
    /// `EINVAL` for what is no packet or frame, `EIO` while the interface is down.
    pub(super) fn receive(&self, written: Written, file: &Arc<Queue>) -> Result<(), Errno> {
        let Written { protocol, offload, bytes } = written;
        let l3 = self.header_len();
        if bytes.len() < l3 {
            return Err(Errno::EINVAL);
        }
        let first = bytes.first().copied().unwrap_or(0);
        let packet = offload.received(bytes.into(), l3).ok_or(Errno::EINVAL)?;
        let mut is_known = true;
        if self.kind == TunKind::Tun {
            let ethertype = ethertype_of(first);
            match protocol {
                Some(protocol) => is_known = ethertype == Some(protocol),
                None => drop(ethertype.ok_or(Errno::EINVAL)?),
            }
        }
        if !self.is_up() {
            return Err(Errno::EIO);
        }
        let (namespace, nic) = self.place().ok_or(Errno::EBADFD)?;
        // What its writer calls something else goes where packets of unknown protocols go: nowhere.
        if is_known {
            self.learn(&packet, l3, file);
            namespace.stack().deliver(nic, &mut vec![packet]);
        }
        Ok(())
    }

    fn learn(&self, packet: &Packet, l3: usize, file: &Arc<Queue>) {
        if !self.has(IFF_MULTI_QUEUE) {
            return;
        }
        let number = self.files.read().number_of(file);
        if let Some(number) = number {
            self.steering.learn(packet, l3, number);
        }
    }

    fn header_len(&self) -> usize {
        if self.kind == TunKind::Tun { 0 } else { ETHERNET_HEADER }
    }

    /// What is shown of it.
    pub(in crate::socket) fn details(&self) -> TunDetails {
        let Settings { owner, group, hardware_type, .. } = self.settings();
        let files = self.files.read();
        // At most 256.
        let count = |files: &[Arc<Queue>]| u32::try_from(files.len()).unwrap_or(u32::MAX);
        TunDetails {
            flags: self.flags(),
            owner,
            group,
            queues: count(files.reading()),
            resting_queues: count(files.resting()),
            hardware_type,
        }
    }

    /// Whether it stays without files.
    pub(super) fn is_persistent(&self) -> bool {
        self.settings.lock().is_persistent
    }
}

impl Link for TunDevice {
    fn medium(&self) -> Medium {
        match self.kind {
            TunKind::Tun => Medium::Ip,
            TunKind::Tap(mac) => Medium::Ethernet(mac),
        }
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn send_batch(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        if self.has_filters.load(Ordering::Acquire) {
            return Ok(self.send_filtered(packets));
        }
        self.queue(packets)
    }
}

impl TunDevice {
    fn queue(&self, packets: &mut [Packet]) -> Result<usize, LinkError> {
        let files = self.files.read();
        let capacity = match self.kind {
            TunKind::Tun => TUN_QUEUE_LEN,
            TunKind::Tap(_) => TAP_QUEUE_LEN,
        } as usize;
        let taken = match files.reading() {
            [] => return Err(LinkError::Down),
            [file] => {
                let file = file.clone();
                // Who is told may look at the device.
                drop(files);
                file.push(packets, capacity)
            }
            several => {
                let several = several.to_vec();
                drop(files);
                let l3 = self.header_len();
                let is_taken = |packet: &mut Packet| {
                    let file = self.steering.choose(packet, l3, several.len());
                    several[file].push(std::slice::from_mut(packet), capacity) == 1
                };
                let full = packets.iter_mut().position(|packet| !is_taken(packet));
                full.unwrap_or(packets.len())
            }
        };
        if taken == 0 && !packets.is_empty() { Err(LinkError::Full) } else { Ok(taken) }
    }

    /// What a filter does not want, and what there is no room for, is gone.
    fn send_filtered(&self, packets: &mut [Packet]) -> usize {
        for packet in &mut *packets {
            if self.filters.read().passes(packet) {
                let _ = self.queue(std::slice::from_mut(packet));
            }
        }
        packets.len()
    }
}

/// `TUN_FEATURES`.
pub(super) const FEATURES: u32 =
    IFF_NO_PI | IFF_ONE_QUEUE | IFF_VNET_HDR | IFF_MULTI_QUEUE | IFF_NAPI | IFF_NAPI_FRAGS | IFF_NO_CARRIER;
const TUN_QUEUE_LEN: u32 = 500;
const TAP_QUEUE_LEN: u32 = 1000;
const ETHERNET_HEADER: usize = 14;

#[cfg(test)]
mod tests {
    use super::super::files::MAX_FILES;
    use super::*;

    #[test]
    fn a_device_without_files_is_down_and_with_full_ones_full() {
        let device = TunDevice::new(TunKind::Tun, IFF_MULTI_QUEUE);
        assert_eq!(device.send_batch(&mut [Packet::default()]), Err(LinkError::Down));
        let files: Vec<Arc<Queue>> = (0..MAX_FILES).map(|_| Queue::new()).collect();
        files.iter().for_each(|file| device.add_file(file).unwrap());
        assert_eq!(device.add_file(&Queue::new()), Err(Errno::E2BIG));
        for file in &files[1..] {
            assert!(!device.remove_file(file));
        }
        let sent = (0..).take_while(|_| device.send_batch(&mut [Packet::default()]).is_ok()).count();
        assert_eq!(sent, 500);
        assert_eq!(device.set_resting(&files[0], false), Err(Errno::EINVAL));
        device.set_resting(&files[0], true).unwrap();
        assert!(!files[0].is_filled() && device.is_resting(&files[0]));
        assert_eq!(device.send_batch(&mut [Packet::default()]), Err(LinkError::Down));
        assert!(device.remove_file(&files[0]));
    }
}
