//! `/proc/sys`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::fs::aio::AioAccount;
use crate::fs::pipe;
use crate::fs::proc::{sys_ipc, sys_net};
use crate::fs::pseudo::{PseudoDir, Text, TextInode};
use crate::kernel::{Kernel, NamespaceKind, PidNamespace, RELEASE, UserNamespace, VERSION};
use crate::task::{Capabilities, Credentials, Task};
use crate::vfs::{Caller, Inode};

/// A value that the guest can change, without an effect beyond being read again. Names whose value matters are
/// not of this kind.
struct Knob(Mutex<String>);

impl Text for Knob {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok(format!("{}\n", self.0.lock()).into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let text = text.trim_matches(['\n', '\0', ' ']);
        if !text.split_whitespace().all(|word| word.parse::<i64>().is_ok()) {
            return Err(Errno::EINVAL);
        }
        text.clone_into(&mut self.0.lock());
        Ok(())
    }
}

fn knob(value: &str) -> Arc<Inode> {
    TextInode::inode(0o644, Knob(Mutex::new(value.to_owned())))
}

/// `fs.aio-max-nr`.
struct AioLimit(Arc<AioAccount>);

impl Text for AioLimit {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok(format!("{}\n", self.0.most()).into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        self.0.set_most(text.trim_matches(['\n', '\0', ' ']).parse().map_err(|_| Errno::EINVAL)?);
        Ok(())
    }
}

fn fixed(value: impl Into<String>) -> Arc<Inode> {
    let value = value.into();
    TextInode::inode(0o444, move || format!("{value}\n").into_bytes())
}

/// The directory.
pub(super) fn directory(kernel: &Arc<Kernel>) -> Arc<Inode> {
    PseudoDir::inode(vec![
        ("fs", fs(kernel)),
        ("kernel", kernel_directory(kernel)),
        ("net", sys_net::directory(kernel)),
        ("user", user()),
        ("vm", vm()),
    ])
}

/// Writes `value` to the file that `name` (as in sysctl(8), `net.core.somaxconn`) stands for, below `net`: of other
/// settings each view of `/proc` has its own.
///
/// # Errors
/// `ENOENT` when there is none; what writing to the file gives.
pub(crate) fn write(kernel: &Arc<Kernel>, name: &str, value: &str) -> Result<(), Errno> {
    let rest = name.strip_prefix("net.").ok_or(Errno::ENOENT)?;
    let creds = Credentials::root();
    let caller = Caller::kernel(&creds);
    let mut inode = sys_net::directory(kernel);
    for part in rest.split('.') {
        if !inode.is_dir() {
            return Err(Errno::ENOENT);
        }
        inode = inode.ops().lookup(&inode, &caller, part.as_bytes())?;
    }
    inode.downcast::<TextInode>().ok_or(Errno::ENOENT)?.store(value.as_bytes())
}

fn fs(kernel: &Arc<Kernel>) -> Arc<Inode> {
    let aio = kernel.aio.clone();
    let inotify = PseudoDir::inode(vec![
        ("max_queued_events", fixed("16384")),
        ("max_user_instances", fixed("128")),
        ("max_user_watches", fixed("65536")),
    ]);
    let mqueue = PseudoDir::inode(sys_ipc::queue_files());
    PseudoDir::inode(vec![
        ("aio-max-nr", TextInode::inode(0o644, AioLimit(aio.clone()))),
        ("aio-nr", TextInode::inode(0o444, move || format!("{}\n", aio.used()).into_bytes())),
        ("epoll", PseudoDir::inode(vec![("max_user_watches", fixed("1048576"))])),
        ("file-max", fixed("9223372036854775807")),
        ("file-nr", fixed("0\t0\t9223372036854775807")),
        ("inotify", inotify),
        ("lease-break-time", fixed("45")),
        ("mqueue", mqueue),
        ("nr_open", fixed("1048576")),
        ("pipe-max-size", fixed(pipe::MAX_CAPACITY.to_string())),
        ("pipe-user-pages-hard", fixed("0")),
        ("pipe-user-pages-soft", fixed("16384")),
        ("protected_fifos", fixed("1")),
        ("protected_hardlinks", fixed("1")),
        ("protected_regular", fixed("1")),
        ("protected_symlinks", fixed("1")),
        ("suid_dumpable", fixed("0")),
    ])
}

/// As the process tree gives them out.
const PID_MAX: i32 = 32768;

/// How many namespaces of a kind a user may make in the user namespace of whoever opens the file (`namespaces(7)`).
struct Maximum {
    kind: NamespaceKind,
    of: Arc<UserNamespace>,
    writer: Option<Credentials>,
}

impl Text for Maximum {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        Ok(format!("{}\n", self.of.maximum(self.kind).load(Ordering::Relaxed)).into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        if !self.writer.as_ref().is_some_and(|writer| writer.has_in(&self.of, Capabilities::SYS_RESOURCE)) {
            return Err(Errno::EPERM);
        }
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let value: u64 = text.trim_matches(['\n', '\0', ' ']).parse().map_err(|_| Errno::EINVAL)?;
        if value > u64::from(i32::MAX.unsigned_abs()) {
            return Err(Errno::EINVAL);
        }
        self.of.maximum(self.kind).store(value, Ordering::Relaxed);
        Ok(())
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        let creds = task.creds();
        let writer = Some(Credentials::clone(&creds));
        Some(Arc::new(Self { kind: self.kind, of: creds.user_ns.clone(), writer }))
    }
}

/// `kernel.ns_last_pid` of the PID namespace of whoever opens the file (`pid_namespaces(7)`).
struct LastPid {
    kernel: Weak<Kernel>,
    of: Arc<PidNamespace>,
    writer: Option<Credentials>,
}

