//! Who a task is (`credentials(7)`, `capabilities(7)`).

use std::sync::Arc;

use crate::kernel::UserNamespace;

/// A user id in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uid(pub u32);

/// A group id in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gid(pub u32);

impl Uid {
    /// The superuser.
    pub const ROOT: Self = Self(0);
}

impl Gid {
    /// The superuser's group.
    pub const ROOT: Self = Self(0);
}

bitflags::bitflags! {
    /// A set of capabilities; bit n is capability n of `capabilities(7)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    #[allow(missing_docs, reason = "the names are those of capabilities(7)")]
    pub struct Capabilities: u64 {
        const CHOWN = 1 << 0;
        const DAC_OVERRIDE = 1 << 1;
        const DAC_READ_SEARCH = 1 << 2;
        const FOWNER = 1 << 3;
        const FSETID = 1 << 4;
        const KILL = 1 << 5;
        const SETGID = 1 << 6;
        const SETUID = 1 << 7;
        const SETPCAP = 1 << 8;
        const LINUX_IMMUTABLE = 1 << 9;
        const NET_BIND_SERVICE = 1 << 10;
        const NET_BROADCAST = 1 << 11;
        const NET_ADMIN = 1 << 12;
        const NET_RAW = 1 << 13;
        const IPC_LOCK = 1 << 14;
        const IPC_OWNER = 1 << 15;
        const SYS_MODULE = 1 << 16;
        const SYS_RAWIO = 1 << 17;
        const SYS_CHROOT = 1 << 18;
        const SYS_PTRACE = 1 << 19;
        const SYS_PACCT = 1 << 20;
        const SYS_ADMIN = 1 << 21;
        const SYS_BOOT = 1 << 22;
        const SYS_NICE = 1 << 23;
        const SYS_RESOURCE = 1 << 24;
        const SYS_TIME = 1 << 25;
        const SYS_TTY_CONFIG = 1 << 26;
        const MKNOD = 1 << 27;
        const LEASE = 1 << 28;
        const AUDIT_WRITE = 1 << 29;
        const AUDIT_CONTROL = 1 << 30;
        const SETFCAP = 1 << 31;
        const MAC_OVERRIDE = 1 << 32;
        const MAC_ADMIN = 1 << 33;
        const SYSLOG = 1 << 34;
        const WAKE_ALARM = 1 << 35;
        const BLOCK_SUSPEND = 1 << 36;
        const AUDIT_READ = 1 << 37;
        const PERFMON = 1 << 38;
        const BPF = 1 << 39;
        const CHECKPOINT_RESTORE = 1 << 40;
    }
}

/// The credentials of a task. Immutable; a change installs a new value, as Linux does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// What the capabilities are relative to. The ids are those of the first user namespace, whatever this is.
    pub user_ns: Arc<UserNamespace>,
    /// Real user.
    pub uid: Uid,
    /// Effective user.
    pub euid: Uid,
    /// Saved user.
    pub suid: Uid,
    /// File system user.
    pub fsuid: Uid,
    /// Real group.
    pub gid: Gid,
    /// Effective group.
    pub egid: Gid,
    /// Saved group.
    pub sgid: Gid,
    /// File system group.
    pub fsgid: Gid,
    /// Supplementary groups.
    pub groups: Arc<[Gid]>,
    /// Capabilities that may become effective.
    pub permitted: Capabilities,
    /// Capabilities that permission checks see.
    pub effective: Capabilities,
    /// Capabilities kept over `execve(2)` by files that inherit them.
    pub inheritable: Capabilities,
    /// The limit of what `execve(2)` can give.
    pub bounding: Capabilities,
    /// Capabilities kept over `execve(2)` of plain files.
    pub ambient: Capabilities,
    /// `PR_SET_SECUREBITS`.
    pub securebits: u32,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
}

impl Credentials {
    /// The superuser with all capabilities.
    #[must_use]
    pub fn root() -> Arc<Self> {
        Self::new(Uid::ROOT, Gid::ROOT, &[], Capabilities::all())
    }

    /// A user with one set of capabilities as permitted, effective and bounding set.
    #[must_use]
    pub fn new(uid: Uid, gid: Gid, groups: &[Gid], caps: Capabilities) -> Arc<Self> {
        Arc::new(Self {
            user_ns: UserNamespace::initial(),
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: groups.into(),
            permitted: caps,
            effective: caps,
            inheritable: Capabilities::empty(),
            bounding: caps,
            ambient: Capabilities::empty(),
            securebits: 0,
            no_new_privs: false,
        })
    }

    /// True where every capability of `caps` is effective for the whole sandbox: in the first user namespace (Linux's
    /// `capable`).
    #[must_use]
    pub fn has(&self, caps: Capabilities) -> bool {
        self.effective.contains(caps) && self.user_ns.is_initial()
    }

    /// True where every capability of `caps` is effective in the user namespace of the task itself, which anybody can
    /// make.
    #[must_use]
    pub fn has_in_own(&self, caps: Capabilities) -> bool {
        self.effective.contains(caps)
    }

    /// True where every capability of `caps` is effective for what belongs to `namespace` (`user_namespaces(7)`,
    /// "Capabilities": in it, in one above it, or by having made it or one above it from right above that).
    #[must_use]
    pub fn has_in(&self, namespace: &UserNamespace, caps: Capabilities) -> bool {
        let mut at = namespace;
        loop {
            if *at == *self.user_ns {
                return self.effective.contains(caps);
            }
            if at.level() <= self.user_ns.level() {
                return false;
            }
            let Some(parent) = at.parent() else { return false };
            if *parent == self.user_ns && at.owner() == self.euid {
                return true;
            }
            at = parent;
        }
    }

    /// Whether `other` has no capability that these credentials do not have as well, be it as the maker of its user
    /// namespace (`cred_cap_issubset`).
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        if self.user_ns == other.user_ns {
            return self.permitted.contains(other.permitted);
        }
        let mut at = &other.user_ns;
        while let Some(parent) = at.parent() {
            if *parent == self.user_ns && at.owner() == self.euid {
                return true;
            }
            at = parent;
        }
        false
    }

    /// The same in another user namespace: with all capabilities in that one, and none anywhere else.
    #[must_use]
    pub fn entered(&self, namespace: Arc<UserNamespace>) -> Self {
        Self {
            user_ns: namespace,
            permitted: Capabilities::all(),
            effective: Capabilities::all(),
            inheritable: Capabilities::empty(),
            bounding: Capabilities::all(),
            ambient: Capabilities::empty(),
            securebits: 0,
            ..self.clone()
        }
    }

    /// True where `gid` is the file system group or a supplementary group.
    #[must_use]
    pub fn in_group(&self, gid: Gid) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
