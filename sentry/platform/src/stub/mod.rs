//! Stub processes: the host processes whose memory is guest memory.
//!
//! A stub is forked from a small template that was forked from the sentry before it had threads. High in its address
//! space, out of the guest's range, it has the stub text and a control slot; everything else belongs to the guest.
//! One trusted thread per stub, the system call thread, performs host calls for the sentry: it runs only stub text,
//! has no stack, keeps its state in registers and takes its commands from a page that the stub can only read.
//!
//! Stubs share the sentry's descriptor table (`CLONE_FILES`), so that a donated host file can be mapped into a guest
//! without passing a descriptor first. That gives a guest nothing: it cannot make host system calls, and what the
//! system call thread executes cannot be written from inside the stub.

mod layout;
mod process;
mod syscall_thread;
mod template;
mod text;

pub(crate) use layout::GUEST_START;
pub(crate) use process::StubProcess;
pub(crate) use syscall_thread::Command;
pub(crate) use template::Template;
