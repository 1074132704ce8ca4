//! The contract that every backend keeps, checked with guests of a few instructions.

mod harness;

use std::time::{Duration, Instant};

use harness::{CODE, DATA, Guest, at, each};
use sentry_platform::{
    Access, Answers, Context, Event, FpuState, MapSource, PAGE_SIZE, Populate, Prot, Regs,
};

#[test]
fn system_call_hands_over_all_registers() {
    each(|platform| {
        let guest = Guest::new(platform, &[0x0f, 0x05]);
        let mut context = guest.context();
        let mut regs = Regs {
            rax: 0x1234,
            rbx: 1,
            rdx: 3,
            rsi: 4,
            rdi: 5,
            rbp: 6,
            r8: 8,
            r9: 9,
            r10: 10,
            r12: 12,
            r13: 13,
            r14: 14,
            r15: 15,
            fs_base: 0x7000_1000,
            gs_base: 0x7000_2000,
            ..at(CODE)
        };
        let before = regs;
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        assert_eq!(regs.orig_rax, 0x1234);
        assert_eq!(regs.syscall_args(), [5, 4, 3, 10, 8, 9]);
        let expected = Regs { rip: CODE + 2, orig_rax: 0x1234, rcx: regs.rcx, r11: regs.r11, ..before };
        assert_eq!(regs, expected);
    });
}

#[test]
fn results_reach_the_guest_in_a_loop() {
    // 1: syscall; add rbx, rax; dec r12; jnz 1b; mov eax, 9999; syscall
    let code =
        [0x0f, 0x05, 0x48, 0x01, 0xc3, 0x49, 0xff, 0xcc, 0x75, 0xf6, 0xb8, 0x0f, 0x27, 0, 0, 0x0f, 0x05];
    each(|platform| {
        let guest = Guest::new(platform, &code);
        let mut context = guest.context();
        let mut regs = Regs { r12: 500, ..at(CODE) };
        let mut calls = 0;
        loop {
            assert_eq!(context.switch(&mut regs), Event::Syscall);
            if regs.orig_rax == 9999 {
                break;
            }
            calls += 1;
            // Numbers that no kernel has: 335 and 336 pass some hosts' seccomp.
            regs.rax = 1000 + calls;
        }
        assert_eq!((calls, regs.rbx), (500, 500 * 1000 + 500 * 501 / 2));
    });
}

#[test]
fn faults_tell_address_and_access() {
    // mov rax, [rdi]; mov [rsi], rax; jmp rdx
    let code = [0x48, 0x8b, 0x07, 0x48, 0x89, 0x06, 0xff, 0xe2];
    each(|platform| {
        let guest = Guest::new(platform, &code);
        let mut context = guest.context();
        let page = |prot| {
            guest
                .space
                .map(0x60_0000, PAGE_SIZE, MapSource::MemoryFile(guest.data), prot, Populate::Eagerly)
                .unwrap();
        };
        let mut regs = Regs { rdi: 0x60_0010, rsi: 0x60_0020, rdx: 0x60_0000, ..at(CODE) };
        let mut expect = |addr, access, rip| {
            let Event::Fault(fault) = context.switch(&mut regs) else { panic!("no fault") };
            assert_eq!((fault.signo, fault.addr, fault.access), (libc::SIGSEGV, addr, Some(access)));
            assert_eq!(regs.rip, rip);
        };
        expect(0x60_0010, Access::Read, CODE);
        page(Prot::READ);
        expect(0x60_0020, Access::Write, CODE + 3);
        page(Prot::READ_WRITE);
        expect(0x60_0000, Access::Execute, 0x60_0000);
    });
}

