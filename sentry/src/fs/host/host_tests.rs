use std::fs::File as HostOsFile;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::io::{IoSrc, SliceDst, SliceSrc};
use crate::vfs::{FileType, OpenFlags, Seek};
use crate::wait::{Observer, Readiness};

/// No wake-up of these tests should take longer.
const LIMIT: Duration = Duration::from_secs(10);

fn import_one(fd: impl Into<OwnedFd>) -> Arc<File> {
    import(vec![fd.into()]).unwrap().remove(0)
}

fn read(file: &File, len: usize) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0; len];
    let n = file.read(&mut SliceDst::new(&mut buf))?;
    buf.truncate(n);
    Ok(buf)
}

struct Tell(mpsc::Sender<Readiness>);

impl Observer for Tell {
    fn notify(&self, ready: Readiness) {
        let _ = self.0.send(ready);
    }
}

#[test]
fn a_pipe_reads_waits_and_ends() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let file = import_one(reader);
    assert_eq!(file.inode().kind(), FileType::Fifo);
    assert_eq!(read(&file, 4), Err(Errno::EAGAIN));
    assert!(!file.ops().readiness(&file).contains(Readiness::IN));

    let (sender, told) = mpsc::channel();
    let id = file.ops().register(Readiness::IN, Arc::new(Tell(sender))).unwrap();
    HostOsFile::from(writer.try_clone().unwrap()).write_all(b"hello").unwrap();
    assert!(told.recv_timeout(LIMIT).unwrap().contains(Readiness::IN));
    file.ops().unregister(id);
    assert_eq!(read(&file, 64).unwrap(), b"hello");
    drop(writer);
    assert_eq!(read(&file, 64).unwrap(), b"");
    assert!(file.ops().readiness(&file).contains(Readiness::HUP));
}

#[test]
fn a_full_pipe_takes_part_of_a_write_and_then_nothing() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let file = import_one(writer);
    let data = vec![1; 200_000];
    let mut src = SliceSrc::new(&data);
    let n = file.write(&mut src).unwrap();
    assert!(n > 0 && n < data.len());
    assert_eq!(src.remaining(), data.len() - n);
    assert_eq!(file.write(&mut src), Err(Errno::EAGAIN));
    assert_eq!(src.remaining(), data.len() - n);
    drop(reader);
    assert_eq!(file.write(&mut src), Err(Errno::EPIPE));
}

#[test]
fn a_file_goes_on_where_the_host_is_and_leaves_the_host_where_it_stopped() {
    let mut host = tempfile::tempfile().unwrap();
    host.write_all(b"0123456789").unwrap();
    host.seek(SeekFrom::Start(2)).unwrap();
    let file = import_one(host.try_clone().unwrap());
    assert_eq!(read(&file, 3).unwrap(), b"234");
    assert_eq!(host.stream_position().unwrap(), 5);
    assert_eq!(file.ops().seek(&file, 5, Seek::End(-1)).unwrap(), 9);
    assert_eq!(file.ops().seek(&file, 9, Seek::Current(-4)).unwrap(), 5);
    file.write(&mut SliceSrc::new(b"ab")).unwrap();
    let mut rest = String::new();
    host.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "789");
    host.rewind().unwrap();
    rest.clear();
    host.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "01234ab789");
}

#[test]
fn descriptors_of_one_open_file_share_their_position_inside() {
    let host = tempfile::tempfile().unwrap();
    let files = import(vec![host.try_clone().unwrap().into(), host.try_clone().unwrap().into()]).unwrap();
    assert!(Arc::ptr_eq(&files[0], &files[1]));
    let other =
        import(vec![host.as_fd().try_clone_to_owned().unwrap(), tempfile::tempfile().unwrap().into()]);
    let other = other.unwrap();
    assert!(!Arc::ptr_eq(&other[0], &other[1]));
}

#[test]
fn programs_outside_share_the_position_at_any_time() {
    let mut host = tempfile::tempfile().unwrap();
    let file = import_one(host.try_clone().unwrap());
    for _ in 0..2 {
        file.write(&mut SliceSrc::new(b"in ")).unwrap();
        host.write_all(b"out ").unwrap();
    }
    // What says where it reads and writes moves nothing.
    file.write_at(&mut SliceSrc::new(b"IN"), 0).unwrap();
    let mut first = [0; 2];
    file.read_at(&mut SliceDst::new(&mut first), 0).unwrap();
    assert_eq!(&first, b"IN");
    assert_eq!(*file.position(), 14);
    host.rewind().unwrap();
    assert_eq!(read(&file, 7).unwrap(), b"IN out ");
    let mut rest = String::new();
    host.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "in out ");
}

#[test]
fn append_mode_appends_whatever_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "start ").unwrap();
    let file = import_one(HostOsFile::options().append(true).open(&path).unwrap());
    assert!(file.flags().contains(OpenFlags::APPEND));
    file.write(&mut SliceSrc::new(b"a")).unwrap();
    file.write(&mut SliceSrc::new(b"b")).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "start ab");
}

#[test]
fn the_access_mode_is_the_hosts() {
    let file = import_one(HostOsFile::open("/dev/null").unwrap());
    assert_eq!(file.write(&mut SliceSrc::new(b"x")), Err(Errno::EBADF));
    assert_eq!(read(&file, 1).unwrap(), b"");
}
