//! Filters: checked programs over `struct seccomp_data`, stacked.

use std::sync::Arc;

use netstack::bpf::{Instruction, Program};
use sentry_abi::seccomp::{DATA_LEN, ret};

use crate::task::seccomp::Listener;
use crate::task::seccomp::allowed::AllowedCalls;

/// The most instructions on the way through all filters of a task, each of which counts for four more
/// (`MAX_INSNS_PER_PATH`). DEVIATION: the kernel counts what it translates a program to, which is up to twice as long;
/// here it is the program itself, as seccomp(2) says.
const MAX_ON_PATH: usize = (1 << 18) / 8;
const PENALTY: usize = 4;

/// A filter, and those that were installed before it.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Program,
    before: Option<Arc<Self>>,
    logging: Logging,
    /// Calls that this filter and those before it allow whatever their arguments.
    allowed: AllowedCalls,
    /// Who answers for it.
    listener: Option<Arc<Listener>>,
}

/// What the filters of a thread say about a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision<'a> {
    /// `SECCOMP_RET_*` with its data.
    pub(crate) answer: u32,
    /// Whether to log it.
    pub(crate) logging: Logging,
    /// Who answers for the filter whose decision it is.
    pub(crate) listener: Option<&'a Arc<Listener>>,
}

/// Whether what a filter does other than allow calls is logged (`SECCOMP_FILTER_FLAG_LOG`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logging {
    Off,
    On,
}

/// Why a filter was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    /// It is no program, or does what filters of system calls may not.
    #[error("not a program over seccomp_data")]
    Program,
    /// All filters of the task together are too long.
    #[error("too many instructions")]
    TooLong,
}

impl Filter {
    /// Puts a filter on top of others.
    ///
    /// # Errors
    /// [`FilterError`].
    pub(crate) fn new(
        source: &[Instruction],
        logging: Logging,
        before: Option<Arc<Self>>,
    ) -> Result<Arc<Self>, FilterError> {
        let program = Program::new(source).map_err(|_| FilterError::Program)?;
        if !source.iter().all(is_permitted) {
            return Err(FilterError::Program);
        }
        let below: usize = chain(before.as_ref()).map(|f| f.program.instructions().len() + PENALTY).sum();
        if below + source.len() > MAX_ON_PATH {
            return Err(FilterError::TooLong);
        }
        let allowed = AllowedCalls::of(source, before.as_ref().map(|f| &f.allowed));
        Ok(Arc::new(Self { program, before, logging, allowed, listener: None }))
    }

    /// Has `listener` answer for a filter that nobody has yet.
    pub(crate) fn listen(this: &mut Arc<Self>, listener: Arc<Listener>) {
        if let Some(filter) = Arc::get_mut(this) {
            filter.listener = Some(listener);
        }
    }

    /// Whether this filter or one below it has a listener.
    pub(crate) fn has_listener(this: Option<&Arc<Self>>) -> bool {
        chain(this).any(|filter| filter.listener.is_some())
    }

    /// Whether calls with this number are allowed whatever their arguments.
    pub(crate) fn always_allows(&self, number: u64) -> bool {
        self.allowed.contains(number)
    }

    /// The strictest answer of all filters, the newest one's where several are as strict.
    pub(crate) fn decide(&self, data: &[u32; DATA_LEN / 4]) -> Decision<'_> {
        let mut strictest = Decision { answer: ret::ALLOW, logging: Logging::Off, listener: None };
        let mut next = Some(self);
        while let Some(filter) = next {
            let answer = filter.program.run_on_words(data);
            if rank(answer) < rank(strictest.answer) {
                strictest = Decision { answer, logging: filter.logging, listener: filter.listener.as_ref() };
            }
            next = filter.before.as_deref();
        }
        strictest
    }

    /// How many filters there are.
    pub(crate) fn count(this: &Arc<Self>) -> usize {
        chain(Some(this)).count()
    }

    /// Whether `ancestor` is this filter or one below it; no filter is below all.
    pub(crate) fn is_on_top_of(this: Option<&Arc<Self>>, ancestor: Option<&Arc<Self>>) -> bool {
        ancestor.is_none_or(|ancestor| chain(this).any(|f| Arc::ptr_eq(f, ancestor)))
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.orphan();
        }
        // One after the other: a guest can stack thousands, which would take a stack of ours to drop within each other.
        let mut next = self.before.take();
        while let Some(mut filter) = next.and_then(Arc::into_inner) {
            next = filter.before.take();
        }
    }
}

fn chain(top: Option<&Arc<Filter>>) -> impl Iterator<Item = &Arc<Filter>> {
    std::iter::successors(top, |filter| filter.before.as_ref())
}

/// Stricter answers are less: the order is that of the numbers, taken as signed (`<linux/seccomp.h>`).
fn rank(answer: u32) -> i32 {
    (answer & ret::ACTION_FULL).cast_signed()
}

