use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use sentry_platform::{
    Access, AddressSpace, Context, FpuState, MapOp, MapSource, MemoryFile, Platform, PlatformError,
};

use super::MemoryManager;
use crate::errno::Errno;
use crate::mm::{
    FaultError, Frames, MapFile, MapRequest, Move, PAGE_SIZE, Placement, Prot, SharedMemory, UserAddr,
    VmaFlags, Writers,
};

/// What a host would have mapped: page -> (offset in the memory file, writable).
#[derive(Default)]
struct FakeSpace(Mutex<std::collections::BTreeMap<u64, (u64, bool)>>);

impl AddressSpace for FakeSpace {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        let mut pages = self.0.lock();
        for op in ops {
            match op {
                MapOp::Map { addr, len, source: MapSource::MemoryFile(offset), prot, .. } => {
                    for by in (0..*len).step_by(PAGE_SIZE as usize) {
                        pages.insert(addr + by, (offset + by, prot.write));
                    }
                }
                MapOp::Map { .. } => panic!("only memory is mapped here"),
                MapOp::Unmap { addr, len } => pages.retain(|at, _| *at < *addr || *at >= addr + len),
                MapOp::Protect { addr, len, prot } => {
                    for (_, page) in pages.range_mut(*addr..addr + len) {
                        page.1 = prot.write;
                    }
                }
            }
        }
        Ok(())
    }

    fn fork(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(Self::default()))
    }

    fn new_context(&self, _: &FpuState) -> Result<Box<dyn Context>, PlatformError> {
        Err(PlatformError::Dead)
    }

    fn cpu_time(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn is_alive(&self) -> bool {
        true
    }

    fn kill(&self) {}

    fn end(&self) {}
}

struct FakePlatform {
    spaces: Mutex<Vec<Arc<FakeSpace>>>,
}

const START: u64 = 0x1_0000;
const END: u64 = 0x1000_0000;

impl Platform for FakePlatform {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn address_range(&self) -> std::ops::Range<u64> {
        START..END
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let space = Arc::new(FakeSpace::default());
        self.spaces.lock().push(space.clone());
        Ok(space)
    }
}

struct Fixture {
    platform: FakePlatform,
    frames: Arc<Frames>,
    mm: Arc<MemoryManager>,
}

impl Fixture {
    fn with_limit(limit: u64) -> Self {
        let platform = FakePlatform { spaces: Mutex::default() };
        let frames = Frames::new(Arc::new(MemoryFile::new(limit).unwrap()));
        let mm = MemoryManager::new(&platform, &frames).unwrap();
        Self { platform, frames, mm }
    }

    fn new() -> Self {
        Self::with_limit(64 << 20)
    }

    fn map(&self, pages: u64) -> u64 {
        let prot = Prot::READ | Prot::WRITE;
        self.mm.map(&MapRequest::anonymous(Placement::Hint(0), pages * PAGE_SIZE, prot)).unwrap()
    }
}

fn byte(mm: &MemoryManager, at: u64) -> u8 {
    mm.read_obj::<u8>(UserAddr(at)).unwrap()
}

#[test]
fn fresh_memory_reads_as_zero_and_keeps_what_is_written_across_pages() {
    let f = Fixture::new();
    let at = f.map(4);
    assert_eq!(byte(&f.mm, at), 0);
    f.mm.write_bytes(UserAddr(at + PAGE_SIZE - 3), b"across").unwrap();
    let mut back = [0; 6];
    f.mm.read_bytes(UserAddr(at + PAGE_SIZE - 3), &mut back).unwrap();
    assert_eq!(&back, b"across");
}

#[test]
fn small_fresh_memory_is_there_at_once_and_nothing_else() {
    let f = Fixture::new();
    let space = f.platform.spaces.lock()[0].clone();
    let in_host = |at: u64| space.0.lock().contains_key(&at);
    let small = f.map(16);
    assert!((0..16).all(|page| in_host(small + page * PAGE_SIZE)));
    let large = f.map(17);
    let read_only = MapRequest::anonymous(Placement::Hint(0), PAGE_SIZE, Prot::READ);
    let read_only = f.mm.map(&read_only).unwrap();
    assert!(!in_host(large) && !in_host(read_only));
    assert_eq!(byte(&f.mm, small), 0);
    // Without memory there is a mapping all the same.
    let full = Fixture::with_limit(2 * PAGE_SIZE);
    full.map(16);
}

