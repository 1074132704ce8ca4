//! `linux.seccomp` of config.json: from a list of calls to a filter, as libseccomp makes one of it.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};
use sentry::boot::{FilterConfig, FilterInstruction};
use sentry_abi::seccomp::{AUDIT_ARCH_X86_64, DATA_ARCH, DATA_NR, X32_SYSCALL_BIT, data_arg, ret};
use sentry_abi::syscall;
use thiserror::Error;

/// Why a section cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SeccompError {
    /// Nobody could answer.
    #[error("linux.seccomp: SCMP_ACT_NOTIFY is not supported")]
    Notify,
    /// System calls have six arguments.
    #[error("linux.seccomp: argument {0} of a system call")]
    Argument(usize),
    /// Filters have at most 4096 instructions.
    #[error("linux.seccomp: a filter of {0} instructions is too long")]
    TooLong(usize),
}

/// What is said about a call.
#[derive(Debug, Default)]
struct CallRules {
    /// Answers that hold if all conditions do.
    conditional: Vec<(Vec<LinuxSeccompArg>, u32)>,
    /// The answer for all arguments; then the others do not matter, as with libseccomp.
    always: Option<u32>,
}

/// Makes the filter; `None` for a section that allows everything.
pub(super) fn compile(section: &LinuxSeccomp) -> Result<Option<FilterConfig>, SeccompError> {
    let default = answer(section.default_action(), section.default_errno_ret())?;
    let calls = rules(section, default)?;
    if calls.is_empty() && default == ret::ALLOW {
        return Ok(None);
    }
    let mut program = Program(Vec::new());
    program.load(DATA_ARCH);
    program.unless(JEQ, AUDIT_ARCH_X86_64, &[answer_with(ret::KILL_THREAD)]);
    program.load(DATA_NR);
    let has_x32 = section.architectures().as_ref().is_some_and(|list| list.contains(&Arch::ScmpArchX32));
    program.when(JGE, X32_SYSCALL_BIT, &[answer_with(if has_x32 { default } else { ret::KILL_THREAD })]);
    // As runc: a call that is newer than any that the section names does not exist, rather than being forbidden, so
    // that programs fall back to older ones.
    if !matches!(default & ret::ACTION_FULL, ret::ALLOW | ret::LOG | ret::TRACE)
        && let Some(newest) = newest_named(section)
    {
        program.when(JGT, newest, &[answer_with(ret::ERRNO | ENOSYS)]);
    }
    for (number, rules) in calls {
        program.call(number, &rules)?;
    }
    program.0.push(answer_with(default));
    let instructions = program.0;
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong(instructions.len()));
    }
    let flags = section.flags().as_deref().unwrap_or_default();
    let is_logged = flags.contains(&LinuxSeccompFilterFlag::SeccompFilterFlagLog);
    Ok(Some(FilterConfig { instructions, is_logged }))
}

/// The rules by number; names that this architecture does not have are left out, as are rules that say what the default
/// does.
fn rules(section: &LinuxSeccomp, default: u32) -> Result<BTreeMap<u32, CallRules>, SeccompError> {
    let mut calls: BTreeMap<u32, CallRules> = BTreeMap::new();
    for entry in section.syscalls().as_deref().unwrap_or_default() {
        let answer = answer(entry.action(), entry.errno_ret())?;
        if answer == default {
            continue;
        }
        for number in numbers(entry) {
            let rules = calls.entry(number).or_default();
            match entry.args().as_deref().unwrap_or_default() {
                [] => _ = rules.always.get_or_insert(answer),
                args => rules.conditional.extend(alternatives(args).into_iter().map(|args| (args, answer))),
            }
        }
    }
    Ok(calls)
}

fn numbers(entry: &LinuxSyscall) -> impl Iterator<Item = u32> {
    entry.names().iter().filter_map(|name| u32::try_from(syscall::number(name)?).ok())
}

fn newest_named(section: &LinuxSeccomp) -> Option<u32> {
    section.syscalls().as_deref().unwrap_or_default().iter().flat_map(numbers).max()
}

/// Conditions of one entry hold together, unless two are about the same argument: then each of them suffices (runc).
fn alternatives(args: &[LinuxSeccompArg]) -> Vec<Vec<LinuxSeccompArg>> {
    let is_repeated = args.iter().any(|a| args.iter().filter(|b| a.index() == b.index()).count() > 1);
    if is_repeated { args.iter().map(|arg| vec![*arg]).collect() } else { vec![args.to_vec()] }
}

fn answer(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    let data = errno.unwrap_or(EPERM) & ret::DATA;
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ret::KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => ret::KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => ret::TRAP,
        LinuxSeccompAction::ScmpActErrno => ret::ERRNO | data,
        LinuxSeccompAction::ScmpActTrace => ret::TRACE | data,
        LinuxSeccompAction::ScmpActLog => ret::LOG,
        LinuxSeccompAction::ScmpActAllow => ret::ALLOW,
        LinuxSeccompAction::ScmpActNotify => return Err(SeccompError::Notify),
    })
}

/// A program under construction. The accumulator holds the number of the call between rules.
struct Program(Vec<FilterInstruction>);

impl Program {
    fn load(&mut self, offset: u32) {
        self.0.push(FilterInstruction { code: 0x20, jt: 0, jf: 0, k: offset });
    }

    /// Runs `body` if the comparison of the accumulator holds.
    fn when(&mut self, comparison: u16, with: u32, body: &[FilterInstruction]) {
        self.skip(comparison, with, body, true);
    }

    /// Runs `body` if it does not.
    fn unless(&mut self, comparison: u16, with: u32, body: &[FilterInstruction]) {
        self.skip(comparison, with, body, false);
    }

