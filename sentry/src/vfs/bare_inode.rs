//! An inode that is nothing but attributes: what it stands for is opened by the VFS (devices, FIFOs) or not at all.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::vfs::{Caller, FileOps, Inode, InodeOps, OpenFlags, SetAttr, Stat};

/// Attributes in memory, and no way to open it.
#[derive(Debug)]
pub(crate) struct BareInode {
    stat: Mutex<Stat>,
}

impl BareInode {
    /// An inode with these attributes.
    pub(crate) fn new(stat: Stat) -> Self {
        Self { stat: Mutex::new(stat) }
    }
}

impl InodeOps for BareInode {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(*self.stat.lock())
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<(), Errno> {
        attr.apply(&mut self.stat.lock());
        Ok(())
    }

    fn open(&self, _: &Arc<Inode>, _: OpenFlags, _: &Caller<'_>) -> Result<Box<dyn FileOps>, Errno> {
        // The VFS opens devices by their numbers and FIFOs by their buffer; of the rest open(2) of /proc/PID/fd/N says this.
        Err(Errno::ENXIO)
    }
}