#[test]
fn copies_stop_at_the_end_of_what_is_mapped() {
    let f = Fixture::new();
    let at = f.map(1);
    f.mm.map(&MapRequest::anonymous(Placement::Hint(0), PAGE_SIZE, Prot::empty())).unwrap();
    assert_eq!(f.mm.write_some(UserAddr(at + PAGE_SIZE - 2), b"four"), Ok(2));
    assert_eq!(f.mm.write_bytes(UserAddr(at + PAGE_SIZE - 2), b"four"), Err(Errno::EFAULT));
    assert_eq!(f.mm.read_some(UserAddr(at + PAGE_SIZE), &mut [0]), Err(Errno::EFAULT));
    assert_eq!(f.mm.read_some(UserAddr(u64::MAX), &mut [0]), Err(Errno::EFAULT));
}

#[test]
fn fork_shares_until_one_side_writes_and_frees_with_the_last_owner() {
    let f = Fixture::new();
    let at = f.map(2);
    f.mm.write_bytes(UserAddr(at), b"parent").unwrap();
    f.mm.handle_fault(at, Access::Write).unwrap();
    let used = f.frames.memory_file().in_use();
    let child = f.mm.fork(Writers::Others).unwrap();
    assert_eq!(f.frames.memory_file().in_use(), used);
    assert!(!f.platform.spaces.lock()[0].0.lock()[&at].1, "the host page must be read-only after fork");
    f.mm.write_bytes(UserAddr(at), b"PARENT").unwrap();
    assert_eq!((byte(&f.mm, at), byte(&child, at)), (b'P', b'p'));
    assert!(!f.platform.spaces.lock()[0].0.lock().contains_key(&at), "the host must not keep the old page");
    drop(child);
    f.mm.unmap(at, 2 * PAGE_SIZE).unwrap();
    assert_eq!(f.frames.memory_file().in_use(), 0);
}

#[test]
fn fork_of_a_lone_thread_copies_what_is_small_and_leaves_the_parent_alone() {
    let f = Fixture::new();
    let small = f.map(2);
    // Apart, so that they are not one area.
    f.mm.map(&MapRequest::anonymous(Placement::Hint(0), PAGE_SIZE, Prot::empty())).unwrap();
    let large = f.map(1024);
    for at in [small, large] {
        f.mm.write_bytes(UserAddr(at), b"parent").unwrap();
        f.mm.handle_fault(at, Access::Write).unwrap();
    }
    for at in (large..large + 1024 * PAGE_SIZE).step_by(4096) {
        f.mm.write_bytes(UserAddr(at), b"x").unwrap();
    }
    let used = f.frames.memory_file().in_use();
    let child = f.mm.fork(Writers::None).unwrap();
    let copied = f.frames.memory_file().in_use() - used;
    assert!((2 * PAGE_SIZE..32 * PAGE_SIZE).contains(&copied), "only what is small is copied: {copied}");
    assert!(f.platform.spaces.lock()[0].0.lock()[&small].1, "the parent may go on writing");
    for at in [small, large] {
        f.mm.write_bytes(UserAddr(at), b"PARENT").unwrap();
        child.write_bytes(UserAddr(at + 1), b"HILD").unwrap();
        let mut bytes = [0; 6];
        f.mm.read_bytes(UserAddr(at), &mut bytes).unwrap();
        assert_eq!(&bytes, b"PARENT");
        child.read_bytes(UserAddr(at), &mut bytes).unwrap();
        assert_eq!(&bytes[1..], b"HILDt");
    }
    drop(child);
    f.mm.unmap(small, 2 * PAGE_SIZE).unwrap();
    f.mm.unmap(large, 1024 * PAGE_SIZE).unwrap();
    assert_eq!(f.frames.memory_file().in_use(), 0);
}

