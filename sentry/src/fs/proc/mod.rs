//! `proc(5)`.

mod fd;
mod id_map;
mod mem;
mod mounts;
mod net;
mod root;
mod status;
mod sys;
mod sys_conf;
mod sys_ipc;
mod sys_net;
mod sys_tcp;
mod system;
mod sysvipc;
mod task;

use std::sync::Arc;

use crate::fs::pseudo::PseudoFs;
use crate::kernel::{Kernel, PidNamespace};
use crate::vfs::{Dentry, SuperBlock};

pub use net::NetFolder;
pub(crate) use sys::write as write_setting;
pub(crate) use system::cpu_count;
pub(crate) use task::process_of;

/// `statfs(2)`.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// A view of `kernel`'s processes as they are seen in `pid_ns`; returns the dentry of its root.
#[must_use]
pub fn create(kernel: &Arc<Kernel>, pid_ns: &Arc<PidNamespace>) -> Arc<Dentry> {
    let fs = PseudoFs { name: "proc", magic: PROC_SUPER_MAGIC, is_dynamic: true };
    SuperBlock::new(Box::new(fs), root::ProcRoot::inode(kernel, pid_ns)).1
}
