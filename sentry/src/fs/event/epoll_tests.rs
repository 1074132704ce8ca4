use super::*;
use crate::fs::event::eventfd::{self, ReadMode};
use crate::fs::pipe;
use crate::io::{SliceDst, SliceSrc};

const IN: u32 = 0x1;
const HUP: u32 = 0x10;

fn event(events: u32, data: u64) -> EpollEvent {
    EpollEvent { events, data }
}

fn ready(file: &File) -> Vec<(u32, u64)> {
    let found = file.downcast::<Epoll>().unwrap().collect(16);
    found.iter().map(|e| (e.events, e.data)).collect()
}

fn epoll() -> Arc<File> {
    create()
}

fn ops(file: &File) -> &Epoll {
    file.downcast().unwrap()
}

fn write(file: &File, data: &[u8]) {
    file.write(&mut SliceSrc::new(data)).unwrap();
}

fn read(file: &File, n: usize) -> usize {
    let mut buf = vec![0; n];
    file.read(&mut SliceDst::new(&mut buf)).unwrap()
}

#[test]
fn level_triggered_repeats_until_drained() {
    let (ep, (r, w)) = (epoll(), pipe::pair(OpenFlags::empty()));
    ops(&ep).add(Fd(3), &r, event(IN, 7)).unwrap();
    assert_eq!(ready(&ep), []);
    write(&w, b"ab");
    assert_eq!(ready(&ep), [(IN, 7)]);
    assert_eq!(ready(&ep), [(IN, 7)]);
    read(&r, 2);
    assert_eq!(ready(&ep), []);
}

#[test]
fn edge_triggered_reports_each_change_once() {
    let (ep, (r, w)) = (epoll(), pipe::pair(OpenFlags::empty()));
    ops(&ep).add(Fd(3), &r, event(IN | EPOLLET, 7)).unwrap();
    write(&w, b"a");
    assert_eq!(ready(&ep), [(IN, 7)]);
    assert_eq!(ready(&ep), []);
    write(&w, b"b");
    assert_eq!(ready(&ep), [(IN, 7)]);
}

#[test]
fn oneshot_is_silent_until_modified() {
    let (ep, (r, w)) = (epoll(), pipe::pair(OpenFlags::empty()));
    ops(&ep).add(Fd(3), &r, event(IN | EPOLLONESHOT, 1)).unwrap();
    write(&w, b"a");
    assert_eq!(ready(&ep), [(IN, 1)]);
    write(&w, b"b");
    assert_eq!(ready(&ep), []);
    ops(&ep).modify(Fd(3), &r, event(IN | EPOLLONESHOT, 2)).unwrap();
    assert_eq!(ready(&ep), [(IN, 2)]);
}

#[test]
fn nested_instances_become_ready_and_cannot_form_loops() {
    let (outer, inner) = (epoll(), epoll());
    let counter = eventfd::create(0, ReadMode::Whole, OpenFlags::empty());
    ops(&inner).add(Fd(5), &counter, event(IN, 1)).unwrap();
    ops(&outer).add(Fd(4), &inner, event(IN, 2)).unwrap();
    assert_eq!(ready(&outer), []);
    write(&counter, &1_u64.to_ne_bytes());
    assert_eq!(ready(&outer), [(IN, 2)]);
    read(&counter, 8);
    assert_eq!(ready(&outer), []);
    assert_eq!(ops(&inner).add(Fd(3), &outer, event(IN, 0)), Err(Errno::ELOOP));
    assert_eq!(ops(&outer).add(Fd(3), &outer, event(IN, 0)), Err(Errno::ELOOP));
}

#[test]
fn closing_a_file_ends_its_watch() {
    let (ep, (r, w)) = (epoll(), pipe::pair(OpenFlags::empty()));
    ops(&ep).add(Fd(3), &r, event(IN, 7)).unwrap();
    write(&w, b"a");
    drop(r);
    assert_eq!(ready(&ep), []);
    let (r, w2) = pipe::pair(OpenFlags::empty());
    ops(&ep).add(Fd(3), &r, event(IN, 8)).unwrap();
    drop(w2);
    assert_eq!(ready(&ep), [(HUP, 8)]);
}

#[test]
fn the_same_file_twice_is_an_error_under_one_number_only() {
    let (ep, (r, _w)) = (epoll(), pipe::pair(OpenFlags::empty()));
    ops(&ep).add(Fd(3), &r, event(IN, 0)).unwrap();
    assert_eq!(ops(&ep).add(Fd(3), &r, event(IN, 0)), Err(Errno::EEXIST));
    assert_eq!(ops(&ep).add(Fd(4), &r, event(IN, 0)), Ok(()));
    assert_eq!(ops(&ep).modify(Fd(5), &r, event(IN, 0)), Err(Errno::ENOENT));
    ops(&ep).remove(Fd(3), &r).unwrap();
    assert_eq!(ops(&ep).remove(Fd(3), &r), Err(Errno::ENOENT));
}