    fn skip(&mut self, code: u16, k: u32, body: &[FilterInstruction], runs_if: bool) {
        match u8::try_from(body.len()) {
            Ok(len) => {
                let (jt, jf) = if runs_if { (0, len) } else { (len, 0) };
                self.0.push(FilterInstruction { code, jt, jf, k });
            }
            Err(_) => {
                // A comparison skips at most 255, a jump any number; a body has no more than the program may have.
                let (jt, jf) = if runs_if { (1, 0) } else { (0, 1) };
                self.0.push(FilterInstruction { code, jt, jf, k });
                let k = u32::try_from(body.len()).unwrap_or(u32::MAX);
                self.0.push(FilterInstruction { code: JA, jt: 0, jf: 0, k });
            }
        }
        self.0.extend_from_slice(body);
    }

    fn call(&mut self, number: u32, rules: &CallRules) -> Result<(), SeccompError> {
        if let Some(answer) = rules.always {
            self.when(JEQ, number, &[answer_with(answer)]);
            return Ok(());
        }
        let mut body = Self(Vec::new());
        for (conditions, answer) in &rules.conditional {
            // From the last condition to the first: each runs what follows it if it holds.
            let mut inner = vec![answer_with(*answer)];
            for condition in conditions.iter().rev() {
                let mut outer = Self(Vec::new());
                outer.condition(condition, &inner)?;
                inner = outer.0;
            }
            body.0.extend(inner);
        }
        body.load(DATA_NR);
        self.when(JEQ, number, &body.0);
        Ok(())
    }

    /// Runs `body` if the condition holds. What is 64 bits wide is compared in halves.
    fn condition(&mut self, arg: &LinuxSeccompArg, body: &[FilterInstruction]) -> Result<(), SeccompError> {
        let index = u32::try_from(arg.index()).ok().filter(|n| *n < 6);
        let low = data_arg(index.ok_or(SeccompError::Argument(arg.index()))?);
        let high = low + 4;
        let halves = |value: u64| ((value >> 32) as u32, (value & 0xffff_ffff) as u32);
        let (value_high, value_low) = halves(arg.value());
        match arg.op() {
            LinuxSeccompOperator::ScmpCmpEq => {
                self.equal((high, low), (u32::MAX, u32::MAX), (value_high, value_low), body);
            }
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                let wanted = halves(arg.value_two().unwrap_or(0));
                self.equal((high, low), (value_high, value_low), wanted, body);
            }
            LinuxSeccompOperator::ScmpCmpNe => {
                // Two ways to the body: past it if both halves are equal.
                self.load(high);
                let mut low_half = Self(Vec::new());
                low_half.load(low);
                low_half.when(JEQ, value_low, &[jump(body.len())]);
                self.when(JEQ, value_high, &low_half.0);
                self.0.extend_from_slice(body);
            }
            LinuxSeccompOperator::ScmpCmpGt => self.order((high, low), arg.value(), JGT, true, body),
            LinuxSeccompOperator::ScmpCmpGe => self.order((high, low), arg.value(), JGE, true, body),
            LinuxSeccompOperator::ScmpCmpLt => self.order((high, low), arg.value(), JGE, false, body),
            LinuxSeccompOperator::ScmpCmpLe => self.order((high, low), arg.value(), JGT, false, body),
        }
        Ok(())
    }

    /// Runs `body` if the argument under the mask is `wanted`.
    fn equal(
        &mut self,
        (high, low): (u32, u32),
        mask: (u32, u32),
        wanted: (u32, u32),
        body: &[FilterInstruction],
    ) {
        let mut inner = Self(Vec::new());
        inner.load(low);
        inner.mask(mask.1);
        inner.when(JEQ, wanted.1, body);
        self.load(high);
        self.mask(mask.0);
        self.when(JEQ, wanted.0, &inner.0);
    }

    fn mask(&mut self, mask: u32) {
        if mask != u32::MAX {
            self.0.push(FilterInstruction { code: 0x54, jt: 0, jf: 0, k: mask });
        }
    }

    /// Runs `body` if "the argument is greater (or equal)" is as true as `wanted`.
    fn order(
        &mut self,
        (high, low): (u32, u32),
        value: u64,
        low_test: u16,
        wanted: bool,
        body: &[FilterInstruction],
    ) {
        let (value_high, value_low) = ((value >> 32) as u32, (value & 0xffff_ffff) as u32);
        // Decided by the upper half, if that differs; else by the lower one. What is behind here is the body.
        let past = |rest: usize| jump(rest + body.len());
        let mut lower = Self(Vec::new());
        lower.load(low);
        let out = [past(0)];
        if wanted {
            lower.unless(low_test, value_low, &out);
        } else {
            lower.when(low_test, value_low, &out);
        }
        let lower = lower.0;
        self.load(high);
        if wanted {
            // Greater: to the body, over the lower half. Less: past it.
            self.when(JGT, value_high, &[jump(2 + lower.len())]);
            self.unless(JEQ, value_high, &[past(lower.len())]);
        } else {
            self.when(JGT, value_high, &[past(2 + lower.len())]);
            self.unless(JEQ, value_high, &[jump(lower.len())]);
        }
        self.0.extend(lower);
        self.0.extend_from_slice(body);
    }
}

/// An unconditional jump over instructions of one program.
fn jump(distance: usize) -> FilterInstruction {
    FilterInstruction { code: JA, jt: 0, jf: 0, k: u32::try_from(distance).unwrap_or(u32::MAX) }
}

/// An answer.
fn answer_with(answer: u32) -> FilterInstruction {
    FilterInstruction { code: 0x06, jt: 0, jf: 0, k: answer }
}

const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
