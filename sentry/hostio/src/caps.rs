//! Capability sets of the calling thread (capabilities(7)).

use std::io;
use std::str::FromStr;

use thiserror::Error;

/// Names in the order of `linux/capability.h`; the index is the capability's number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// One capability, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// Change owners of files.
    pub const CHOWN: Self = Self(0);
    /// Bypass permission checks of files.
    pub const DAC_OVERRIDE: Self = Self(1);
    /// Bypass read and search permission checks.
    pub const DAC_READ_SEARCH: Self = Self(2);
    /// Act as the owner of any file.
    pub const FOWNER: Self = Self(3);
    /// Keep set-id bits when files change.
    pub const FSETID: Self = Self(4);
    /// Raw and packet sockets.
    pub const NET_RAW: Self = Self(13);
    /// Change the root directory.
    pub const SYS_CHROOT: Self = Self(18);
    /// Create device nodes.
    pub const MKNOD: Self = Self(27);
    /// Set file capabilities.
    pub const SETFCAP: Self = Self(31);

    /// The capability's number as in `linux/capability.h`.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The capability's name, `CAP_` included.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

/// A name that no capability has.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("unknown capability {0:?}")]
pub struct UnknownCapability(String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Accepts the name in any case, with or without `CAP_`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        (0u8..)
            .zip(NAMES)
            .find(|(_, name)| name.strip_prefix("CAP_") == Some(bare))
            .map(|(number, _)| Self(number))
            .ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

/// A set of capabilities as the kernel's bit mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability that this crate knows.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// The set with `capability` added.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability.0)
    }

    /// Tells whether `capability` is in the set.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// The kernel's mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What both sets have.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<T: IntoIterator<Item = Capability>>(capabilities: T) -> Self {
        capabilities.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`; the kernel takes two, low and high halves.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

/// The calling thread's effective set.
///
/// # Errors
/// The errors of capget(2).
pub fn effective() -> io::Result<CapSet> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: capget writes at most two data structs for version 3, and both pointers are to live,
    // correctly laid out values.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(CapSet(u64::from(data[0].effective) | u64::from(data[1].effective) << 32))
}

/// Reduces the calling thread to `keep`: bounding, permitted and effective sets become exactly that,
/// ambient and inheritable sets become empty.
///
/// # Errors
/// The errors of prctl(2) and capset(2): `EPERM` when `keep` has something the thread lacks.
pub fn restrict_to(keep: CapSet) -> io::Result<()> {
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes no pointers.
    let cleared = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    if cleared < 0 {
        return Err(io::Error::last_os_error());
    }
    drop_bounding(keep)?;
    let half = |shift: u32| {
        // The mask makes the truncation exact.
        let bits = u32::try_from(keep.0 >> shift & u64::from(u32::MAX)).unwrap_or(0);
        Data { effective: bits, permitted: bits, inheritable: 0 }
    };
    let mut header = Header { version: VERSION_3, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: capset reads the header and two data structs, all live for the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Drops everything outside `keep` from the bounding set; a thread without `CAP_SETPCAP` cannot,
/// and has nothing to gain from the set either when it cannot execute set-id programs.
fn drop_bounding(keep: CapSet) -> io::Result<()> {
    for number in 0..64u8 {
        if keep.0 & (1 << number) != 0 {
            continue;
        }
        // SAFETY: PR_CAPBSET_READ and _DROP take a number and no pointers.
        let present = unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) };
        // EINVAL: beyond the last capability that this kernel knows.
        if present < 0 {
            break;
        }
        if present == 0 {
            continue;
        }
        // SAFETY: as above.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        if dropped < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_in_any_form() {
        for text in ["CAP_NET_RAW", "net_raw", "cap_net_raw"] {
            assert_eq!(text.parse(), Ok(Capability::NET_RAW));
        }
        assert_eq!(Capability::SETFCAP.name(), "CAP_SETFCAP");
        assert!("CAP_NOPE".parse::<Capability>().is_err());
    }

    #[test]
    fn restricting_a_thread_leaves_exactly_the_set() {
        let (before, after) = std::thread::spawn(|| {
            let before = effective().unwrap();
            let keep = before.intersection(CapSet::EMPTY.with(Capability::CHOWN));
            if restrict_to(keep).is_err() {
                // Without CAP_SETPCAP the bounding set cannot shrink; nothing to check then.
                return (CapSet::EMPTY, CapSet::EMPTY);
            }
            (keep, effective().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(before, after);
    }
}