#[test]
fn exceptions_are_the_signals_of_linux() {
    each(|platform| {
        for (code, signo) in [
            (&[0x0f, 0x0b][..], libc::SIGILL),
            (&[0xcc], libc::SIGTRAP),
            (&[0x31, 0xc9, 0xf7, 0xf1], libc::SIGFPE),
            // A non-canonical address: mov rax, [rax], and hlt, which is privileged.
            (&[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x48, 0x8b, 0x00], libc::SIGSEGV),
            (&[0xf4], libc::SIGSEGV),
        ] {
            let guest = Guest::new(platform, code);
            let mut regs = at(CODE);
            let Event::Fault(fault) = guest.context().switch(&mut regs) else {
                panic!("{code:x?}: no fault")
            };
            assert_eq!(fault.signo, signo, "{code:x?}");
        }
    });
}

#[test]
fn guest_and_sentry_see_each_others_writes() {
    // mov rax, [rdi]; inc rax; mov [rdi], rax; syscall
    let code = [0x48, 0x8b, 0x07, 0x48, 0xff, 0xc0, 0x48, 0x89, 0x07, 0x0f, 0x05];
    each(|platform| {
        let guest = Guest::new(platform, &code);
        guest.memory.write(guest.data + 8, &41_u64.to_le_bytes()).unwrap();
        let mut regs = Regs { rdi: DATA + 8, ..at(CODE) };
        assert_eq!(guest.context().switch(&mut regs), Event::Syscall);
        let mut word = [0; 8];
        guest.memory.read(guest.data + 8, &mut word).unwrap();
        assert_eq!(u64::from_le_bytes(word), 42);
    });
}

#[test]
fn unmapping_and_protecting_take_effect() {
    let code = [0x48, 0x89, 0x07, 0x0f, 0x05];
    each(|platform| {
        let guest = Guest::new(platform, &code);
        let mut context = guest.context();
        let mut write = || {
            let mut regs = Regs { rdi: DATA, ..at(CODE) };
            context.switch(&mut regs)
        };
        assert_eq!(write(), Event::Syscall);
        guest.space.protect(DATA, PAGE_SIZE, Prot::READ).unwrap();
        assert!(matches!(write(), Event::Fault(f) if f.access == Some(Access::Write)));
        guest.space.protect(DATA, PAGE_SIZE, Prot::READ_WRITE).unwrap();
        assert_eq!(write(), Event::Syscall);
        guest.space.unmap(DATA, PAGE_SIZE).unwrap();
        assert!(matches!(write(), Event::Fault(f) if f.addr == DATA));
    });
}

#[test]
fn new_code_is_executed_after_it_was_written() {
    each(|platform| {
        let guest = Guest::new(platform, &[0xb8, 1, 0, 0, 0, 0x0f, 0x05]);
        let mut context = guest.context();
        for number in 1..20_u8 {
            guest.memory.write(guest.code + 1, &[number]).unwrap();
            let mut regs = at(CODE);
            assert_eq!(context.switch(&mut regs), Event::Syscall);
            assert_eq!(regs.orig_rax, u64::from(number));
        }
    });
}

#[test]
fn addresses_outside_the_range_are_refused() {
    each(|platform| {
        let range = platform.0.address_range();
        let guest = Guest::new(platform, &[0x90]);
        for addr in [0, range.end, range.end + (1 << 20), u64::MAX - PAGE_SIZE + 1] {
            assert!(guest.space.unmap(addr, PAGE_SIZE).is_err(), "{addr:#x}");
        }
        assert!(guest.space.unmap(range.end - PAGE_SIZE, PAGE_SIZE).is_ok());
        assert!(guest.space.unmap(range.end - PAGE_SIZE, 2 * PAGE_SIZE).is_err());
    });
}

