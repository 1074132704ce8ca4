//! Who may use an object (`sysvipc(7)`, "Resource access permissions").

use sentry_abi::sysv_ipc::IpcPerm;

use crate::errno::Errno;
use crate::ipc::IpcId;
use crate::kernel::UserNamespace;
use crate::task::{Capabilities, Credentials, Gid, Uid};

/// Owner, creator and mode of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permission {
    /// The key it was made with; `IPC_PRIVATE` where nobody else shall find it.
    pub(crate) key: i32,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) creator: Uid,
    pub(crate) creator_group: Gid,
    /// The nine permission bits.
    pub(crate) mode: u32,
}

/// What is asked for: any of the bits `0o444` (read), `0o222` (alter) and `0o111`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access(pub(crate) u32);

impl Access {
    /// To see it.
    pub(crate) const READ: Self = Self(0o444);
    /// To change it.
    pub(crate) const ALTER: Self = Self(0o222);
}

impl Permission {
    /// The permissions of what `creds` makes with the low bits of `flags` as its mode.
    pub(crate) fn new(key: i32, flags: i32, creds: &Credentials) -> Self {
        let mode = flags.cast_unsigned() & 0o777;
        let (uid, gid) = (creds.euid, creds.egid);
        Self { key, uid, gid, creator: uid, creator_group: gid, mode }
    }

    /// # Errors
    /// `EACCES`.
    pub(crate) fn check(
        &self,
        access: Access,
        creds: &Credentials,
        owner: &UserNamespace,
    ) -> Result<(), Errno> {
        // What is asked of any class is asked of the caller's.
        let wanted = (access.0 >> 6 | access.0 >> 3 | access.0) & 0o7;
        let granted = if creds.euid == self.creator || creds.euid == self.uid {
            self.mode >> 6
        } else if creds.in_group(self.creator_group) || creds.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        let suffices = wanted & !granted == 0 || creds.has_in(owner, Capabilities::IPC_OWNER);
        if suffices { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether `creds` may change the owner and remove the object.
    ///
    /// # Errors
    /// `EPERM`.
    pub(crate) fn check_control(&self, creds: &Credentials, owner: &UserNamespace) -> Result<(), Errno> {
        let owns = creds.euid == self.creator || creds.euid == self.uid;
        if owns || creds.has_in(owner, Capabilities::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Applies `IPC_SET`.
    ///
    /// # Errors
    /// `EINVAL` for an id that cannot be.
    pub(crate) fn set(&mut self, to: &IpcPerm, user_ns: &UserNamespace) -> Result<(), Errno> {
        let (uid, gid) = (user_ns.uid(to.uid), user_ns.gid(to.gid));
        self.uid = uid.ok_or(Errno::EINVAL)?;
        self.gid = gid.ok_or(Errno::EINVAL)?;
        self.mode = to.mode & 0o777;
        Ok(())
    }

    /// As it is, with the ids of the first user namespace.
    pub(crate) fn to_abi(self, id: IpcId) -> IpcPerm {
        IpcPerm {
            key: self.key,
            uid: self.uid.0,
            gid: self.gid.0,
            cuid: self.creator.0,
            cgid: self.creator_group.0,
            mode: self.mode,
            seq: id.sequence(),
            ..IpcPerm::default()
        }
    }
}

/// Shows the ids in `perm` as those of `user_ns`.
pub(crate) fn show_ids(perm: &mut IpcPerm, user_ns: &UserNamespace) {
    perm.uid = user_ns.show_uid(Uid(perm.uid));
    perm.gid = user_ns.show_gid(Gid(perm.gid));
    perm.cuid = user_ns.show_uid(Uid(perm.cuid));
    perm.cgid = user_ns.show_gid(Gid(perm.cgid));
}