#[test]
fn shared_memory_is_the_same_on_both_sides_and_has_one_futex_key() {
    let f = Fixture::new();
    let source =
        MapFile { mappable: SharedMemory::new(&f.frames, PAGE_SIZE), offset: 0, file: None, name: "".into() };
    let request = MapRequest {
        flags: VmaFlags::SHARED,
        source: Some(source),
        ..MapRequest::anonymous(Placement::Hint(0), PAGE_SIZE, Prot::READ | Prot::WRITE)
    };
    let at = f.mm.map(&request).unwrap();
    let child = f.mm.fork(Writers::Others).unwrap();
    child.write_bytes(UserAddr(at), b"x").unwrap();
    assert_eq!(byte(&f.mm, at), b'x');
    assert_eq!(f.mm.futex_key(UserAddr(at), false), child.futex_key(UserAddr(at), false));
    assert_ne!(f.mm.futex_key(UserAddr(at), true), child.futex_key(UserAddr(at), true));
}

#[test]
fn protection_is_enforced_for_the_guest_and_for_copies() {
    let f = Fixture::new();
    let at = f.map(3);
    f.mm.protect(at + PAGE_SIZE, PAGE_SIZE, Prot::READ).unwrap();
    assert_eq!(f.mm.handle_fault(at + PAGE_SIZE, Access::Write), Err(FaultError::Denied));
    assert_eq!(f.mm.handle_fault(at, Access::Write), Ok(()));
    assert_eq!(f.mm.handle_fault(at, Access::Execute), Err(FaultError::Denied));
    assert_eq!(f.mm.write_bytes(UserAddr(at + PAGE_SIZE), b"x"), Err(Errno::EFAULT));
    assert_eq!(f.mm.handle_fault(START, Access::Read), Err(FaultError::NotMapped));
    f.mm.unmap(at + PAGE_SIZE, PAGE_SIZE).unwrap();
    assert_eq!(f.mm.protect(at, 3 * PAGE_SIZE, Prot::READ), Err(Errno::ENOMEM));
}

#[test]
fn running_out_of_memory_is_an_error_of_that_access() {
    let f = Fixture::with_limit(2 * PAGE_SIZE);
    let at = f.map(3);
    for page in 0..2 {
        f.mm.handle_fault(at + page * PAGE_SIZE, Access::Write).unwrap();
    }
    assert_eq!(f.mm.handle_fault(at + 2 * PAGE_SIZE, Access::Write), Err(FaultError::OutOfMemory));
}

#[test]
fn moved_mappings_keep_their_pages() {
    let f = Fixture::new();
    let at = f.map(2);
    f.mm.write_bytes(UserAddr(at + 5), b"moved").unwrap();
    let to = START + 0x10_0000;
    assert_eq!(f.mm.remap(at, 2 * PAGE_SIZE, 4 * PAGE_SIZE, Move::To(to)), Ok(to));
    assert_eq!(byte(&f.mm, to + 5), b'm');
    assert_eq!(f.mm.read_some(UserAddr(at), &mut [0]), Err(Errno::EFAULT));
    assert_eq!(f.mm.remap(to, 4 * PAGE_SIZE, PAGE_SIZE, Move::Never), Ok(to));
    assert_eq!(f.mm.usage().size, PAGE_SIZE);
}

#[test]
fn stacks_grow_down_but_not_into_their_neighbours_or_beyond_the_limit() {
    let f = Fixture::new();
    let top = 0x800_0000;
    let stack = MapRequest {
        flags: VmaFlags::GROWS_DOWN,
        ..MapRequest::anonymous(Placement::Fixed(top - PAGE_SIZE), PAGE_SIZE, Prot::READ | Prot::WRITE)
    };
    f.mm.map(&stack).unwrap();
    f.mm.set_limits(1 << 20, u64::MAX, u64::MAX);
    assert_eq!(f.mm.handle_fault(top - 10 * PAGE_SIZE, Access::Write), Ok(()));
    assert_eq!(f.mm.handle_fault(top - (1 << 20) - PAGE_SIZE, Access::Write), Err(FaultError::NotMapped));
}