#[test]
fn busy_guest_is_interrupted_and_goes_on() {
    // 1: inc qword [rdi]; jmp 1b
    let code = [0x48, 0xff, 0x07, 0xeb, 0xfb];
    each(|platform| {
        let guest = Guest::new(platform, &code);
        let mut context = guest.context();
        let mut regs = Regs { rdi: DATA, ..at(CODE) };
        let count = || {
            let mut word = [0; 8];
            guest.memory.read(guest.data, &mut word).unwrap();
            u64::from_le_bytes(word)
        };
        for _ in 0..20 {
            let (before, interrupter) = (count(), context.interrupter());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let deadline = Instant::now() + Duration::from_secs(10);
                    while count() == before && Instant::now() < deadline {
                        std::thread::yield_now();
                    }
                    interrupter.interrupt();
                });
                assert_eq!(context.switch(&mut regs), Event::Interrupted);
            });
            assert!((CODE..CODE + 5).contains(&regs.rip));
            assert!(count() > before, "the guest ran in between");
        }
    });
}

#[test]
fn interrupt_before_switch_is_not_lost() {
    each(|platform| {
        let guest = Guest::new(platform, &[0xeb, 0xfe]);
        let mut context = guest.context();
        for _ in 0..100 {
            context.interrupter().interrupt();
            context.interrupter().interrupt();
            let mut regs = at(CODE);
            assert_eq!(context.switch(&mut regs), Event::Interrupted);
        }
    });
}

#[test]
fn many_threads_share_a_space() {
    // 1: lock inc qword [rdi]; syscall; dec r12; jnz 1b; mov eax, 77; syscall
    let code =
        [0xf0, 0x48, 0xff, 0x07, 0x0f, 0x05, 0x49, 0xff, 0xcc, 0x75, 0xf5, 0xb8, 77, 0, 0, 0, 0x0f, 0x05];
    each(|platform| {
        let guest = Guest::new(platform, &code);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                let mut context = guest.context();
                scope.spawn(move || {
                    let mut regs = Regs { rdi: DATA, r12: 50, ..at(CODE) };
                    while {
                        assert_eq!(context.switch(&mut regs), Event::Syscall);
                        regs.orig_rax != 77
                    } {}
                });
            }
        });
        let mut count = [0; 8];
        guest.memory.read(guest.data, &mut count).unwrap();
        assert_eq!(u64::from_le_bytes(count), 16 * 50);
    });
}

#[test]
fn spaces_are_separate() {
    let code = [0x48, 0x8b, 0x07, 0x0f, 0x05];
    each(|platform| {
        let guests: Vec<Guest> = (0..12).map(|_| Guest::new(platform, &code)).collect();
        for (n, guest) in (0_u64..).zip(&guests) {
            guest.memory.write(guest.data, &(1000 + n).to_le_bytes()).unwrap();
        }
        for (n, guest) in (0_u64..).zip(&guests) {
            let mut regs = Regs { rdi: DATA, ..at(CODE) };
            assert_eq!(guest.context().switch(&mut regs), Event::Syscall);
            assert_eq!(regs.orig_rax, 1000 + n);
        }
    });
}

#[test]
fn vector_state_is_kept_read_and_replaced() {
    // movq xmm3, rdi; syscall; movq rax, xmm3; syscall
    let code = [0x66, 0x48, 0x0f, 0x6e, 0xdf, 0x0f, 0x05, 0x66, 0x48, 0x0f, 0x7e, 0xd8, 0x0f, 0x05];
    const XMM3: usize = 160 + 3 * 16;
    each(|platform| {
        let guest = Guest::new(platform, &code);
        let mut context = guest.context();
        let mut regs = Regs { rdi: 0x1122_3344_5566_7788, ..at(CODE) };
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        let state = context.fpu();
        assert_eq!(state.as_bytes()[XMM3..XMM3 + 8], 0x1122_3344_5566_7788_u64.to_le_bytes());
        // A child continues with its parent's vector state (fork).
        let mut child = guest.space.new_context(&state).unwrap();
        let mut child_regs = regs;
        assert_eq!(child.switch(&mut child_regs), Event::Syscall);
        assert_eq!(child_regs.orig_rax, 0x1122_3344_5566_7788);
        let mut changed = state.as_bytes().to_vec();
        changed[XMM3..XMM3 + 8].copy_from_slice(&7_u64.to_le_bytes());
        context.set_fpu(&FpuState::new(changed).unwrap());
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        assert_eq!(regs.orig_rax, 7);
    });
}