/// Whether a program over `struct seccomp_data` may have the instruction (`seccomp_check_filter`).
fn is_permitted(instruction: &Instruction) -> bool {
    let Instruction { code, k, .. } = *instruction;
    match code {
        // Whole words of the structure.
        0x20 => k.is_multiple_of(4) && usize::try_from(k).is_ok_and(|k| k < DATA_LEN),
        // Its length, constants, scratch memory, A to X and back.
        0x80 | 0x81 | 0x00 | 0x01 | 0x60 | 0x61 | 0x02 | 0x03 | 0x07 | 0x87 => true,
        // Returns and jumps.
        0x06 | 0x16 | 0x05 | 0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => true,
        // + - * / & | ^ << >>, with a constant or X, and the negative; no remainder.
        0x04 | 0x0c | 0x14 | 0x1c | 0x24 | 0x2c | 0x34 | 0x3c | 0x54 | 0x5c | 0x44 | 0x4c | 0xa4 | 0xac
        | 0x64 | 0x6c | 0x74 | 0x7c | 0x84 => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use sentry_abi::seccomp::data;
    use sentry_abi::syscall::nr;

    use super::*;

    fn op(code: u16, k: u32) -> Instruction {
        Instruction { code, jt: 0, jf: 0, k }
    }

    /// Answers `special` to calls of `number`, otherwise `ALLOW`.
    fn one(number: u32, special: u32, before: Option<Arc<Filter>>) -> Arc<Filter> {
        let source = [
            op(0x20, 0),
            Instruction { code: 0x15, jt: 0, jf: 1, k: number },
            op(0x06, special),
            op(0x06, ret::ALLOW),
        ];
        Filter::new(&source, Logging::Off, before).unwrap()
    }

    #[test]
    fn strictest_answer_counts_and_the_newest_of_equals() {
        let order =
            [ret::KILL_PROCESS, ret::KILL_THREAD, ret::TRAP, ret::ERRNO, ret::TRACE, ret::LOG, ret::ALLOW];
        for (n, stricter) in order.into_iter().enumerate() {
            for milder in &order[n..] {
                for (first, second) in [(stricter, *milder), (*milder, stricter)] {
                    let filter = one(1, second, Some(one(1, first, None)));
                    assert_eq!(filter.decide(&data(1, 0, [0; 6])).answer, stricter, "{first:x} {second:x}");
                }
            }
        }
        let filter = one(1, ret::ERRNO | 2, Some(one(1, ret::ERRNO | 1, None)));
        assert_eq!(filter.decide(&data(1, 0, [0; 6])).answer, ret::ERRNO | 2);
    }

    #[test]
    fn all_filters_have_to_allow_a_call_for_it_to_be_always_allowed() {
        let below = one(39, ret::ERRNO | 1, None);
        let filter = one(110, ret::LOG, Some(below.clone()));
        assert!(!below.always_allows(nr::GETPID) && below.always_allows(nr::GETPPID));
        assert!(!filter.always_allows(nr::GETPID) && !filter.always_allows(nr::GETPPID));
        assert!(filter.always_allows(nr::READ));
        assert_eq!(Filter::count(&filter), 2);
    }

    /// As many as a guest can stack.
    #[test]
    fn filters_go_without_a_deep_stack() {
        let run = || {
            let (mut top, mut count) = (None, 0);
            while let Ok(filter) = Filter::new(&[op(0x06, ret::ALLOW)], Logging::Off, top.clone()) {
                (top, count) = (Some(filter), count + 1);
            }
            assert!(count > 6000, "{count}");
        };
        let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(run).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn what_filters_may_not_do_is_refused() {
        let ends = op(0x06, ret::ALLOW);
        for bad in [
            // Bytes, half-words, words that are no word of the structure, indirect loads, remainders, packets.
            op(0x30, 0),
            op(0x28, 0),
            op(0x20, 2),
            op(0x20, 64),
            op(0x40, 0),
            op(0x94, 3),
            op(0xb1, 0),
            op(0x20, 0xffff_f000),
        ] {
            let refused = Filter::new(&[bad, ends], Logging::Off, None);
            assert_eq!(refused.err(), Some(FilterError::Program), "{bad:?}");
        }
        assert!(Filter::new(&[op(0x20, 60), ends], Logging::Off, None).is_ok());
        assert_eq!(Filter::new(&[op(0x20, 0)], Logging::Off, None).err(), Some(FilterError::Program));
    }

    #[test]
    fn instructions_of_all_filters_together_are_limited() {
        let long = vec![op(0x06, ret::ALLOW); 4096];
        let mut top = None;
        for _ in 0..7 {
            top = Some(Filter::new(&long, Logging::Off, top).unwrap());
        }
        // 7 * (4096 + 4) + 4068 is just the limit.
        assert!(Filter::new(&long[..4068], Logging::Off, top.clone()).is_ok());
        assert_eq!(Filter::new(&long[..4069], Logging::Off, top).err(), Some(FilterError::TooLong));
    }

    #[test]
    fn ancestors_are_what_is_below() {
        let below = one(1, ret::LOG, None);
        let (left, right) = (one(2, ret::LOG, Some(below.clone())), one(2, ret::LOG, Some(below.clone())));
        assert!(Filter::is_on_top_of(Some(&left), Some(&below)));
        assert!(Filter::is_on_top_of(Some(&left), Some(&left)));
        assert!(Filter::is_on_top_of(Some(&left), None));
        assert!(!Filter::is_on_top_of(Some(&left), Some(&right)));
        assert!(!Filter::is_on_top_of(None, Some(&below)));
    }
}
