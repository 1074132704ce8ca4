//! Moving bytes between files: `sendfile(2)`, `splice(2)`, `tee(2)`, `copy_file_range(2)`.

use std::sync::Arc;

use crate::errno::{Errno, SysError, SysResult};
use crate::fs::pipe::PipeEnd;
use crate::io::{IoSrc, SliceDst, SliceSrc};
use crate::mm::UserAddr;
use crate::syscall::Args;
use crate::syscall::file::context::real_file;
use crate::syscall::file::write;
use crate::task::CurrentTask;
use crate::vfs::{File, FileType, OpenFlags, Seek};
use crate::wait::Readiness;

/// How much is moved at a time.
const CHUNK: usize = 128 * 1024;
/// The most that one call moves (`sendfile(2)`, NOTES).
const MAX_COUNT: usize = 0x7fff_f000;

const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_F_ALL: u32 = 15;

/// `sendfile(2)`.
pub(crate) fn sys_sendfile(task: &mut CurrentTask, args: &Args) -> SysResult {
    let (out, input) = (real_file(task, args.fd(0))?, real_file(task, args.fd(1))?);
    let mut offset = read_offset(task, args.addr(2))?;
    let count = args.usize(3).min(MAX_COUNT);
    check_directions(&input, &out)?;
    if out.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    // A pipe, a socket or a terminal is read by whoever waits for it (`do_splice_direct`: S_ISREG or S_ISBLK).
    if !input.ops().is_seekable() {
        return Err(Errno::EINVAL.into());
    }
    let result = transfer(task, (&input, &mut offset), (&out, &mut None), count, Wait::Yes);
    write_offset(task, args.addr(2), offset)?;
    result
}

/// `splice(2)`: one of the files is a pipe.
pub(crate) fn sys_splice(task: &mut CurrentTask, args: &Args) -> SysResult {
    let flags = args.u32(5);
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL.into());
    }
    let count = args.usize(4).min(MAX_COUNT);
    if count == 0 {
        return Ok(0);
    }
    let (input, out) = (real_file(task, args.fd(0))?, real_file(task, args.fd(2))?);
    check_directions(&input, &out)?;
    let (in_pipe, out_pipe) = (input.downcast::<PipeEnd>(), out.downcast::<PipeEnd>());
    if in_pipe.is_none() && out_pipe.is_none() {
        return Err(Errno::EINVAL.into());
    }
    for (pipe, addr) in [(in_pipe, args.addr(1)), (out_pipe, args.addr(3))] {
        if pipe.is_some() && !addr.is_null() {
            return Err(Errno::ESPIPE.into());
        }
    }
    if let (Some(a), Some(b)) = (in_pipe, out_pipe)
        && Arc::ptr_eq(a.pipe(), b.pipe())
    {
        return Err(Errno::EINVAL.into());
    }
    if out_pipe.is_none() && out.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    let mut in_offset = read_offset(task, args.addr(1))?;
    let mut out_offset = read_offset(task, args.addr(3))?;
    for (file, offset) in [(&input, in_offset), (&out, out_offset)] {
        if offset.is_some() && !file.ops().is_seekable() {
            return Err(Errno::EINVAL.into());
        }
    }
    let wait = if flags & SPLICE_F_NONBLOCK != 0 { Wait::No } else { Wait::First };
    let result = transfer(task, (&input, &mut in_offset), (&out, &mut out_offset), count, wait);
    write_offset(task, args.addr(1), in_offset)?;
    write_offset(task, args.addr(3), out_offset)?;
    result
}

/// `tee(2)`.
pub(crate) fn sys_tee(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.u32(3) & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL.into());
    }
    let count = args.usize(2).min(CHUNK);
    if count == 0 {
        return Ok(0);
    }
    let (input, out) = (real_file(task, args.fd(0))?, real_file(task, args.fd(1))?);
    check_directions(&input, &out)?;
    let source = input.downcast::<PipeEnd>().ok_or(Errno::EINVAL)?.pipe().clone();
    let target = out.downcast::<PipeEnd>().ok_or(Errno::EINVAL)?.pipe().clone();
    if Arc::ptr_eq(&source, &target) {
        return Err(Errno::EINVAL.into());
    }
    let mut buf = vec![0; count];
    let nonblocking = args.u32(3) & SPLICE_F_NONBLOCK != 0;
    let mut peek = || {
        let mut dst = SliceDst::new(&mut buf);
        source.peek(&mut dst, count)
    };
    let n = match peek() {
        Err(Errno::EAGAIN) if !nonblocking => task.block_on_file(&input, Readiness::IN, None, |_| peek())?,
        done => done?,
    };
    if n == 0 {
        return Ok(0);
    }
    let mut src = SliceSrc::new(&buf[..n]);
    match out.write(&mut src) {
        Err(Errno::EAGAIN) if !nonblocking => {
            let wrote = task.block_on_file(&out, Readiness::OUT, None, |_| out.write(&mut src))?;
            Ok(wrote as u64)
        }
        done => Ok(done? as u64),
    }
}