#[test]
fn hostile_registers_and_code_stay_inside() {
    each(|platform| {
        let end = platform.0.address_range().end;
        // int 0x80; sysenter; jumps into and writes over the stub's area; a stack nowhere; syscalls with any number.
        let jump: [u8; 2] = [0xff, 0xe7];
        for target in [end, end + 0x10_0000, end + 0x1000, u64::MAX - 4095, 0] {
            let guest = Guest::new(platform, &jump);
            let mut regs = Regs { rdi: target, rsp: 0, rax: 9, ..at(CODE) };
            let deadline = Instant::now() + Duration::from_secs(10);
            let mut context = guest.context();
            // Landing in stub code may look like system calls of the guest; the sentry then decides. It must not run on
            // the host: 9 is mmap, 60 is exit, and the process must be alive afterwards.
            for _ in 0..10 {
                assert!(Instant::now() < deadline);
                match context.switch(&mut regs) {
                    Event::Syscall => regs.rax = 60,
                    Event::Fault(_) | Event::Interrupted => break,
                    Event::Died => panic!("a host system call ran"),
                }
            }
            assert!(guest.space.is_alive());
        }
        let store = [0x48, 0x89, 0x07, 0x0f, 0x05];
        for target in [end, end + 0x10_0000] {
            let guest = Guest::new(platform, &store);
            let mut regs = Regs { rdi: target, ..at(CODE) };
            assert!(matches!(guest.context().switch(&mut regs), Event::Fault(_)), "{target:#x} is writable");
        }
    });
}

#[test]
fn killed_space_ends_its_threads() {
    each(|platform| {
        let guest = Guest::new(platform, &[0xeb, 0xfe]);
        let mut context = guest.context();
        let space = guest.space.clone();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            space.kill();
        });
        let mut regs = at(CODE);
        assert_eq!(context.switch(&mut regs), Event::Died);
        killer.join().unwrap();
        assert_eq!(context.switch(&mut regs), Event::Died);
        assert!(!guest.space.is_alive());
        assert!(guest.space.unmap(DATA, PAGE_SIZE).is_err());
    });
}

#[test]
fn contexts_come_and_go() {
    each(|platform| {
        let guest = Guest::new(platform, &[0x0f, 0x05]);
        for _ in 0..50 {
            let mut unused = guest.context();
            let mut used = guest.context();
            assert_eq!(used.switch(&mut at(CODE)), Event::Syscall);
            unused.publish(&Answers { pid: Some(1), ..Answers::default() });
        }
        assert!(guest.space.is_alive());
    });
}

/// Runs `context` until it makes call 999, answering call n with n + 1 and rewriting what becomes hot.
fn run_and_rewrite(guest: &Guest, context: &mut Box<dyn Context>, regs: &mut Regs) -> (u64, u64) {
    let (mut calls, mut rewritten) = (0, 0);
    loop {
        match context.switch(regs) {
            Event::Syscall if regs.orig_rax == 999 => return (calls, rewritten),
            Event::Syscall => calls += 1,
            Event::Interrupted => continue,
            other => panic!("{other:?} at {:#x}", regs.rip),
        }
        regs.rax = regs.orig_rax + 1;
        if let Some(site) = context.hot_call() {
            rewritten += u64::from(guest.space.rewrite_call(site, guest.code).unwrap());
        }
    }
}

/// 1: mov eax, 500; syscall; add rbx, rax; dec r12; jnz 1b; mov eax, 999; syscall
const LOOP: [u8; 24] = [
    0xb8, 0xf4, 1, 0, 0, 0x0f, 0x05, 0x48, 0x01, 0xc3, 0x49, 0xff, 0xcc, 0x75, 0xf1, 0xb8, 0xe7, 3, 0, 0,
    0x0f, 0x05, 0x0f, 0x0b,
];

