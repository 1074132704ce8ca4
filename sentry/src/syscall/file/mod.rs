//! Handlers of the calls about files, directories, descriptors, mounts and polling.

mod access;
mod aio;
mod attribute;
pub(crate) mod context;
mod descriptor;
mod directory;
mod epoll;
mod eventfd;
mod fcntl;
mod inotify;
mod ioctl;
mod link;
mod lock;
mod memfd;
mod mount;
mod name;
mod open;
mod poll;
mod read;
mod seek;
mod select;
mod size_limit;
mod stat;
mod statfs;
mod sync;
mod time;
mod timerfd;
mod transfer;
mod write;
mod xattr;

pub(crate) use access::{sys_access, sys_faccessat, sys_faccessat2};
pub(crate) use aio::{
    sys_io_cancel, sys_io_destroy, sys_io_getevents, sys_io_pgetevents, sys_io_setup, sys_io_submit,
};
pub(crate) use attribute::{
    sys_chmod, sys_chown, sys_fchmod, sys_fchmodat, sys_fchmodat2, sys_fchown, sys_fchownat, sys_ftruncate,
    sys_lchown, sys_truncate, sys_umask,
};
pub(crate) use descriptor::{sys_close, sys_close_range, sys_dup, sys_dup2, sys_dup3, sys_pipe, sys_pipe2};
pub(crate) use directory::{sys_chdir, sys_chroot, sys_fchdir, sys_getcwd, sys_getdents, sys_getdents64};
pub(crate) use epoll::{
    sys_epoll_create, sys_epoll_create1, sys_epoll_ctl, sys_epoll_pwait, sys_epoll_pwait2, sys_epoll_wait,
};
pub(crate) use eventfd::{sys_eventfd, sys_eventfd2, sys_signalfd, sys_signalfd4};
pub(crate) use fcntl::sys_fcntl;
pub(crate) use inotify::{sys_inotify_add_watch, sys_inotify_init, sys_inotify_init1, sys_inotify_rm_watch};
pub(crate) use ioctl::sys_ioctl;
pub(crate) use link::{
    sys_link, sys_linkat, sys_readlink, sys_readlinkat, sys_symlink, sys_symlinkat, sys_unlink, sys_unlinkat,
};
pub(crate) use lock::sys_flock;
pub(crate) use memfd::sys_memfd_create;
pub(crate) use mount::{sys_mount, sys_pivot_root, sys_umount2};
pub(crate) use name::{
    sys_mkdir, sys_mkdirat, sys_mknod, sys_mknodat, sys_rename, sys_renameat, sys_renameat2, sys_rmdir,
};
pub(crate) use open::{sys_creat, sys_open, sys_openat, sys_openat2};
pub(crate) use poll::{sys_poll, sys_ppoll};
pub(crate) use read::{sys_pread64, sys_preadv, sys_preadv2, sys_read, sys_readv};
pub(crate) use seek::sys_lseek;
pub(crate) use select::{sys_pselect6, sys_select};
pub(crate) use stat::{sys_fstat, sys_lstat, sys_newfstatat, sys_stat, sys_statx};
pub(crate) use statfs::{sys_fstatfs, sys_statfs};
pub(crate) use sync::{
    sys_fadvise64, sys_fallocate, sys_fdatasync, sys_fsync, sys_readahead, sys_sync, sys_sync_file_range,
    sys_syncfs,
};
pub(crate) use time::{sys_futimesat, sys_utime, sys_utimensat, sys_utimes};
pub(crate) use timerfd::{sys_timerfd_create, sys_timerfd_gettime, sys_timerfd_settime};
pub(crate) use transfer::{sys_copy_file_range, sys_sendfile, sys_splice, sys_tee};
pub(crate) use write::{sys_pwrite64, sys_pwritev, sys_pwritev2, sys_write, sys_writev};
pub(crate) use xattr::{
    sys_fgetxattr, sys_flistxattr, sys_fremovexattr, sys_fsetxattr, sys_getxattr, sys_lgetxattr,
    sys_listxattr, sys_llistxattr, sys_lremovexattr, sys_lsetxattr, sys_removexattr, sys_setxattr,
};
