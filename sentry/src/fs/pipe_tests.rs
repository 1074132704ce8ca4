use super::*;
use crate::io::{SliceDst, SliceSrc};

fn write(file: &File, data: &[u8]) -> Result<usize, Errno> {
    file.write(&mut SliceSrc::new(data))
}

fn read(file: &File, max: usize) -> Result<usize, Errno> {
    file.read(&mut SliceDst::new(&mut vec![0; max]))
}

#[test]
fn small_writes_are_whole_or_wait() {
    let (r, w) = pair(OpenFlags::empty());
    assert_eq!(write(&w, &[0; DEFAULT_CAPACITY - 100]), Ok(DEFAULT_CAPACITY - 100));
    assert_eq!(write(&w, &[1; PIPE_BUF]), Err(Errno::EAGAIN));
    assert_eq!(write(&w, &[1; 100]), Ok(100));
    assert_eq!(write(&w, &[1]), Err(Errno::EAGAIN));
    assert_eq!(read(&r, 10), Ok(10));
    // Larger ones may be split.
    assert_eq!(write(&w, &[1; PIPE_BUF + 1]), Ok(10));
}

#[test]
fn the_ends_see_each_other_go() {
    let (r, w) = pair(OpenFlags::empty());
    assert_eq!(read(&r, 1), Err(Errno::EAGAIN));
    write(&w, b"x").unwrap();
    drop(w);
    assert!(r.ops().readiness(&r).contains(Readiness::HUP | Readiness::IN));
    assert_eq!(read(&r, 4), Ok(1));
    assert_eq!(read(&r, 4), Ok(0));
    let (r, w) = pair(OpenFlags::empty());
    drop(r);
    assert_eq!(write(&w, b"x"), Err(Errno::EPIPE));
    assert!(w.ops().readiness(&w).contains(Readiness::ERR));
}

#[test]
fn capacity_is_rounded_and_never_below_what_is_queued() {
    let (_r, w) = pair(OpenFlags::empty());
    let end = w.downcast::<PipeEnd>().unwrap();
    assert_eq!(end.pipe().set_capacity(1, false), Ok(4096));
    assert_eq!(end.pipe().set_capacity(5000, false), Ok(8192));
    write(&w, &[0; 8000]).unwrap();
    assert_eq!(end.pipe().set_capacity(4096, false), Err(Errno::EBUSY));
    assert_eq!(end.pipe().set_capacity(MAX_CAPACITY + 1, false), Err(Errno::EPERM));
    assert_eq!(end.pipe().set_capacity(0, false), Err(Errno::EINVAL));
}

#[test]
fn packets_keep_their_boundaries() {
    let (r, w) = pair(OpenFlags::DIRECT);
    write(&w, b"hello").unwrap();
    write(&w, b"x").unwrap();
    assert_eq!(read(&r, 3), Ok(3));
    assert_eq!(read(&r, 10), Ok(1));
}

#[test]
fn a_pipe_opened_again_does_not_wait_for_a_writer() {
    let (r, w) = pair(OpenFlags::empty());
    write(&w, b"x").unwrap();
    drop(w);
    let again = open_fifo(r.inode(), OpenFlags::empty()).unwrap();
    assert_eq!(again.finish_open(&r), Ok(()));
}
