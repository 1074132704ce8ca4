//! Guests that try to get out, or to hang or confuse the sentry.

mod harness;

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Backend, CODE, DATA, Guest, at, each};
use sentry_platform::{Context, Event, MapSource, PAGE_SIZE, Populate, Prot, Regs};

/// Where the stub's area may be, and the size of what is at its start.
const STUB_ZONE: std::ops::Range<u64> = 0x7fff_0000_0000..0x7fff_ffff_f000;

/// A pipe whose descriptors the stubs share: a guest that manages to write to it has made a host call.
struct Alarm {
    reader: std::fs::File,
    writer: OwnedFd,
}

impl Alarm {
    fn new() -> Self {
        let mut fds = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) }, 0);
        // SAFETY: both are new and nobody else's.
        let [reader, writer] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Self { reader: reader.into(), writer }
    }

    /// Registers for `write(alarm, guest data, 1)`.
    fn call(&self, rip: u64) -> Regs {
        let fd = u64::try_from(self.writer.as_raw_fd()).unwrap();
        Regs { rax: 1, rdi: fd, rsi: DATA, rdx: 1, ..at(rip) }
    }

    #[track_caller]
    fn assert_silent(&mut self) {
        let got = self.reader.read(&mut [0; 8]).map_err(|e| e.kind());
        assert_eq!(got, Err(std::io::ErrorKind::WouldBlock), "a guest made a host call");
    }
}

/// Runs a guest, answering its calls, until it stops otherwise or `limit` events have passed; interrupts it when it
/// takes long.
fn run(context: &mut Box<dyn Context>, regs: &mut Regs, limit: u32) -> Event {
    let interrupter = context.interrupter();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watchdog = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(3));
                interrupter.interrupt();
            }
        });
        let mut event = Event::Interrupted;
        for _ in 0..limit {
            event = context.switch(regs);
            if event != Event::Syscall {
                break;
            }
            regs.rax = 0xffff_ffff_ffff_ffda;
        }
        done.store(true, Ordering::SeqCst);
        watchdog.thread().unpark();
        event
    })
}

/// The start of the stub's area: a hostile guest would search for it, too.
fn find_stub(platform: &Backend) -> u64 {
    static FOUND: [OnceLock<u64>; 2] = [const { OnceLock::new() }; 2];
    let index = usize::from(platform.0.name() == "ptrace");
    *FOUND[index].get_or_init(|| search_stub(platform))
}

fn search_stub(platform: &Backend) -> u64 {
    // mov rax, [rdi]; mov eax, 500; syscall
    let guest = Guest::new(platform, &[0x48, 0x8b, 0x07, 0xb8, 0xf4, 1, 0, 0, 0x0f, 0x05]);
    let mut context = guest.context();
    let mut place = STUB_ZONE.start;
    while place < STUB_ZONE.end {
        let mut regs = Regs { rdi: place, ..at(CODE) };
        if context.switch(&mut regs) == Event::Syscall {
            return place;
        }
        place += 0x8000;
    }
    panic!("no stub text");
}

#[test]
fn every_kind_of_call_instruction_traps() {
    let mut alarm = Alarm::new();
    each(|platform| {
        // 32-bit calls: write is 4 there, with its arguments in other registers.
        for code in [&[0xcd, 0x80][..], &[0x0f, 0x34]] {
            let guest = Guest::new(platform, code);
            let fd = alarm.call(CODE).rdi;
            let mut regs = Regs { rax: 4, rbx: fd, rcx: DATA, rdx: 1, ..at(CODE) };
            let event = guest.context().switch(&mut regs);
            assert!(matches!(event, Event::Fault(_)), "{code:x?}: {event:?}");
        }
        // x32 numbers and negative ones are calls like any other.
        for number in [0x4000_0001, 0xffff_ffff_ffff_ffff, 0x8000_0000, 1, 15, 39, 60, 202, 231] {
            let guest = Guest::new(platform, &[0x0f, 0x05]);
            let mut regs = Regs { rax: number, ..alarm.call(CODE) };
            assert_eq!(guest.context().switch(&mut regs), Event::Syscall, "{number:#x}");
            assert_eq!(regs.orig_rax, number);
        }
    });
    alarm.assert_silent();
}

