//! An open `/dev/net/tun`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use netstack::NicId;
use parking_lot::Mutex;

use super::device::TunDevice;
use super::header;
use super::queue::Queue;
use super::request;
use crate::errno::{Errno, SysResult};
use crate::io::{IoDst, IoSrc};
use crate::socket::{NetNamespace, device};
use crate::task::CurrentTask;
use crate::vfs::{File, FileOps};
use crate::wait::{Observer, Readiness, WaitId};

/// The file, attached to a device or not.
pub(crate) struct TunFile {
    /// In which devices are made: that of the task that opened it.
    namespace: Arc<NetNamespace>,
    queue: Arc<Queue>,
    device: Mutex<Option<Arc<TunDevice>>>,
    /// The number for a new device (`TUNSETIFINDEX`); zero for any.
    index: AtomicU32,
}

impl TunFile {
    /// A file that is attached to nothing.
    pub(crate) fn new(namespace: Arc<NetNamespace>) -> Self {
        Self { namespace, queue: Queue::new(), device: Mutex::default(), index: AtomicU32::new(0) }
    }

    pub(super) fn namespace(&self) -> &Arc<NetNamespace> {
        &self.namespace
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The device, while it exists.
    pub(super) fn device(&self) -> Option<Arc<TunDevice>> {
        self.device.lock().clone().filter(|device| !device.is_gone())
    }

    /// Sets the device that the file was added to.
    pub(super) fn set_device(&self, device: Arc<TunDevice>) {
        *self.device.lock() = Some(device);
    }

    pub(super) fn wanted_index(&self) -> Option<NicId> {
        NicId::from_index(self.index.load(Ordering::Relaxed))
    }

    pub(super) fn set_wanted_index(&self, index: u32) {
        self.index.store(index, Ordering::Relaxed);
    }
}

impl FileOps for TunFile {
    fn read(&self, _: &File, dst: &mut dyn IoDst, _: &mut u64) -> Result<usize, Errno> {
        // DEVIATION: Linux says EFAULT to those who wait while the interface is deleted, and this only to those who come later.
        let device = self.device().ok_or(Errno::EBADFD)?;
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let packet = self.queue.pop().ok_or(Errno::EAGAIN)?;
        header::put(&packet, device.format(), dst)
    }

    fn write(&self, _: &File, src: &mut dyn IoSrc, _: &mut u64) -> Result<usize, Errno> {
        let device = self.device().ok_or(Errno::EBADFD)?;
        let len = src.remaining();
        let written = header::take(device.format(), src)?;
        device.receive(written, &self.queue)?;
        Ok(len)
    }

    fn ioctl(&self, task: &mut CurrentTask, _: &File, request: u32, arg: u64) -> SysResult {
        request::ioctl(self, task, request, arg)
    }

    fn readiness(&self, _: &File) -> Readiness {
        let Some(device) = self.device() else { return Readiness::ERR };
        let mut ready = Readiness::empty();
        if self.queue.is_filled() {
            ready |= Readiness::IN;
        }
        if device.is_up() {
            ready |= Readiness::OUT;
        }
        ready
    }

    fn register(&self, interest: Readiness, observer: Arc<dyn Observer>) -> Option<WaitId> {
        Some(self.queue.wait().register(interest, observer))
    }

    fn unregister(&self, id: WaitId) {
        self.queue.wait().unregister(id);
    }
}

impl Drop for TunFile {
    fn drop(&mut self) {
        let Some(device) = self.device.get_mut().take() else { return };
        let _changes = device::lock();
        if device.is_gone() || !device.remove_file(&self.queue) {
            return;
        }
        device.set_carrier(false);
        if let Some((namespace, nic)) = device.place() {
            device::left(&namespace, nic, device.is_persistent());
        }
    }
}
