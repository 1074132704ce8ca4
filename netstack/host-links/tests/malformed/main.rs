//! Packets that make no sense, made with scapy: every one is counted with a reason, leaves nothing behind, and is
//! answered as the kernel answers it.
//!
//! The same frames go to a stack in virtual time and, through a tap device, to the kernel in a namespace of the test's
//! own. Both have the same addresses.

mod forge;
mod kernel;
mod reply;
mod rows_v4;
mod rows_v6;
mod subject;

use integration_tests::{Need, require};

use forge::Forge;
use kernel::Kernel;
use subject::Subject;

/// What a packet is, and what becomes of it.
struct Row {
    /// For the failure's message.
    name: &'static str,
    /// The frames, as an expression for `forge.py`.
    frames: &'static str,
    /// The counter that says why it was dropped.
    counter: &'static str,
    /// What is sent back, see [`reply::describe`]; empty if nothing.
    reply: &'static str,
    /// What the kernel does otherwise.
    kernel: Kernels,
}

/// The kernel's answer compared with ours.
enum Kernels {
    /// The same.
    Same,
    /// Another one, for a reason.
    Differs(&'static str, #[expect(dead_code, reason = "for the reader")] &'static str),
    /// The frame cannot be given to it.
    Unasked(#[expect(dead_code, reason = "for the reader")] &'static str),
}

const fn row(name: &'static str, frames: &'static str, counter: &'static str, reply: &'static str) -> Row {
    Row { name, frames, counter, reply, kernel: Kernels::Same }
}

impl Row {
    const fn but_kernel(mut self, reply: &'static str, reason: &'static str) -> Self {
        self.kernel = Kernels::Differs(reply, reason);
        self
    }

    const fn not_for_kernel(mut self, reason: &'static str) -> Self {
        self.kernel = Kernels::Unasked(reason);
        self
    }
}

/// Gives the rows to both, and collects what is not as it should be.
fn check(rows: &[Row]) {
    require!(
        Need::Root,
        Need::Program("ip"),
        Need::File("/dev/net/tun"),
        Need::File("/usr/lib/python3/dist-packages/scapy")
    );
    let mut forge = Forge::start();
    let kernel = Kernel::new();
    let mut wrong = Vec::new();
    for row in rows {
        let frames = forge.frames(row.frames);
        let subject = Subject::new();
        let outcome = subject.take(&frames);
        if !outcome.counters.contains(&row.counter) {
            wrong.push(format!("{}: counted {:?}, not {}", row.name, outcome.counters, row.counter));
        }
        if outcome.reply != row.reply {
            wrong.push(format!("{}: answered {:?}, not {:?}", row.name, outcome.reply, row.reply));
        }
        let left = subject.finish();
        if !left.is_empty() {
            wrong.push(format!("{}: left {left:?}", row.name));
        }
        let expected = match row.kernel {
            Kernels::Same => row.reply,
            Kernels::Differs(reply, _) => reply,
            Kernels::Unasked(_) => continue,
        };
        let reply = kernel.take(&frames);
        if reply != expected {
            wrong.push(format!("{}: the kernel answered {reply:?}, not {expected:?}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn links_and_arp() {
    check(rows_v4::LINK);
}

#[test]
fn ipv4_headers_and_options() {
    check(rows_v4::IP);
}

#[test]
fn ipv4_fragments() {
    check(rows_v4::FRAGMENTS);
}

#[test]
fn transports_over_ipv4() {
    check(rows_v4::TRANSPORTS);
}

#[test]
fn ipv6_headers_and_extensions() {
    check(rows_v6::IP);
}

#[test]
fn ipv6_fragments() {
    check(rows_v6::FRAGMENTS);
}

#[test]
fn neighbour_discovery_and_transports_over_ipv6() {
    check(rows_v6::TRANSPORTS);
}
