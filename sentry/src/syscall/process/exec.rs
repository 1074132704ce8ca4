//! `execve(2)`, `execveat(2)`.

use crate::errno::{Errno, SysResult};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::task::{CurrentTask, Program};
use crate::vfs::walk::PATH_MAX;
use crate::vfs::{Fd, FileType, Last, WalkRoot};

const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;
/// `MAX_ARG_STRLEN` with room for the NUL.
const MAX_STRING: usize = 128 << 10;
/// More than any stack limit allows (`MAX_ARG_STRINGS` is not reachable before).
const MAX_BYTES: usize = 8 << 20;

/// Reads a null-terminated array of strings.
fn read_strings(task: &CurrentTask, at: UserAddr) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    if at.is_null() {
        // Linux takes a null array for an empty one.
        return Ok(strings);
    }
    let mut total = 0;
    loop {
        let slot = at.checked_add(strings.len() as u64 * 8)?;
        let pointer: u64 = task.mm().read_obj(slot)?;
        if pointer == 0 {
            return Ok(strings);
        }
        let text = task.mm().read_cstr(UserAddr(pointer), MAX_STRING);
        let text = text.map_err(|e| if e == Errno::ENAMETOOLONG { Errno::E2BIG } else { e })?;
        total += text.len() + 9;
        if total > MAX_BYTES {
            return Err(Errno::E2BIG);
        }
        strings.push(text);
    }
}

fn execute(
    task: &mut CurrentTask,
    dir: Fd,
    path_at: UserAddr,
    argv_at: UserAddr,
    envp_at: UserAddr,
    flags: u32,
) -> SysResult {
    let path = task.mm().read_cstr(path_at, PATH_MAX)?;
    let fs = task.fs();
    let mut from = WalkRoot { namespace: fs.namespace(), root: fs.root(), start: fs.cwd() };
    let mut name = path.clone();
    let mut program = None;
    if dir.0 != AT_FDCWD && path.first() != Some(&b'/') {
        let file = task.files().get(dir)?;
        // The name that the program sees (execveat(2), NOTES).
        name = format!("/dev/fd/{}", dir.0).into_bytes();
        if path.is_empty() {
            if flags & AT_EMPTY_PATH == 0 {
                return Err(Errno::ENOENT.into());
            }
            program = Some(Program::Open(file.path().clone()));
        } else {
            if file.inode().kind() != FileType::Directory {
                return Err(Errno::ENOTDIR.into());
            }
            name.push(b'/');
            name.extend_from_slice(&path);
            from.start = file.path().clone();
        }
    }
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { Last::NoFollow } else { Last::Follow };
    let program = program.unwrap_or(Program::Path { from, path, last });
    let argv = read_strings(task, argv_at)?;
    let envp = read_strings(task, envp_at)?;
    task.execute(&program, name, argv, envp)
}

/// `execve(2)`.
pub(crate) fn sys_execve(task: &mut CurrentTask, args: &Args) -> SysResult {
    execute(task, Fd(AT_FDCWD), args.addr(0), args.addr(1), args.addr(2), 0)
}

/// `execveat(2)`.
pub(crate) fn sys_execveat(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(4);
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    execute(task, args.fd(0), args.addr(1), args.addr(2), args.addr(3), flags)
}
