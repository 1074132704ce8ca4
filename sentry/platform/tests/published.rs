//! What a backend answers by itself: published answers, for guests of a few instructions.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{CODE, Guest, at, each};
use sentry_platform::{Answers, Context, Event, Regs};

/// 1: mov rax, rbp; syscall; cmp rax, -4095; jae 2f; add rbx, rax; 2: dec r12; jnz 1b; mov eax, 999; syscall
const COMPARE_LOOP: [u8; 29] = [
    0x48, 0x89, 0xe8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 3, 0x48, 0x01, 0xc3, 0x49, 0xff,
    0xcc, 0x75, 0xeb, 0xb8, 0xe7, 3, 0, 0, 0x0f, 0x05, 0x90,
];

const CALLS: [(u64, u64); 6] = [
    (libc::SYS_getpid as u64, 40),
    (libc::SYS_gettid as u64, 41),
    (libc::SYS_getuid as u64, 0),
    (libc::SYS_getgid as u64, 100),
    (libc::SYS_geteuid as u64, 1000),
    (libc::SYS_getegid as u64, 0xffff_fffe),
];
const ANSWERS: Answers = Answers {
    pid: Some(40),
    tid: Some(41),
    uid: Some(0),
    euid: Some(1000),
    gid: Some(100),
    egid: Some(0xffff_fffe),
};

/// mov eax, number; syscall; add rbx, rax; dec r12; jnz 1b; mov eax, 999; syscall
fn load_loop(number: u64) -> Vec<u8> {
    let [n0, n1, ..] = number.to_le_bytes();
    vec![
        0xb8, n0, n1, 0, 0, 0x0f, 0x05, 0x48, 0x01, 0xc3, 0x49, 0xff, 0xcc, 0x75, 0xf1, 0xb8, 0xe7, 3, 0, 0,
        0x0f, 0x05,
    ]
}

/// Runs until call 999, answering others with `answer`; returns how many arrived and how many sites were rewritten.
fn run(guest: &Guest, context: &mut dyn Context, regs: &mut Regs, answer: u64) -> (u64, u64) {
    let (mut calls, mut rewritten) = (0, 0);
    loop {
        match context.switch(regs) {
            Event::Syscall if regs.orig_rax == 999 => return (calls, rewritten),
            Event::Syscall => calls += 1,
            Event::Interrupted => {
                assert!((CODE + 64..CODE + 64 + 29).contains(&regs.rip), "interrupted at {:#x}", regs.rip);
                continue;
            }
            other => panic!("{other:?} at {:#x}", regs.rip),
        }
        regs.rax = answer;
        if let Some(site) = context.hot_call() {
            rewritten += u64::from(guest.space.rewrite_call(site, guest.code).unwrap());
        }
    }
}

#[test]
fn answers_are_what_the_guest_gets_at_both_kinds_of_sites() {
    each(|platform| {
        for (number, answer) in CALLS {
            for code in [COMPARE_LOOP.to_vec(), load_loop(number)] {
                let guest = Guest::new(platform, &[]);
                guest.memory.write(guest.code + 64, &code).unwrap();
                let mut context = guest.context();
                context.publish(&ANSWERS);
                let mut regs = Regs { r12: 1000, rbp: number, ..at(CODE + 64) };
                let (calls, rewritten) = run(&guest, &mut *context, &mut regs, answer);
                assert_eq!(regs.rbx, 1000 * answer, "call {number}");
                let expected = if rewritten == 0 { 1000..=1000 } else { 1..=64 };
                assert!(expected.contains(&calls), "{calls} calls of {number} arrived");
                // What is no longer published arrives again.
                context.publish(&Answers::default());
                let mut regs = Regs { r12: 100, rbp: number, ..at(CODE + 64) };
                assert_eq!(run(&guest, &mut *context, &mut regs, 5).0, 100);
                assert_eq!(regs.rbx, 500);
            }
        }
    });
}

#[test]
fn numbers_without_an_answer_arrive_at_a_site_that_answers_others() {
    each(|platform| {
        let guest = Guest::new(platform, &[]);
        guest.memory.write(guest.code + 64, &COMPARE_LOOP).unwrap();
        let mut context = guest.context();
        context.publish(&ANSWERS);
        run(&guest, &mut *context, &mut Regs { r12: 100, rbp: 39, ..at(CODE + 64) }, 40);
        for number in [0, 38, 40, 101, 103, 105, 106, 109, 185, 187, 0xffff_ffff] {
            let mut regs = Regs { r12: 10, rbp: number, ..at(CODE + 64) };
            assert_eq!(run(&guest, &mut *context, &mut regs, 7), (10, 0), "call {number}");
            assert_eq!(regs.rbx, 70);
        }
    });
}

#[test]
fn interrupts_neither_lose_nor_double_an_answer() {
    each(|platform| {
        for code in [COMPARE_LOOP.to_vec(), load_loop(39)] {
            let guest = Guest::new(platform, &[]);
            guest.memory.write(guest.code + 64, &code).unwrap();
            let mut context = guest.context();
            context.publish(&ANSWERS);
            run(&guest, &mut *context, &mut Regs { r12: 100, rbp: 39, ..at(CODE + 64) }, 40);
            let count = if platform.0.name() == "systrap" { 2_000_000 } else { 2000 };
            let (interrupter, done) = (context.interrupter(), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        interrupter.interrupt();
                        std::thread::sleep(Duration::from_micros(50));
                    }
                });
                let mut regs = Regs { r12: count, rbp: 39, ..at(CODE + 64) };
                run(&guest, &mut *context, &mut regs, 40);
                done.store(true, Ordering::SeqCst);
                assert_eq!((regs.rbx, regs.r12), (40 * count, 0));
            });
        }
    });
}