fn guest_with_loop(platform: &harness::Backend) -> Guest {
    let guest = Guest::new(platform, &[]);
    guest.memory.write(guest.code + 64, &LOOP).unwrap();
    guest
}

#[test]
fn rewritten_calls_behave_like_calls() {
    each(|platform| {
        let guest = guest_with_loop(platform);
        let mut context = guest.context();
        let start = Regs {
            r12: 100,
            rdi: 1,
            rsi: 2,
            rdx: 3,
            r10: 4,
            r8: 5,
            r9: 6,
            rbp: 7,
            r13: 13,
            r14: 14,
            r15: 15,
            fs_base: 0x1234_0000,
            ..at(CODE + 64)
        };
        for round in 0..3 {
            let mut regs = start;
            let (calls, rewritten) = run_and_rewrite(&guest, &mut context, &mut regs);
            assert_eq!((calls, regs.rbx), (100, 100 * 501), "round {round}");
            if platform.0.name() == "systrap" {
                assert_eq!(rewritten, u64::from(round == 0));
            }
            let (rcx, r11, rflags) = (regs.rcx, regs.r11, regs.rflags);
            let rest = Regs { r12: 0, rbx: regs.rbx, rip: CODE + 64 + 22, rax: 999, orig_rax: 999, ..start };
            assert_eq!(regs, Regs { rcx, r11, rflags, ..rest });
        }
    });
}

#[test]
fn state_can_be_replaced_at_a_rewritten_call() {
    each(|platform| {
        let guest = guest_with_loop(platform);
        let mut context = guest.context();
        run_and_rewrite(&guest, &mut context, &mut Regs { r12: 50, ..at(CODE + 64) });
        // As for a signal handler and its return: other registers, other vector state.
        let mut regs = Regs { r12: 3, ..at(CODE + 64) };
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        let state = context.fpu();
        context.set_fpu(&state);
        regs = Regs { rip: CODE + 64, r12: 1, rbx: 5, ..regs };
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        assert_eq!((regs.orig_rax, regs.rip, regs.rbx), (500, CODE + 64 + 7, 5));
        // A restarted call: back to the instruction, which is no longer there.
        regs.rip -= 2;
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        assert_eq!((regs.orig_rax, regs.rip), (500, CODE + 64 + 7));
        // A child has the same code.
        let child = Guest { space: guest.space.fork().unwrap(), ..guest_with_loop(platform) };
        let source = MapSource::MemoryFile(guest.code);
        child.space.map(CODE, PAGE_SIZE, source, Prot::READ_EXECUTE, Populate::Eagerly).unwrap();
        let mut child_context = child.space.new_context(&state).unwrap();
        let mut child_regs = Regs { r12: 10, ..at(CODE + 64) };
        assert_eq!(run_and_rewrite(&child, &mut child_context, &mut child_regs).0, 10);
    });
}

#[test]
fn rewriting_races_with_threads_and_interrupts() {
    each(|platform| {
        for _ in 0..20 {
            let guest = guest_with_loop(platform);
            let done = std::sync::atomic::AtomicBool::new(false);
            let contexts: Vec<_> = (0..4).map(|_| guest.context()).collect();
            let interrupters: Vec<_> = contexts.iter().map(|context| context.interrupter()).collect();
            std::thread::scope(|scope| {
                let guest = &guest;
                let run = |mut context| {
                    scope.spawn(move || {
                        let mut regs = Regs { r12: 300, ..at(CODE + 64) };
                        let (calls, _) = run_and_rewrite(guest, &mut context, &mut regs);
                        assert_eq!((calls, regs.rbx), (300, 300 * 501));
                    })
                };
                let threads: Vec<_> = contexts.into_iter().map(run).collect();
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::SeqCst) {
                        interrupters.iter().for_each(|i| i.interrupt());
                        std::thread::sleep(Duration::from_micros(100));
                    }
                });
                let results: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
                done.store(true, std::sync::atomic::Ordering::SeqCst);
                assert!(results.iter().all(Result::is_ok));
            });
        }
    });
}