/// `copy_file_range(2)`.
pub(crate) fn sys_copy_file_range(task: &mut CurrentTask, args: &Args) -> SysResult {
    if args.u32(5) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (input, out) = (real_file(task, args.fd(0))?, real_file(task, args.fd(2))?);
    let mut in_offset = read_offset(task, args.addr(1))?;
    let mut out_offset = read_offset(task, args.addr(3))?;
    let mut count = args.usize(4).min(MAX_COUNT);
    for file in [&input, &out] {
        match file.inode().kind() {
            FileType::Directory => return Err(Errno::EISDIR.into()),
            FileType::Regular if file.ops().is_seekable() => {}
            _ => return Err(Errno::EINVAL.into()),
        }
    }
    check_directions(&input, &out)?;
    if out.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF.into());
    }
    if Arc::ptr_eq(input.inode(), out.inode()) {
        let from = in_offset.unwrap_or_else(|| *input.position());
        let to = out_offset.unwrap_or_else(|| *out.position());
        // What there is counts, not what was asked for (generic_copy_file_checks).
        let left = input.stat()?.size.saturating_sub(from);
        count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        if from.abs_diff(to) < count as u64 {
            return Err(Errno::EINVAL.into());
        }
    }
    let result = transfer(task, (&input, &mut in_offset), (&out, &mut out_offset), count, Wait::Yes);
    write_offset(task, args.addr(1), in_offset)?;
    write_offset(task, args.addr(3), out_offset)?;
    result
}

/// When a transfer waits for data or room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Until all is moved.
    Yes,
    /// Until something is moved.
    First,
    /// Never.
    No,
}

fn check_directions(input: &File, out: &File) -> Result<(), Errno> {
    if input.flags().is_readable() && out.flags().is_writable() { Ok(()) } else { Err(Errno::EBADF) }
}

fn read_offset(task: &CurrentTask, addr: UserAddr) -> Result<Option<u64>, Errno> {
    if addr.is_null() {
        return Ok(None);
    }
    let offset: i64 = task.mm().read_obj(addr)?;
    Ok(Some(u64::try_from(offset).map_err(|_| Errno::EINVAL)?))
}

fn write_offset(task: &CurrentTask, addr: UserAddr, offset: Option<u64>) -> Result<(), Errno> {
    match offset {
        Some(offset) if !addr.is_null() => task.mm().write_obj(addr, &offset),
        _ => Ok(()),
    }
}

/// Moves up to `count` bytes. An offset of `None` means the file's position. Bytes that were read and cannot be
/// written are given back to a file with a position; a pipe's are written however long that takes.
fn transfer(
    task: &mut CurrentTask,
    (input, in_offset): (&Arc<File>, &mut Option<u64>),
    (out, out_offset): (&Arc<File>, &mut Option<u64>),
    count: usize,
    wait: Wait,
) -> SysResult {
    let mut buf = vec![0; CHUNK.min(count)];
    let mut total = 0;
    while total < count {
        // Never take more from a stream than the other side has room for right now.
        if wait != Wait::Yes || out.is_nonblocking() {
            let blocked = !out.ops().readiness(out).intersects(Readiness::OUT | Readiness::ERR);
            if blocked && (total > 0 || wait == Wait::No || out.is_nonblocking()) {
                return if total > 0 { Ok(total as u64) } else { Err(Errno::EAGAIN.into()) };
            }
        }
        let want = buf.len().min(count - total).min(room_of(out));
        let got = match read_some(task, input, in_offset, &mut buf[..want], wait, total == 0) {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) if total > 0 => break,
            Err(e) => return Err(e),
        };
        let mut src = SliceSrc::new(&buf[..got]);
        let wrote = write::write(task, out, &mut src, *out_offset);
        let wrote = match wrote {
            Ok(n) => usize::try_from(n).unwrap_or(usize::MAX),
            Err(e) => {
                give_back(input, in_offset, got);
                return if total > 0 { Ok(total as u64) } else { Err(e) };
            }
        };
        if let Some(offset) = out_offset {
            *offset += wrote as u64;
        }
        total += wrote;
        if wrote < got {
            give_back(input, in_offset, src.remaining());
            break;
        }
        if wait != Wait::Yes && !input.ops().is_seekable() {
            break;
        }
    }
    Ok(total as u64)
}

/// A pipe takes what it has room for; other files take anything.
fn room_of(out: &File) -> usize {
    out.downcast::<PipeEnd>().map_or(usize::MAX, |end| {
        let pipe = end.pipe();
        // At least one byte, so that the write finds out why there is no room.
        pipe.capacity().saturating_sub(pipe.len()).max(1)
    })
}

fn read_some(
    task: &mut CurrentTask,
    input: &Arc<File>,
    offset: &mut Option<u64>,
    buf: &mut [u8],
    wait: Wait,
    is_first: bool,
) -> Result<usize, SysError> {
    let mut attempt = || {
        let mut dst = SliceDst::new(buf);
        match *offset {
            Some(at) => input.read_at(&mut dst, at),
            None => input.read(&mut dst),
        }
    };
    let n = match attempt() {
        Err(Errno::EAGAIN) if wait == Wait::Yes || (wait == Wait::First && is_first) => {
            task.block_on_file(input, Readiness::IN, None, |_| attempt())?
        }
        done => done?,
    };
    if let Some(at) = offset {
        *at += n as u64;
    }
    Ok(n)
}

fn give_back(input: &File, offset: &mut Option<u64>, n: usize) {
    match offset {
        Some(at) => *at -= n as u64,
        None if input.ops().is_seekable() => {
            let mut pos = input.position();
            // At most as much as was read, so it does not fail.
            let back = i64::try_from(n).map_or(0, |n| -n);
            *pos = input.ops().seek(input, *pos, Seek::Current(back)).unwrap_or(*pos);
        }
        None => {}
    }
}