#[test]
fn vsyscall_is_a_call_or_a_fault_for_the_sentry() {
    each(|platform| {
        // call rdi; syscall
        let guest = Guest::new(platform, &[0xff, 0xd7, 0x0f, 0x05]);
        for (address, number) in [(0xffff_ffff_ff60_0000_u64, 96), (0xffff_ffff_ff60_0400, 201)] {
            let mut regs = Regs { rdi: address, rax: 7, ..at(CODE) };
            match guest.context().switch(&mut regs) {
                Event::Syscall => {
                    assert_eq!((regs.orig_rax, regs.rip, regs.rsp), (number, CODE + 2, DATA + PAGE_SIZE));
                }
                Event::Fault(fault) => assert_eq!((fault.addr, regs.rip), (address, address)),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn jumping_anywhere_into_the_stub_makes_no_host_call() {
    let mut alarm = Alarm::new();
    each(|platform| {
        let text = find_stub(platform);
        let mut guest = Guest::new(platform, &[0xff, 0xe5]);
        let mut context = guest.context();
        let deadline = Instant::now() + Duration::from_secs(60);
        for target in (text..text + 0x400).chain(text + 0xff8..text + 0x1010) {
            assert!(Instant::now() < deadline, "too slow");
            // With a pretended thread area the guest sleeps where interrupts are only noted, until it is killed for it:
            // 2.5 seconds, so that is not tried everywhere.
            let rbx = if target % 97 == 0 { DATA } else { 1 };
            let mut regs = Regs { rbp: target, rbx, r12: DATA, r8: CODE, ..alarm.call(CODE) };
            if run(&mut context, &mut regs, 5) == Event::Died {
                // It jumped to where a stub ends its thread. Nobody else is concerned.
                guest = Guest::new(platform, &[0xff, 0xe5]);
                context = guest.context();
            }
        }
    });
    alarm.assert_silent();
}

#[test]
fn stub_memory_is_not_writable_where_it_matters() {
    each(|platform| {
        let text = find_stub(platform);
        // mov [rdi], rax; syscall
        let guest = Guest::new(platform, &[0x48, 0x89, 0x07, 0x0f, 0x05]);
        let mut context = guest.context();
        for offset in [0, 0x800, 0x1000, 0x1ff8, 0x1_0000, 0x1_0ff8, 0x1_1000] {
            let mut regs = Regs { rdi: text + offset, ..at(CODE) };
            let event = context.switch(&mut regs);
            assert!(matches!(event, Event::Fault(_)), "offset {offset:#x} is writable");
        }
    });
}

#[test]
fn nothing_is_mapped_over_the_stub() {
    each(|platform| {
        let text = find_stub(platform);
        let guest = Guest::new(platform, &[0x90]);
        for addr in [text, text + 0x1_0000, 0x6_0000, platform.0.address_range().end - PAGE_SIZE] {
            let source = MapSource::MemoryFile(guest.data);
            let len = 2 * PAGE_SIZE;
            assert!(guest.space.map(addr, len, source, Prot::ALL, Populate::OnTouch).is_err(), "{addr:#x}");
            assert!(guest.space.unmap(addr, len).is_err());
            assert!(guest.space.protect(addr, len, Prot::ALL).is_err());
        }
    });
}

#[test]
fn forged_signal_frame_hurts_only_the_forger() {
    let mut alarm = Alarm::new();
    each(|platform| {
        let text = find_stub(platform);
        // Find a `syscall` instruction in the stub text, as a guest can.
        // movzx eax, word [rdi]; syscall
        let reader = Guest::new(platform, &[0x0f, 0xb7, 0x07, 0x0f, 0x05]);
        let mut context = reader.context();
        let is_call = |at: u64, context: &mut Box<dyn Context>| {
            let mut regs = Regs { rdi: at, ..harness::at(CODE) };
            context.switch(&mut regs) == Event::Syscall && regs.orig_rax == 0x050f
        };
        let call = (text..text + 0xffe).find(|at| is_call(*at, &mut context)).expect("a call");
        // At CODE: jmp rbp. At CODE + 2: a loop. At CODE + 4: a call.
        let guest = Guest::new(platform, &[0xff, 0xe5, 0xeb, 0xfe, 0x0f, 0x05]);
        for (rip, blocked) in [(CODE + 2, u64::MAX), (CODE + 4, u64::MAX), (CODE + 4, 0)] {
            // A ucontext at DATA: registers at 40, rip at 168, the signal mask at 296.
            let mut frame = [0; 304];
            let mut put = |at: usize, value: u64| frame[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let regs = alarm.call(rip);
            put(40 + 8 * 8, regs.rdi);
            put(40 + 9 * 8, regs.rsi);
            put(40 + 12 * 8, regs.rdx);
            put(40 + 13 * 8, regs.rax);
            put(168, rip);
            put(176, 0x202);
            put(184, 0x33 | 0x2b << 48);
            put(296, blocked);
            guest.memory.write(guest.data, &frame).unwrap();
            let mut regs = Regs { rax: 15, rbp: call, rsp: DATA, ..at(CODE) };
            let fresh = Guest::new(platform, &[0xff, 0xe5, 0xeb, 0xfe, 0x0f, 0x05]);
            fresh.memory.write(fresh.data, &frame).unwrap();
            let mut context = fresh.context();
            let started = Instant::now();
            let mut event = run(&mut context, &mut regs, 5);
            while event == Event::Interrupted && blocked != 0 && started.elapsed() < Duration::from_secs(2) {
                event = run(&mut context, &mut regs, 5);
            }
            assert!(started.elapsed() < Duration::from_secs(20), "the sentry was stuck");
            // Other guests go on.
            let other = Guest::new(platform, &[0x0f, 0x05]);
            assert_eq!(other.context().switch(&mut at(CODE)), Event::Syscall);
        }
    });
    alarm.assert_silent();
}

#[test]
fn scribbling_over_the_hand_over_pages_does_not_disturb_others() {
    // 1: rdtsc; mov [rdi], eax; add rdi, 4; dec rcx; jnz 1b; syscall
    let scribble = [0x0f, 0x31, 0x89, 0x07, 0x48, 0x83, 0xc7, 0x04, 0x48, 0xff, 0xc9, 0x75, 0xf3, 0x0f, 0x05];
    each(|platform| {
        let text = find_stub(platform);
        let victim = Guest::new(platform, &[0x0f, 0x05]);
        let mut victim_context = victim.context();
        for _ in 0..2 {
            let guest = Guest::new(platform, &scribble);
            let contexts = [guest.context(), guest.context(), guest.context()];
            std::thread::scope(|scope| {
                for (thread, mut context) in contexts.into_iter().enumerate() {
                    scope.spawn(move || {
                        // Each scribbles over the area of the next one, and over the results page.
                        let areas = [0x10_0000, 0x10_8000, 0x11_0000];
                        for round in 0..10 {
                            let rdi = text + areas[(thread + 1) % 3] + (round % 2) * 0x6000;
                            let mut regs = Regs { rdi, rcx: 0x800, ..at(CODE) };
                            if run(&mut context, &mut regs, 1) == Event::Died {
                                break;
                            }
                        }
                    });
                }
            });
            assert_eq!(victim_context.switch(&mut at(CODE)), Event::Syscall);
        }
        assert!(victim.space.is_alive());
    });
}

#[test]
fn clobbered_stack_and_segment_bases_do_not_matter() {
    each(|platform| {
        // wrfsbase rdi; wrgsbase rsi; xor esp, esp; mov eax, 500; syscall
        let code = [
            0xf3, 0x48, 0x0f, 0xae, 0xd7, 0xf3, 0x48, 0x0f, 0xae, 0xde, 0x31, 0xe4, 0xb8, 0xf4, 1, 0, 0,
            0x0f, 0x05,
        ];
        let guest = Guest::new(platform, &code);
        let mut context = guest.context();
        for base in [0, 0x1234_5000, 0x7fff_ffff_0000] {
            let mut regs = Regs { rdi: base, rsi: base + 8, ..at(CODE) };
            assert_eq!(context.switch(&mut regs), Event::Syscall);
            let seen = (regs.orig_rax, regs.rsp, regs.fs_base, regs.gs_base);
            assert_eq!(seen, (500, 0, base, base + 8));
        }
    });
}

#[test]
fn threads_interrupts_and_mappings_race_without_loss() {
    const THREADS: u64 = 64;
    const CALLS: u64 = 40;
    // 1: lock inc qword [rdi]; mov [rsi], rax; syscall; dec r12; jnz 1b; mov eax, 777; syscall
    let code = [
        0xf0, 0x48, 0xff, 0x07, 0x48, 0x89, 0x06, 0x0f, 0x05, 0x49, 0xff, 0xcc, 0x75, 0xf2, 0xb8, 0x09, 3, 0,
        0, 0x0f, 0x05,
    ];
    const SHARED: u64 = 0x60_0000;
    each(|platform| {
        let guest = Guest::new(platform, &code);
        let map = || {
            let source = MapSource::MemoryFile(guest.data);
            guest.space.map(SHARED, PAGE_SIZE, source, Prot::READ_WRITE, Populate::OnTouch).unwrap();
        };
        let stop = AtomicBool::new(false);
        let contexts: Vec<_> = (0..THREADS).map(|_| guest.context()).collect();
        let interrupters: Vec<_> = contexts.iter().map(|context| context.interrupter()).collect();
        std::thread::scope(|scope| {
            let (mut threads, map) = (Vec::new(), &map);
            for mut context in contexts {
                threads.push(scope.spawn(move || {
                    let mut regs = Regs { rdi: DATA, rsi: SHARED + 64, r12: CALLS, ..at(CODE) };
                    let mut calls = 0;
                    loop {
                        match context.switch(&mut regs) {
                            Event::Syscall if regs.orig_rax == 777 => return calls,
                            Event::Syscall => calls += 1,
                            Event::Interrupted => {}
                            Event::Fault(fault) => {
                                assert_eq!(fault.addr, SHARED + 64);
                                map();
                            }
                            Event::Died => panic!("died"),
                        }
                    }
                }));
            }
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    interrupters.iter().for_each(|i| i.interrupt());
                    guest.space.unmap(SHARED, PAGE_SIZE).unwrap();
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
            let calls: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            stop.store(true, Ordering::SeqCst);
            assert_eq!(calls, THREADS * CALLS);
        });
        let mut count = [0; 8];
        guest.memory.read(guest.data, &mut count).unwrap();
        assert_eq!(u64::from_le_bytes(count), THREADS * CALLS);
    });
}

#[test]
fn wide_vector_state_survives_and_is_inherited() {
    if !std::arch::is_x86_feature_detected!("avx2") {
        eprintln!("skipped: needs AVX2");
        return;
    }
    // vpcmpeqd ymm15, ymm15, ymm15; syscall; vextracti128 xmm0, ymm15, 1; movq rax, xmm0; syscall
    let code = [
        0xc4, 0x41, 0x05, 0x76, 0xff, 0x0f, 0x05, 0xc4, 0x63, 0x7d, 0x39, 0xf8, 0x01, 0x66, 0x48, 0x0f, 0x7e,
        0xc0, 0x0f, 0x05,
    ];
    /// Upper half of ymm15 in the XSAVE area (Intel SDM, volume 1, 13.4.2: component 2 is at 576 on all processors).
    const YMM15_HIGH: usize = 576 + 15 * 16;
    each(|platform| {
        let guest = Guest::new(platform, &code);
        let mut context = guest.context();
        let mut regs = at(CODE);
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        let state = context.fpu();
        assert_eq!(state.as_bytes()[YMM15_HIGH..YMM15_HIGH + 16], [0xff; 16]);
        let mut child = guest.space.new_context(&state).unwrap();
        for context in [&mut context, &mut child] {
            let mut regs = regs;
            assert_eq!(context.switch(&mut regs), Event::Syscall);
            assert_eq!(regs.orig_rax, u64::MAX);
        }
        // A new thread has nothing of its predecessors, nor of the sentry.
        drop(child);
        let mut fresh = guest.context();
        let mut regs = at(CODE + 7);
        assert_eq!(fresh.switch(&mut regs), Event::Syscall);
        assert_eq!(regs.orig_rax, 0);
    });
}

#[test]
fn jumping_into_the_table_of_rewritten_calls_disturbs_nobody() {
    // 1: mov rax, rbp; syscall; cmp rax, -4095; dec r12; jnz 1b; ud2. At 32: mov rcx, rdi; jmp gs:[0xa0], as an entry does.
    let code = [
        0x48, 0x89, 0xe8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x49, 0xff, 0xcc, 0x75, 0xf0, 0x0f,
        0x0b,
    ];
    const TABLE: u64 = 0x6_0000;
    each(|platform| {
        if platform.0.name() != "systrap" {
            return;
        }
        let guest = Guest::new(platform, &[]);
        guest.memory.write(guest.code + 64, &code).unwrap();
        let tell = [0x48, 0x89, 0xf9, 0x65, 0xff, 0x24, 0x25, 0xa0, 0, 0, 0];
        guest.memory.write(guest.code + 64 + 32, &tell).unwrap();
        let mut context = guest.context();
        let mut regs = Regs { rbp: 700, r12: 40, ..at(CODE + 64) };
        let mut rewritten = false;
        while context.switch(&mut regs) == Event::Syscall {
            if let Some(site) = context.hot_call() {
                rewritten |= guest.space.rewrite_call(site, guest.code).unwrap();
            }
        }
        assert!(rewritten);
        for at_table in (0..140).chain([4096, 0xfff8, 0xffff, 0x1_0000]) {
            // Into code and data, and with a return address there.
            for rip in [TABLE + at_table, CODE + 64 + 32] {
                let mut regs = Regs { rbp: 700, rax: 9, rdi: TABLE + at_table, r12: 3, ..at(rip) };
                let event = run(&mut context, &mut regs, 10);
                assert_ne!(event, Event::Died, "{rip:#x}, {at_table:#x}: the guest died");
            }
        }
        assert!(guest.space.is_alive());
    });
}

#[test]
fn nothing_runs_on_in_a_space_that_has_ended() {
    // 1: inc qword [rdi]; jmp 1b
    let code = [0x48, 0xff, 0x07, 0xeb, 0xfb];
    each(|platform| {
        // A thread of the other backend runs only while its tracer lets it.
        if platform.0.name() != "systrap" {
            return;
        }
        for _ in 0..20 {
            let guest = Guest::new(platform, &code);
            let mut context = guest.context();
            let count = || guest.memory.load_u32(guest.data).unwrap();
            std::thread::scope(|scope| {
                let runs = scope.spawn(move || context.switch(&mut Regs { rdi: DATA, ..at(CODE) }));
                while count() == 0 {
                    std::thread::yield_now();
                }
                guest.space.end();
                let last = count();
                std::thread::sleep(Duration::from_millis(2));
                assert_eq!(count(), last, "it still counts");
                assert_eq!(runs.join().unwrap(), Event::Died);
            });
        }
    });
}