#[test]
fn guest_that_uses_gs_keeps_it_with_rewritten_calls() {
    each(|platform| {
        let guest = guest_with_loop(platform);
        let mut context = guest.context();
        run_and_rewrite(&guest, &mut context, &mut Regs { r12: 50, ..at(CODE + 64) });
        let mut regs = Regs { r12: 50, gs_base: DATA, ..at(CODE + 64) };
        assert_eq!(run_and_rewrite(&guest, &mut context, &mut regs).0, 50);
        assert_eq!(regs.gs_base, DATA);
    });
}

/// 1: mov rax, rbp; syscall; cmp rax, -4095; jae 2f; add rbx, rax; jmp 3f; 2: inc r13; 3: dec r12; jnz 1b;
/// mov eax, 999; syscall; ud2
const COMPARE_LOOP: [u8; 35] = [
    0x48, 0x89, 0xe8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 5, 0x48, 0x01, 0xc3, 0xeb, 3,
    0x49, 0xff, 0xc5, 0x49, 0xff, 0xcc, 0x75, 0xe6, 0xb8, 0xe7, 3, 0, 0, 0x0f, 0x05, 0x0f, 0x0b,
];
/// The address of `syscall` in it.
const COMPARE_CALL: u64 = CODE + 64 + 3;

fn guest_with_compare_loop(platform: &harness::Backend) -> Guest {
    let guest = Guest::new(platform, &[]);
    guest.memory.write(guest.code + 64, &COMPARE_LOOP).unwrap();
    guest
}

/// Runs the loop, fails every third call, and looks at the vector state of every `look_at`th.
fn run_compare_loop(guest: &Guest, context: &mut Box<dyn Context>, regs: &mut Regs, look_at: u64) -> u64 {
    let (mut calls, mut rewritten, mut sum, mut failed) = (0, 0, regs.rbx, regs.r13);
    let (count, number) = (regs.r12, regs.rbp);
    loop {
        match context.switch(regs) {
            Event::Syscall if regs.orig_rax == 999 => break,
            Event::Syscall => {
                calls += 1;
                assert_eq!((regs.orig_rax, regs.rip, regs.rcx), (number, COMPARE_CALL + 2, COMPARE_CALL + 2));
                if calls % 3 == 0 {
                    (regs.rax, failed) = ((-4_i64).cast_unsigned(), failed + 1);
                } else {
                    (regs.rax, sum) = (calls, sum + calls);
                }
                if calls % look_at == 0 {
                    let state = context.fpu();
                    context.set_fpu(&state);
                }
                if let Some(site) = context.hot_call() {
                    rewritten += u64::from(guest.space.rewrite_call(site, guest.code).unwrap());
                }
            }
            Event::Interrupted => {
                let known = CODE + 64..CODE + 64 + 35;
                assert!(known.contains(&regs.rip), "interrupted at {:#x}", regs.rip);
            }
            other => panic!("{other:?} at {:#x}", regs.rip),
        }
    }
    assert_eq!((calls, regs.rbx, regs.r13, regs.r12), (count, sum, failed, 0));
    rewritten
}

