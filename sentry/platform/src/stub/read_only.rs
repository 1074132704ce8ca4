//! The constants of the stub text, in the page behind it.

use libc::sock_filter;

use crate::stub::layout::Layout;

/// `u32`: number of the control file's descriptor.
pub(crate) const CONTROL_FD: u64 = 0;
/// `u32`: the sentry's process id.
pub(crate) const SENTRY_PID: u64 = 4;
/// `u32`: zero for ever; parked threads sleep on it.
pub(crate) const ZERO: u64 = 8;
/// `struct sock_fprog` of the guest threads' seccomp program.
pub(crate) const FILTER: u64 = 16;
/// `u32` 0, 1, 2...: what the system call thread can say.
pub(crate) const NUMBERS: u64 = 64;
/// The instructions of the program.
const PROGRAM: u64 = 512;

/// The page.
pub(crate) fn page(layout: Layout, control_fd: i32, program: &[sock_filter]) -> Vec<u8> {
    let mut page = vec![0; 4096];
    let mut put = |at: u64, bytes: &[u8]| {
        let at = crate::host::address(at);
        page[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(CONTROL_FD, &control_fd.to_ne_bytes());
    put(SENTRY_PID, &std::process::id().to_ne_bytes());
    put(FILTER, &u16::try_from(program.len()).unwrap_or(0).to_ne_bytes());
    put(FILTER + 8, &(layout.read_only() + PROGRAM).to_ne_bytes());
    for n in 0..64_u32 {
        put(NUMBERS + 4 * u64::from(n), &n.to_ne_bytes());
    }
    for (n, instruction) in program.iter().enumerate() {
        let at = PROGRAM + 8 * crate::host::word(n);
        put(at, &instruction.code.to_ne_bytes());
        put(at + 2, &[instruction.jt, instruction.jf]);
        put(at + 4, &instruction.k.to_ne_bytes());
    }
    page
}