impl Text for LastPid {
    fn render(&self) -> Result<Vec<u8>, Errno> {
        let last = if self.of.is_initial() {
            self.kernel.upgrade().map_or(0, |kernel| kernel.tree().last())
        } else {
            self.of.last()
        };
        Ok(format!("{last}\n").into_bytes())
    }

    fn store(&self, data: &[u8]) -> Result<(), Errno> {
        if !self.writer.as_ref().is_some_and(|writer| self.of.lets_choose(writer)) {
            return Err(Errno::EPERM);
        }
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let last: i32 = text.trim_matches(['\n', '\0', ' ']).parse().map_err(|_| Errno::EINVAL)?;
        if !(0..=PID_MAX).contains(&last) {
            return Err(Errno::EINVAL);
        }
        if self.of.is_initial() {
            self.kernel.upgrade().ok_or(Errno::ESRCH)?.tree().set_last(last);
        } else {
            self.of.set_last(last);
        }
        Ok(())
    }

    fn opened_by(&self, task: &Task) -> Option<Arc<dyn Text>> {
        let writer = Some(Credentials::clone(&task.creds()));
        Some(Arc::new(Self { kernel: self.kernel.clone(), of: task.pid_ns().clone(), writer }))
    }
}

/// `/proc/sys/user`. Who may write there is a matter of capabilities (`set_permissions` of Linux), so the mode lets all.
fn user() -> Arc<Inode> {
    let files = [
        ("max_cgroup_namespaces", NamespaceKind::Cgroup),
        ("max_ipc_namespaces", NamespaceKind::Ipc),
        ("max_mnt_namespaces", NamespaceKind::Mount),
        ("max_net_namespaces", NamespaceKind::Net),
        ("max_pid_namespaces", NamespaceKind::Pid),
        ("max_time_namespaces", NamespaceKind::Time),
        ("max_user_namespaces", NamespaceKind::User),
        ("max_uts_namespaces", NamespaceKind::Uts),
    ];
    let file = |kind| TextInode::inode(0o666, Maximum { kind, of: UserNamespace::initial(), writer: None });
    PseudoDir::inode(files.into_iter().map(|(name, kind)| (name, file(kind))).collect())
}

/// A random UUID, a new one for each read.
fn uuid() -> String {
    let mut bytes = [0; 16];
    if sentry_hostio::random::fill(&mut bytes).is_err() {
        return String::new();
    }
    // RFC 9562 section 5.4: version 4, variant 10.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn kernel_directory(kernel: &Arc<Kernel>) -> Arc<Inode> {
    let boot_id = uuid();
    let random = PseudoDir::inode(vec![
        ("boot_id", fixed(boot_id)),
        ("entropy_avail", fixed("256")),
        ("poolsize", fixed("256")),
        ("uuid", TextInode::inode(0o444, || format!("{}\n", uuid()).into_bytes())),
    ]);
    let weak = Arc::downgrade(kernel);
    let name = move |domain: bool| {
        let kernel = weak.clone();
        move || {
            let first = kernel.upgrade().and_then(|k| k.tree().processes().next().map(|p| p.leader.uts()));
            let mut text =
                first.map_or_else(Vec::new, |u| if domain { u.domainname() } else { u.hostname() });
            text.push(b'\n');
            text
        }
    };
    let last_pid = LastPid { kernel: Arc::downgrade(kernel), of: PidNamespace::initial(), writer: None };
    let mut files = vec![
        ("cap_last_cap", fixed("40")),
        ("core_pattern", fixed("core")),
        ("core_uses_pid", knob("0")),
        ("dmesg_restrict", fixed("1")),
        ("domainname", TextInode::inode(0o444, name(true))),
        ("hostname", TextInode::inode(0o444, name(false))),
        ("kptr_restrict", fixed("1")),
        ("ngroups_max", fixed("65536")),
        ("ns_last_pid", TextInode::inode(0o666, last_pid)),
        ("osrelease", fixed(RELEASE)),
        ("ostype", fixed("Linux")),
        ("overflowgid", fixed("65534")),
        ("overflowuid", fixed("65534")),
        ("panic", fixed("0")),
        ("perf_event_paranoid", fixed("3")),
        ("pid_max", fixed(PID_MAX.to_string())),
        ("printk", fixed("4\t4\t1\t7")),
        ("random", random),
        ("randomize_va_space", fixed("2")),
        ("sched_child_runs_first", fixed("0")),
        ("seccomp", seccomp()),
        ("tainted", fixed("0")),
        ("threads-max", fixed("63000")),
        ("unprivileged_bpf_disabled", fixed("2")),
        ("version", fixed(VERSION)),
        ("yama", PseudoDir::inode(vec![("ptrace_scope", fixed("0"))])),
    ];
    files.extend(sys_ipc::files());
    PseudoDir::inode(files)
}

fn seccomp() -> Arc<Inode> {
    const ACTIONS: &str = "kill_process kill_thread trap errno trace log allow";
    PseudoDir::inode(vec![
        ("actions_avail", fixed(ACTIONS)),
        ("actions_logged", fixed(ACTIONS.trim_end_matches(" allow"))),
    ])
}

fn vm() -> Arc<Inode> {
    PseudoDir::inode(vec![
        ("drop_caches", knob("0")),
        ("max_map_count", fixed("65530")),
        ("min_free_kbytes", fixed("67584")),
        ("mmap_min_addr", fixed("65536")),
        ("nr_hugepages", fixed("0")),
        ("overcommit_memory", knob("0")),
        ("overcommit_ratio", knob("50")),
        ("swappiness", knob("60")),
    ])
}
