//! Host system-call allow-lists: building them, putting them in force, and saying what broke them.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Once;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use thiserror::Error;

/// Exit status of a process that made a forbidden call, as a shell would show SIGSYS.
pub const VIOLATION_STATUS: i32 = 128 + libc::SIGSYS;

/// Why a filter could not be put in force.
#[derive(Debug, Error)]
pub enum SeccompError {
    /// The rules do not make a valid program.
    #[error("build the system-call filter: {0}")]
    Build(#[from] seccompiler::BackendError),
    /// The kernel refused the program.
    #[error("install the system-call filter: {0}")]
    Install(#[from] seccompiler::Error),
}

/// What one argument of a call must look like.
#[derive(Clone, Copy, Debug)]
pub enum ArgCheck {
    /// The low 32 bits equal the value.
    Equals {
        /// Position, 0 to 5.
        index: u8,
        /// What to compare with.
        value: u32,
    },
    /// The low 32 bits, masked, equal the value.
    Masked {
        /// Position, 0 to 5.
        index: u8,
        /// Which bits count.
        mask: u32,
        /// What to compare with.
        value: u32,
    },
}

/// The system calls that a process keeps; every other one ends it.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    failing: BTreeMap<i32, Vec<i64>>,
}

/// Which threads a filter binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The calling thread and those it creates.
    ThisThread,
    /// Every thread of the process.
    AllThreads,
}

impl AllowList {
    /// Starts with nothing allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows `numbers` with any arguments.
    pub fn allow(&mut self, numbers: &[i64]) -> &mut Self {
        for &number in numbers {
            // An empty list of rules means: no condition.
            self.rules.insert(number, Vec::new());
        }
        self
    }

    /// Allows `number` when every check holds; alternatives add up.
    ///
    /// # Errors
    /// An argument position beyond 5.
    pub fn allow_when(&mut self, number: i64, checks: &[ArgCheck]) -> Result<&mut Self, SeccompError> {
        // Already allowed without condition: a rule would narrow it.
        if self.rules.get(&number).is_some_and(Vec::is_empty) {
            return Ok(self);
        }
        let conditions = checks
            .iter()
            .map(|check| match *check {
                ArgCheck::Equals { index, value } => {
                    SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value))
                }
                ArgCheck::Masked { index, mask, value } => SeccompCondition::new(
                    index,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::MaskedEq(u64::from(mask)),
                    u64::from(value),
                ),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rule = SeccompRule::new(conditions)?;
        self.rules.entry(number).or_default().push(rule);
        Ok(self)
    }

    /// Has `number` fail with `errno` instead of ending the process, for calls that libraries try
    /// before they fall back to another.
    pub fn fail_with(&mut self, number: i64, errno: i32) -> &mut Self {
        self.failing.entry(errno).or_default().push(number);
        self
    }

    /// Tells whether `number` is allowed in at least one form.
    pub fn permits(&self, number: i64) -> bool {
        self.rules.contains_key(&number)
    }

    /// The allowed numbers in ascending order.
    pub fn numbers(&self) -> impl Iterator<Item = i64> + '_ {
        self.rules.keys().copied()
    }

    /// Puts the list in force for good.
    ///
    /// A forbidden call does not run; it traps, the handler names its number on stderr, and the
    /// process ends with [`VIOLATION_STATUS`]. Sets no_new_privs.
    ///
    /// # Errors
    /// See [`SeccompError`].
    pub fn install(self, scope: Scope) -> Result<(), SeccompError> {
        report_violations();
        let Self { mut rules, failing } = self;
        // A trap outranks an errno (seccomp(2)), so what fails is let through by the list and stopped
        // by a filter of its own for each errno. Those come first: the list may forbid seccomp(2).
        for (errno, numbers) in failing {
            let failing = numbers.iter().map(|number| (*number, Vec::new())).collect();
            rules.extend(numbers.into_iter().map(|number| (number, Vec::new())));
            let action = SeccompAction::Errno(errno.cast_unsigned());
            put_in_force(failing, SeccompAction::Allow, action, scope)?;
        }
        put_in_force(rules, SeccompAction::Trap, SeccompAction::Allow, scope)
    }
}

fn put_in_force(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matching: SeccompAction,
    scope: Scope,
) -> Result<(), SeccompError> {
    let filter = SeccompFilter::new(rules, otherwise, matching, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    match scope {
        Scope::ThisThread => seccompiler::apply_filter(&program)?,
        Scope::AllThreads => seccompiler::apply_filter_all_threads(&program)?,
    }
    Ok(())
}

/// Sets the SIGSYS handler that names the forbidden call.
fn report_violations() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: an all-zero sigaction is a valid value.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_violation as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the SA_SIGINFO signature, uses async-signal-safe calls only, and
        // the struct is initialised.
        let result = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
        debug_assert_eq!(result, 0, "{}", io::Error::last_os_error());
    });
}

/// `struct siginfo` as SIGSYS fills it (x86-64): si_call_addr, then the call's number.
#[repr(C)]
struct SigsysInfo {
    signo: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    padding: libc::c_int,
    call_address: usize,
    number: libc::c_int,
    architecture: libc::c_uint,
}

extern "C" fn on_violation(_signal: libc::c_int, info: *const SigsysInfo, _context: *const libc::c_void) {
    // SAFETY: the kernel passes a siginfo to an SA_SIGINFO handler, and the fields read lie in it.
    let number = unsafe { (*info).number };
    let mut line = *b"the sandbox made the forbidden host system call      \n";
    let mut rest = u32::try_from(number).unwrap_or(0);
    // Digits are written from the right, before the newline; no formatting in a signal handler.
    for place in line.iter_mut().rev().skip(1).take(5) {
        // A digit fits in a byte.
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // SAFETY: write reads from a live buffer of that length; _exit does not return.
    unsafe {
        libc::write(2, line.as_ptr().cast(), line.len());
        libc::_exit(VIOLATION_STATUS);
    }
}