#[test]
fn rewritten_calls_with_a_comparison_behave_like_calls() {
    each(|platform| {
        let guest = guest_with_compare_loop(platform);
        let mut context = guest.context();
        let start = Regs {
            r12: 100,
            rdi: 1,
            rsi: 2,
            rdx: 3,
            r10: 4,
            r8: 5,
            r9: 6,
            rbp: 700,
            r14: 14,
            r15: 15,
            fs_base: 0x1234_0000,
            ..at(CODE + 64)
        };
        for round in 0..3 {
            let mut regs = start;
            let rewritten = run_compare_loop(&guest, &mut context, &mut regs, 1000);
            if platform.0.name() == "systrap" {
                assert_eq!(rewritten, u64::from(round == 0));
                let mut bytes = [0; 8];
                guest.memory.read(guest.code + 64 + 3, &mut bytes).unwrap();
                assert_eq!((&bytes[..3], &bytes[5..]), (&[0xff, 0x24, 0xe5][..], &[6, 0, 0x90][..]));
            }
            let Regs { rcx, r11, rflags, rbx, r13, .. } = regs;
            let rest = Regs { r12: 0, rip: CODE + 64 + 33, rax: 999, orig_rax: 999, ..start };
            assert_eq!(regs, Regs { rcx, r11, rflags, rbx, r13, ..rest });
        }
    });
}

#[test]
fn numbers_may_vary_at_a_rewritten_call_with_a_comparison() {
    each(|platform| {
        let guest = guest_with_compare_loop(platform);
        // mov rax, r12
        guest.memory.write(guest.code + 64, &[0x4c, 0x89, 0xe0]).unwrap();
        let mut context = guest.context();
        let (mut regs, mut rewritten) = (Regs { r12: 300, ..at(CODE + 64) }, 0);
        for number in (1..=300_u64).rev() {
            assert_eq!(context.switch(&mut regs), Event::Syscall);
            assert_eq!((regs.orig_rax, regs.rip), (number, COMPARE_CALL + 2));
            regs.rax = 1;
            if let Some(site) = context.hot_call() {
                rewritten += u64::from(guest.space.rewrite_call(site, guest.code).unwrap());
            }
        }
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        assert_eq!((regs.orig_rax, regs.rbx), (999, 300));
        assert_eq!(rewritten, u64::from(platform.0.name() == "systrap"));
    });
}

#[test]
fn flags_behind_a_rewritten_call_are_those_of_its_comparison() {
    // 1: mov rax, rbp; syscall; cmp rax, -4095; mov eax, 998; syscall; jmp 1b
    let code = [
        0x48, 0x89, 0xe8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xb8, 0xe6, 3, 0, 0, 0x0f, 0x05,
        0xeb, 0xec,
    ];
    const STATUS: u64 = 0x8d5;
    let results = [0, 1, 0x1001, u64::MAX, (-4095_i64).cast_unsigned(), (-4096_i64).cast_unsigned(), 1 << 63];
    each(|platform| {
        let guest = Guest::new(platform, &[]);
        guest.memory.write(guest.code + 64, &code).unwrap();
        let mut context = guest.context();
        let (mut regs, mut rewritten) = (Regs { rbp: 700, ..at(CODE + 64) }, 0);
        let mut expected = Vec::new();
        // Before the rewrite, through the table, and at the place where the comparison was.
        for round in 0..12 {
            let mut seen = Vec::new();
            for result in results {
                assert_eq!(context.switch(&mut regs), Event::Syscall);
                assert_eq!(regs.orig_rax, 700);
                if let Some(site) = context.hot_call() {
                    rewritten += u64::from(guest.space.rewrite_call(site, guest.code).unwrap());
                }
                regs.rax = result;
                // As after a signal handler.
                regs.rbx = if round >= 8 { regs.rbx + 1 } else { regs.rbx };
                assert_eq!(context.switch(&mut regs), Event::Syscall);
                assert_eq!(regs.orig_rax, 998);
                seen.push(regs.rflags & STATUS);
                if let Some(site) = context.hot_call() {
                    guest.space.rewrite_call(site, guest.code).unwrap();
                }
            }
            if round == 0 {
                expected = seen;
                assert!(expected.iter().any(|flags| flags & 1 != 0));
            } else {
                assert_eq!(seen, expected, "round {round}");
            }
        }
        assert_eq!(rewritten, u64::from(platform.0.name() == "systrap"));
    });
}

