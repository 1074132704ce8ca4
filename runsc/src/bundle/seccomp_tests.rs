//! What compiled sections answer.

use netstack::bpf::{Instruction, Program as Checked};
use sentry_abi::seccomp::data;
use serde_json::json;

use super::*;

struct Filter(Checked);

impl Filter {
    fn of(section: serde_json::Value) -> Self {
        let section: LinuxSeccomp = serde_json::from_value(section).unwrap();
        let config = compile(&section).unwrap().unwrap();
        let translate = |i: &FilterInstruction| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
        let program: Vec<_> = config.instructions.iter().map(translate).collect();
        Self(Checked::new(&program).unwrap())
    }

    fn answer(&self, name: &str, args: [u64; 6]) -> u32 {
        let number = u32::try_from(syscall::number(name).unwrap()).unwrap();
        self.0.run_on_words(&data(number, 0, args))
    }
}

#[test]
fn names_have_their_answers_and_others_the_default() {
    let filter = Filter::of(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": ["read", "write", "no_such_call", "cachestat"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["ptrace"], "action": "SCMP_ACT_TRAP" },
            { "names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS" },
        ],
    }));
    assert_eq!(filter.answer("read", [0; 6]), ret::ALLOW);
    assert_eq!(filter.answer("mount", [0; 6]), ret::ERRNO | 38);
    assert_eq!(filter.answer("ptrace", [0; 6]), ret::TRAP);
    assert_eq!(filter.answer("reboot", [0; 6]), ret::KILL_PROCESS);
    assert_eq!(filter.answer("open", [0; 6]), ret::ERRNO | 13);
    // Newer than any that is named.
    assert_eq!(filter.answer("fchmodat2", [0; 6]), ret::ERRNO | 38);
    // x32, and another architecture.
    assert_eq!(filter.0.run_on_words(&data(X32_SYSCALL_BIT, 0, [0; 6])), ret::ERRNO | 13);
    let mut other = data(0, 0, [0; 6]);
    other[1] = 0x4000_0003;
    assert_eq!(filter.0.run_on_words(&other), ret::KILL_THREAD);
}

#[test]
fn every_operator_compares_64_bits() {
    const BIG: u64 = 0x1_0000_0005;
    let samples = [0, 4, 5, 6, BIG - 1, BIG, BIG + 1, 0x2_0000_0000, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_GE", |a, b| a >= b),
        ("SCMP_CMP_GT", |a, b| a > b),
    ];
    for (name, holds) in operators {
        for with in samples {
            let filter = Filter::of(json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    { "names": ["personality"], "action": "SCMP_ACT_LOG",
                      "args": [{ "index": 0, "value": with, "op": name }] },
                    { "names": ["read"], "action": "SCMP_ACT_TRAP" },
                ],
            }));
            for value in samples {
                let expected = if holds(value, with) { ret::LOG } else { ret::ALLOW };
                let answer = filter.answer("personality", [value, 0, 0, 0, 0, 0]);
                assert_eq!(answer, expected, "{value:#x} {name} {with:#x}");
            }
            // The rules behind find the number again.
            assert_eq!(filter.answer("read", [with; 6]), ret::TRAP);
        }
    }
}

#[test]
fn masks_conjunctions_and_repeated_arguments() {
    let filter = Filter::of(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            // Docker's: clone without new namespaces.
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            // Both.
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }] },
            // Either.
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
        ],
    }));
    let eperm = ret::ERRNO | 1;
    assert_eq!(filter.answer("clone", [0x0100_0011, 0, 0, 0, 0, 0]), ret::ALLOW);
    assert_eq!(filter.answer("clone", [0x1000_0011, 0, 0, 0, 0, 0]), eperm);
    assert_eq!(filter.answer("socket", [2, 1, 0, 0, 0, 0]), ret::ALLOW);
    assert_eq!(filter.answer("socket", [2, 2, 0, 0, 0, 0]), eperm);
    assert_eq!(filter.answer("socket", [1, 1, 0, 0, 0, 0]), eperm);
    for (value, expected) in [(0, ret::ALLOW), (8, ret::ALLOW), (9, eperm)] {
        assert_eq!(filter.answer("personality", [value, 0, 0, 0, 0, 0]), expected);
    }
}

#[test]
fn bodies_longer_than_a_comparison_can_skip_work() {
    let args: Vec<_> = (0..200).map(|n| json!({ "index": 0, "value": n, "op": "SCMP_CMP_EQ" })).collect();
    let filter = Filter::of(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": args },
            { "names": ["uname", "sysinfo"], "action": "SCMP_ACT_ALLOW" },
        ],
    }));
    assert_eq!(filter.answer("personality", [199, 0, 0, 0, 0, 0]), ret::ALLOW);
    assert_eq!(filter.answer("personality", [200, 0, 0, 0, 0, 0]), ret::ERRNO | 1);
    assert_eq!(filter.answer("uname", [0; 6]), ret::ALLOW);
    assert_eq!(filter.answer("sysinfo", [0; 6]), ret::ALLOW);
}

#[test]
fn sections_that_ask_for_nothing_or_for_what_is_not_there() {
    let section = |json| serde_json::from_value::<LinuxSeccomp>(json).unwrap();
    assert!(compile(&section(json!({ "defaultAction": "SCMP_ACT_ALLOW" }))).unwrap().is_none());
    let notify = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }] });
    assert!(matches!(compile(&section(notify)), Err(SeccompError::Notify)));
    let seventh = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_TRAP",
        "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] }] });
    assert!(matches!(compile(&section(seventh)), Err(SeccompError::Argument(6))));
}
