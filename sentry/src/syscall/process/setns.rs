//! `setns(2)`.

use std::sync::Arc;

use sentry_abi::sched::CloneFlags;

use crate::errno::{Errno, SysResult};
use crate::fs::nsfs::{LINKS, Namespace};
use crate::kernel::{NamespaceKind, Namespaces, UserNamespace};
use crate::syscall::Args;
use crate::task::pidfd::PidFd;
use crate::task::trace::{AccessMode, check_access};
use crate::task::{Capabilities, Credentials, CurrentTask};
use crate::vfs::MountNamespace;

/// `setns(2)`: with a file that stands for a namespace, or with a process whose namespaces are named by flags.
pub(crate) fn sys_setns(task: &mut CurrentTask, args: &Args) -> SysResult {
    let file = task.files().get(args.fd(0))?;
    let flags = u64::from(args.u32(1));
    let mut entry = Entry::new(task);
    if let Some(namespace) = Namespace::of(file.inode()) {
        if flags != 0 && flags != namespace.kind().flag().bits() {
            return Err(Errno::EINVAL.into());
        }
        entry.add(task, namespace)?;
        entry.commit(task);
        return Ok(0);
    }
    let process = file.downcast::<PidFd>().ok_or(Errno::EINVAL)?;
    let flags = CloneFlags::from_bits(flags).filter(|flags| !flags.is_empty()).ok_or(Errno::EINVAL)?;
    let known = NamespaceKind::ALL.into_iter().fold(CloneFlags::empty(), |all, kind| all | kind.flag());
    if !known.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    let leader = task.kernel().tree().process(process.group().pid()).map(|p| p.leader.clone());
    let leader = leader.filter(|leader| leader.mm().is_some()).ok_or(Errno::ESRCH)?;
    check_access(task.task(), &task.creds(), &leader, AccessMode::RealCreds)?;
    let mut namespaces: Vec<Namespace> = LINKS
        .iter()
        .filter(|(name, _)| !name.ends_with("_for_children"))
        .filter_map(|(_, find)| find(&leader))
        .filter(|namespace| flags.contains(namespace.kind().flag()))
        .collect();
    // The user namespace first: what it gives counts for the others.
    namespaces.sort_by_key(|namespace| namespace.kind() != NamespaceKind::User);
    for namespace in &namespaces {
        entry.add(task, namespace)?;
    }
    entry.commit(task);
    Ok(0)
}

/// What a task will be in once every check has passed.
struct Entry {
    creds: Credentials,
    user: Option<Arc<UserNamespace>>,
    mount: Option<Arc<MountNamespace>>,
    others: Namespaces,
}

impl Entry {
    fn new(task: &CurrentTask) -> Self {
        let creds = Credentials::clone(&task.creds());
        Self { creds, user: None, mount: None, others: Namespaces::clone(&task.namespaces()) }
    }

    fn add(&mut self, task: &CurrentTask, namespace: &Namespace) -> Result<(), Errno> {
        match namespace {
            Namespace::User(user) => self.add_user(task, user),
            Namespace::Mount(mount) => {
                let may = self.creds.has_in(mount.base().owner(), Capabilities::SYS_ADMIN)
                    && self.creds.has_in_own(Capabilities::SYS_CHROOT | Capabilities::SYS_ADMIN);
                if !may {
                    return Err(Errno::EPERM);
                }
                if task.shares_fs() {
                    return Err(Errno::EINVAL);
                }
                self.mount = Some(mount.clone());
                Ok(())
            }
            Namespace::Cgroup(cgroup) => {
                self.check(cgroup.base.owner())?;
                self.others.cgroup = cgroup.clone();
                Ok(())
            }
            Namespace::Ipc(ipc) => {
                self.check(ipc.base.owner())?;
                self.others.ipc = ipc.clone();
                Ok(())
            }
            Namespace::Net(net) => {
                self.check(net.base().owner())?;
                self.others.net = Some(net.clone());
                Ok(())
            }
            Namespace::Pid(pid) => {
                self.check(pid.base.owner())?;
                // Only further down (pid_namespaces(7), "setns(2) and unshare(2) semantics").
                if !task.pid_ns().holds(pid) {
                    return Err(Errno::EINVAL);
                }
                self.others.pid_for_children = pid.clone();
                Ok(())
            }
            Namespace::Uts(uts) => {
                self.check(uts.base.owner())?;
                self.others.uts = uts.clone();
                Ok(())
            }
        }
    }

    /// `CAP_SYS_ADMIN` is needed in the owner of the namespace and in the caller's user namespace.
    fn check(&self, owner: &UserNamespace) -> Result<(), Errno> {
        let caps = Capabilities::SYS_ADMIN;
        if self.creds.has_in(owner, caps) && self.creds.has_in_own(caps) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn add_user(&mut self, task: &CurrentTask, user: &Arc<UserNamespace>) -> Result<(), Errno> {
        // Nobody gets back what he has given up; threads of a process are in one; nobody keeps by a shared root
        // directory what others can change.
        let is_alone = task.thread_group().threads().len() == 1 && !task.shares_fs();
        if *user == self.creds.user_ns || !is_alone {
            return Err(Errno::EINVAL);
        }
        if !self.creds.has_in(user, Capabilities::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        self.creds = self.creds.entered(user.clone());
        self.user = Some(user.clone());
        Ok(())
    }

    fn commit(self, task: &mut CurrentTask) {
        let Self { creds, user, mount, others } = self;
        let leaves_ipc = !Arc::ptr_eq(&others.ipc, &task.ipc());
        if user.is_some() {
            task.set_creds(Arc::new(creds));
        }
        if let Some(mount) = mount {
            task.fs().enter(mount);
        }
        let old = task.update_shared(|shared| std::mem::replace(&mut shared.namespaces, Arc::new(others)));
        drop(old);
        if leaves_ipc {
            // What was to be undone is in the namespace that is left (exit_sem in switch_task_namespaces).
            task.set_semaphore_undo(None);
        }
    }
}