#[test]
fn state_can_be_replaced_at_a_rewritten_call_with_a_comparison() {
    each(|platform| {
        let guest = guest_with_compare_loop(platform);
        let mut context = guest.context();
        run_compare_loop(&guest, &mut context, &mut Regs { r12: 50, rbp: 700, ..at(CODE + 64) }, 1000);
        let mut regs = Regs { r12: 10, rbp: 700, ..at(CODE + 64) };
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        // A restarted call, with its number and with that of restart_syscall(2).
        for number in [700, 219] {
            regs.rip -= 2;
            regs.rax = number;
            assert_eq!(context.switch(&mut regs), Event::Syscall);
            assert_eq!((regs.orig_rax, regs.rip), (number, COMPARE_CALL + 2));
        }
        // A signal handler, which returns to behind the call with its result.
        let behind = Regs { rax: (-4_i64).cast_unsigned(), ..regs };
        let mut handler = Regs { r12: 1, rsp: regs.rsp - 128, ..at(CODE + 64 + 26) };
        assert_eq!(context.switch(&mut handler), Event::Syscall);
        assert_eq!(handler.orig_rax, 999);
        let state = context.fpu();
        regs = Regs { r12: 1, r13: 7, ..behind };
        assert_eq!(context.switch(&mut regs), Event::Syscall);
        assert_eq!((regs.orig_rax, regs.r13), (999, 8), "the error was seen");
        // A child has the same code, and begins behind its parent's call.
        let child = Guest { space: guest.space.fork().unwrap(), ..guest_with_compare_loop(platform) };
        let source = MapSource::MemoryFile(guest.code);
        child.space.map(CODE, PAGE_SIZE, source, Prot::READ_EXECUTE, Populate::Eagerly).unwrap();
        let mut child_context = child.space.new_context(&state).unwrap();
        let mut child_regs = Regs { rax: 5, r12: 1, rbx: 1, ..behind };
        assert_eq!(child_context.switch(&mut child_regs), Event::Syscall);
        assert_eq!((child_regs.orig_rax, child_regs.rbx), (999, 6));
        let mut child_regs = Regs { r12: 40, rbp: 700, ..at(CODE + 64) };
        run_compare_loop(&child, &mut child_context, &mut child_regs, 7);
    });
}

#[test]
fn rewriting_comparisons_races_with_threads_and_interrupts() {
    each(|platform| {
        for round in 0..20 {
            let guest = guest_with_compare_loop(platform);
            let done = std::sync::atomic::AtomicBool::new(false);
            let contexts: Vec<_> = (0..4).map(|_| guest.context()).collect();
            let interrupters: Vec<_> = contexts.iter().map(|context| context.interrupter()).collect();
            std::thread::scope(|scope| {
                let guest = &guest;
                let run = |mut context| {
                    scope.spawn(move || {
                        let mut regs = Regs { r12: 300, rbp: 700, ..at(CODE + 64) };
                        run_compare_loop(guest, &mut context, &mut regs, 3 + round);
                    })
                };
                let threads: Vec<_> = contexts.into_iter().map(run).collect();
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::SeqCst) {
                        interrupters.iter().for_each(|i| i.interrupt());
                        std::thread::sleep(Duration::from_micros(100));
                    }
                });
                let results: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
                done.store(true, std::sync::atomic::Ordering::SeqCst);
                assert!(results.iter().all(Result::is_ok));
            });
        }
    });
}

#[test]
fn guest_that_uses_gs_keeps_it_with_rewritten_comparisons() {
    each(|platform| {
        let guest = guest_with_compare_loop(platform);
        let mut context = guest.context();
        for gs_base in [0, DATA, 0] {
            let mut regs = Regs { r12: 50, rbp: 700, gs_base, ..at(CODE + 64) };
            run_compare_loop(&guest, &mut context, &mut regs, 1000);
            assert_eq!(regs.gs_base, gs_base);
        }
    });
}
