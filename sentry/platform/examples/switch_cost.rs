//! What a hand-over costs: system calls and page faults per backend, next to the host's own in the same run.
//!
//! `cargo run --release -p sentry-platform --example switch_cost [rounds]` prints medians in nanoseconds and ratios to a
//! native `getpid`.

use std::sync::Arc;
use std::time::Instant;

use sentry_platform::{
    AddressSpace, Answers, Context, Event, FpuState, MapSource, MemoryFile, PAGE_SIZE, Platform,
    PlatformKind, Populate, Prepared, Prot, Regs, SpinCounters,
};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x1000_0000;
/// System calls, or pages, per sample.
const SAMPLE: u64 = 1000;

/// 1: mov eax, 39; syscall; dec r12; jnz 1b; mov eax, 999; syscall
const CALLS: &[u8] =
    &[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x49, 0xff, 0xcc, 0x75, 0xf4, 0xb8, 0xe7, 0x03, 0, 0, 0x0f, 0x05];
/// Where code starts in its page: what is at the very start of a page is not rewritten.
const START: u64 = 64;
/// The same, with the number loaded elsewhere, which is not rewritten.
/// 1: mov rax, rbx; syscall; dec r12; jnz 1b; mov eax, 999; syscall
const INDIRECT_CALLS: &[u8] =
    &[0x48, 0x89, 0xd8, 0x0f, 0x05, 0x49, 0xff, 0xcc, 0x75, 0xf6, 0xb8, 0xe7, 0x03, 0, 0, 0x0f, 0x05];
/// Likewise, with a comparison behind the call, as in `syscall(2)` and `read(2)` of C libraries, which is rewritten.
/// 1: mov rax, rbx; syscall; cmp rax, -4095; dec r12; jnz 1b; mov eax, 999; syscall
const COMPARED_CALLS: &[u8] = &[
    0x48, 0x89, 0xd8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x49, 0xff, 0xcc, 0x75, 0xf0, 0xb8,
    0xe7, 0x03, 0, 0, 0x0f, 0x05,
];
/// 1: mov [rdi], rdi; add rdi, 4096; dec r12; jnz 1b; mov eax, 999; syscall
const TOUCHES: &[u8] = &[
    0x48, 0x89, 0x3f, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0x49, 0xff, 0xcc, 0x75, 0xf1, 0xb8, 0xe7, 0x03, 0, 0,
    0x0f, 0x05,
];

/// Whether the backend may answer `getpid` by itself.
enum Ids {
    Published,
    Unknown,
}

struct Guest {
    memory: Arc<MemoryFile>,
    space: Arc<dyn AddressSpace>,
    context: Box<dyn Context>,
    code: u64,
    data: u64,
}

impl Guest {
    fn new(platform: &Arc<dyn Platform>, memory: &Arc<MemoryFile>, code: &[u8], ids: Ids) -> Self {
        let space = platform.new_address_space().expect("address space");
        let at = memory.allocate(PAGE_SIZE, PAGE_SIZE).expect("memory");
        memory.write(at + START, code).expect("code");
        space
            .map(CODE, PAGE_SIZE, MapSource::MemoryFile(at), Prot::READ_EXECUTE, Populate::Eagerly)
            .expect("map");
        let data = memory.allocate(SAMPLE * PAGE_SIZE, PAGE_SIZE).expect("memory");
        let mut context = space.new_context(&FpuState::initial()).expect("context");
        if let Ids::Published = ids {
            context.publish(&Answers { pid: Some(1), ..Answers::default() });
        }
        Self { memory: memory.clone(), space, context, code: at, data }
    }

    fn calls(&mut self) -> f64 {
        let mut regs = Regs { rip: CODE + START, r12: SAMPLE, rbx: 39, rflags: 0x202, ..Regs::default() };
        let start = Instant::now();
        loop {
            assert_eq!(self.context.switch(&mut regs), Event::Syscall);
            if regs.orig_rax == 999 {
                return per_item(start);
            }
            regs.rax = 1;
            if let Some(site) = self.context.hot_call() {
                self.space.rewrite_call(site, self.code).expect("rewrite");
            }
        }
    }

    /// Faults on every page; each is answered by mapping `around` pages.
    fn touches(&mut self, around: u64) -> f64 {
        self.space.unmap(DATA, SAMPLE * PAGE_SIZE).expect("unmap");
        self.memory.release_pages(self.data, SAMPLE * PAGE_SIZE);
        let mut regs = Regs { rip: CODE + START, rdi: DATA, r12: SAMPLE, rflags: 0x202, ..Regs::default() };
        let start = Instant::now();
        loop {
            match self.context.switch(&mut regs) {
                Event::Fault(fault) => {
                    let page = (fault.addr - DATA) / PAGE_SIZE;
                    let len = around.min(SAMPLE - page) * PAGE_SIZE;
                    let (at, offset) = (DATA + page * PAGE_SIZE, self.data + page * PAGE_SIZE);
                    if around > 1 {
                        self.memory.commit(offset, len);
                    }
                    let source = MapSource::MemoryFile(offset);
                    self.space.map(at, len, source, Prot::READ_WRITE, Populate::Eagerly).expect("map");
                }
                Event::Syscall => return per_item(start),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn per_item(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / SAMPLE as f64
}

fn native() -> f64 {
    let start = Instant::now();
    for _ in 0..SAMPLE {
        // SAFETY: getpid takes no arguments.
        unsafe { libc::syscall(libc::SYS_getpid) };
    }
    per_item(start)
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200);
    let prepared =
        [PlatformKind::Systrap, PlatformKind::Ptrace].map(|kind| Prepared::new(kind).expect("platform"));
    for prepared in prepared {
        let memory = Arc::new(MemoryFile::new(1 << 30).expect("memory"));
        let platform = prepared.create(memory.clone());
        let mut calls = Guest::new(&platform, &memory, CALLS, Ids::Unknown);
        let mut indirect = Guest::new(&platform, &memory, INDIRECT_CALLS, Ids::Unknown);
        let mut compared = Guest::new(&platform, &memory, COMPARED_CALLS, Ids::Unknown);
        let mut local = Guest::new(&platform, &memory, CALLS, Ids::Published);
        let mut touches = Guest::new(&platform, &memory, TOUCHES, Ids::Unknown);
        // Calls without a pause, as a busy program makes them: the two sides may then spin for each other.
        let mut steady: Vec<f64> = (0..rounds).map(|_| calls.calls()).collect();
        println!("{:8} {:26} {:9.0} ns", platform.name(), "call, steady", median(&mut steady));
        let mut samples: [Vec<f64>; 7] = Default::default();
        for _ in 0..rounds {
            samples[0].push(native());
            samples[1].push(calls.calls());
            samples[2].push(indirect.calls());
            samples[3].push(local.calls());
            samples[4].push(touches.touches(1));
            samples[5].push(touches.touches(16));
            samples[6].push(compared.calls());
        }
        let host = median(&mut samples[0]);
        let names = [
            "native getpid",
            "call",
            "indirect call",
            "getpid, ids published",
            "fault, 1 page",
            "fault, 16 pages, per page",
            "indirect call, compared",
        ];
        for (name, samples) in names.iter().zip(&mut samples) {
            let ns = median(samples);
            println!("{:8} {name:26} {ns:9.0} ns  x{:.1}", platform.name(), ns / host);
        }
    }
    println!("{:?}", SpinCounters::now());
}
