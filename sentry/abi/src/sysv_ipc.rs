//! System V IPC: `struct shmid64_ds` and its kin (`shmctl(2)`, `semctl(2)`, `msgctl(2)`), flags and commands.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct ipc64_perm`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of sysvipc(7)")]
pub struct IpcPerm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pub pad: [u16; 3],
    pub unused: [u64; 2],
}

/// `struct shmid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of shmctl(2)")]
pub struct ShmidDs {
    pub perm: IpcPerm,
    pub segsz: u64,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub cpid: i32,
    pub lpid: i32,
    pub nattch: u64,
    pub unused: [u64; 2],
}

/// `struct shminfo64`: the limits.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of shmctl(2)")]
pub struct ShmLimits {
    pub shmmax: u64,
    pub shmmin: u64,
    pub shmmni: u64,
    pub shmseg: u64,
    pub shmall: u64,
    pub unused: [u64; 4],
}

/// `struct shm_info`: what is in use.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of shmctl(2)")]
pub struct ShmUsage {
    pub used_ids: i32,
    pub pad: u32,
    pub shm_tot: u64,
    pub shm_rss: u64,
    pub shm_swp: u64,
    pub swap_attempts: u64,
    pub swap_successes: u64,
}

/// `struct semid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of semctl(2)")]
pub struct SemidDs {
    pub perm: IpcPerm,
    pub otime: i64,
    pub unused1: u64,
    pub ctime: i64,
    pub unused2: u64,
    pub nsems: u64,
    pub unused3: [u64; 2],
}

/// `struct seminfo`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of semctl(2)")]
pub struct SemInfo {
    pub semmap: i32,
    pub semmni: i32,
    pub semmns: i32,
    pub semmnu: i32,
    pub semmsl: i32,
    pub semopm: i32,
    pub semume: i32,
    pub semusz: i32,
    pub semvmx: i32,
    pub semaem: i32,
}

/// `struct sembuf`: one operation of `semop(2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SemBuf {
    /// The semaphore in its set.
    pub num: u16,
    /// What is added; 0 waits for zero.
    pub op: i16,
    /// [`IPC_NOWAIT`], [`SEM_UNDO`].
    pub flags: i16,
}

/// `struct msqid64_ds`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of msgctl(2)")]
pub struct MsqidDs {
    pub perm: IpcPerm,
    pub stime: i64,
    pub rtime: i64,
    pub ctime: i64,
    pub cbytes: u64,
    pub qnum: u64,
    pub qbytes: u64,
    pub lspid: i32,
    pub lrpid: i32,
    pub unused: [u64; 2],
}

/// `struct msginfo`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of msgctl(2)")]
pub struct MsgInfo {
    pub msgpool: i32,
    pub msgmap: i32,
    pub msgmax: i32,
    pub msgmnb: i32,
    pub msgmni: i32,
    pub msgssz: i32,
    pub msgtql: i32,
    pub msgseg: u16,
    pub pad: u16,
}

/// The key that names nothing.
pub const IPC_PRIVATE: i32 = 0;
/// Make it if it does not exist.
pub const IPC_CREAT: i32 = 0o1000;
/// Fail if it exists.
pub const IPC_EXCL: i32 = 0o2000;
/// Fail instead of waiting.
pub const IPC_NOWAIT: i32 = 0o4000;
/// Take back when the process ends.
pub const SEM_UNDO: i32 = 0x1000;

/// The commands of `shmctl(2)`, `semctl(2)` and `msgctl(2)`.
#[allow(missing_docs, reason = "the names are those of the man pages")]
pub mod cmd {
    pub const IPC_RMID: i32 = 0;
    pub const IPC_SET: i32 = 1;
    pub const IPC_STAT: i32 = 2;
    pub const IPC_INFO: i32 = 3;
    pub const MSG_STAT: i32 = 11;
    pub const MSG_INFO: i32 = 12;
    pub const MSG_STAT_ANY: i32 = 13;
    pub const SHM_LOCK: i32 = 11;
    pub const SHM_UNLOCK: i32 = 12;
    pub const SHM_STAT: i32 = 13;
    pub const SHM_INFO: i32 = 14;
    pub const SHM_STAT_ANY: i32 = 15;
    pub const SEM_GETPID: i32 = 11;
    pub const SEM_GETVAL: i32 = 12;
    pub const SEM_GETALL: i32 = 13;
    pub const SEM_GETNCNT: i32 = 14;
    pub const SEM_GETZCNT: i32 = 15;
    pub const SEM_SETVAL: i32 = 16;
    pub const SEM_SETALL: i32 = 17;
    pub const SEM_STAT: i32 = 18;
    pub const SEM_INFO: i32 = 19;
    pub const SEM_STAT_ANY: i32 = 20;
}

/// Flags of `shmget(2)` and `shmat(2)`, and what `shm_perm.mode` shows besides permissions.
#[allow(missing_docs, reason = "the names are those of shmget(2) and shmop(2)")]
pub mod shm {
    pub const SHM_HUGETLB: i32 = 0o4000;
    pub const SHM_RDONLY: i32 = 0o10000;
    pub const SHM_RND: i32 = 0o20000;
    pub const SHM_REMAP: i32 = 0o40000;
    pub const SHM_EXEC: i32 = 0o100000;
    pub const SHM_DEST: u32 = 0o1000;
    pub const SHM_LOCKED: u32 = 0o2000;
}

/// Flags of `msgrcv(2)`.
#[allow(missing_docs, reason = "the names are those of msgop(2)")]
pub mod msg {
    pub const MSG_NOERROR: i32 = 0o10000;
    pub const MSG_EXCEPT: i32 = 0o20000;
    pub const MSG_COPY: i32 = 0o40000;
}

const _: () = assert!(size_of::<IpcPerm>() == 48);
const _: () = assert!(size_of::<ShmidDs>() == 112);
const _: () = assert!(size_of::<SemidDs>() == 104);
const _: () = assert!(size_of::<MsqidDs>() == 120);
const _: () = assert!(size_of::<MsgInfo>() == 32);