#[derive(Debug, Clone)]
enum Op {
    Map(u64, u64),
    Unmap(u64, u64),
    Write(u64, u8),
    GuestWrite(u64),
    Discard(u64, u64),
    ForkAndWrite(u64, u8),
}

const PAGES: u64 = 24;

fn op() -> impl Strategy<Value = Op> {
    let range = || (0..PAGES, 1..6_u64).prop_map(|(p, n)| (p, n.min(PAGES - p)));
    prop_oneof![
        range().prop_map(|(p, n)| Op::Map(p, n)),
        range().prop_map(|(p, n)| Op::Unmap(p, n)),
        (0..PAGES, any::<u8>()).prop_map(|(p, b)| Op::Write(p, b)),
        (0..PAGES).prop_map(Op::GuestWrite),
        range().prop_map(|(p, n)| Op::Discard(p, n)),
        (0..PAGES, any::<u8>()).prop_map(|(p, b)| Op::ForkAndWrite(p, b)),
    ]
}

proptest! {
    /// Against one byte for each page: mapped or not, and what it holds. The host's view must agree at any time.
    #[test]
    fn behaves_like_a_map_of_pages(ops in proptest::collection::vec(op(), 1..40)) {
        let f = Fixture::new();
        let mut model = [None::<u8>; PAGES as usize];
        let at = |p: u64| START + 0x10_0000 + p * PAGE_SIZE;
        let mut children = Vec::new();
        for op in ops {
            match op {
                Op::Map(p, n) => {
                    let prot = Prot::READ | Prot::WRITE;
                    f.mm.map(&MapRequest::anonymous(Placement::Fixed(at(p)), n * PAGE_SIZE, prot)).unwrap();
                    model[p as usize..(p + n) as usize].fill(Some(0));
                }
                Op::Unmap(p, n) => {
                    f.mm.unmap(at(p), n * PAGE_SIZE).unwrap();
                    model[p as usize..(p + n) as usize].fill(None);
                }
                Op::Write(p, b) => {
                    let done = f.mm.write_bytes(UserAddr(at(p)), &[b]);
                    prop_assert_eq!(done.is_ok(), model[p as usize].is_some());
                    model[p as usize] = model[p as usize].map(|_| b);
                }
                Op::GuestWrite(p) => {
                    let done = f.mm.handle_fault(at(p), Access::Write);
                    prop_assert_eq!(done.is_ok(), model[p as usize].is_some());
                }
                Op::Discard(p, n) => {
                    let _ = f.mm.discard(at(p), n * PAGE_SIZE);
                    for page in &mut model[p as usize..(p + n) as usize] {
                        *page = page.map(|_| 0);
                    }
                }
                Op::ForkAndWrite(p, b) => {
                    let child = f.mm.fork(Writers::Others).unwrap();
                    prop_assert_eq!(child.write_bytes(UserAddr(at(p)), &[b]).is_ok(), model[p as usize].is_some());
                    children.push((child, model, p, b));
                }
            }
            let host = f.platform.spaces.lock()[0].clone();
            for (p, expected) in model.iter().enumerate() {
                let addr = at(p as u64);
                let mut got = [0];
                let read = f.mm.read_bytes(UserAddr(addr), &mut got).ok().map(|()| got[0]);
                prop_assert_eq!(read, *expected, "page {}", p);
                if let Some((offset, _)) = host.0.lock().get(&addr) {
                    prop_assert!(expected.is_some(), "the host has page {} that is gone", p);
                    f.frames.memory_file().read(*offset, &mut got).unwrap();
                    prop_assert_eq!(Some(got[0]), *expected, "the host shows an old page {}", p);
                }
            }
        }
        for (child, mut then, p, b) in children {
            then[p as usize] = then[p as usize].map(|_| b);
            for (p, expected) in then.iter().enumerate() {
                let mut got = [0];
                let read = child.read_bytes(UserAddr(at(p as u64)), &mut got).ok().map(|()| got[0]);
                prop_assert_eq!(read, *expected, "page {} of a child", p);
            }
        }
        f.mm.unmap(at(0), PAGES * PAGE_SIZE).unwrap();
        prop_assert_eq!(f.frames.memory_file().in_use(), 0);
    }
}
