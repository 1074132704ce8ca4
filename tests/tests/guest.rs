//! Guest programs: each `guest/*.c` checks itself, and behaves the same natively and in the sandbox.
//!
//! A program says what it checked on standard output and ends with 0. It runs natively first: Linux is the oracle.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration_tests::{Need, Running, Sandbox, require};

const LIMIT: Duration = Duration::from_secs(60);

/// Compiles `guest/NAME.c` into `folder`.
fn compile(name: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("guest/{name}.c"));
    let program = folder.join(name);
    let warnings = ["-Wall", "-Wextra", "-Werror"];
    let done = Command::new("cc")
        .args(["-O1", "-g", "-pthread"])
        .args(warnings)
        .arg("-o")
        .args([&program, &source])
        .output();
    let done = done.expect("cc starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    program
}

#[track_caller]
fn same_natively_and_in_the_sandbox(name: &str, platform: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile(name, folder.path());
    let native = Running::start(&mut Command::new(&program)).finish(LIMIT);
    assert_eq!(native.status, 0, "natively: {}{}", native.out(), native.err());
    let sandbox = Sandbox::new().flag(&format!("--platform={platform}"));
    let sandboxed = sandbox.run(program.to_str().expect("a UTF-8 path"), &[]);
    if sandboxed.out() != native.out() {
        panic!(
            "standard output; errors: {}\n{}",
            sandboxed.err(),
            differences(&native.out(), &sandboxed.out())
        );
    }
    assert_eq!(sandboxed.status, native.status);
}

/// The first words in which two outputs differ, with the line's beginning.
fn differences(native: &str, sandboxed: &str) -> String {
    let lines: Vec<_> = native.lines().zip(sandboxed.lines()).filter(|(a, b)| a != b).take(20).collect();
    let mut text =
        format!("{} lines natively, {} in the sandbox\n", native.lines().count(), sandboxed.lines().count());
    for (native, sandboxed) in lines {
        let words = native.split(' ').zip(sandboxed.split(' ')).filter(|(a, b)| a != b).take(8);
        let words: Vec<_> = words.map(|(native, sandboxed)| format!("{native} is {sandboxed}")).collect();
        let start: String = native.chars().take(40).collect();
        text += &format!("{start}...: {}\n", words.join(", "));
    }
    text
}

/// Each program on each platform.
macro_rules! guests {
    ($($name:ident)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn systrap() {
                require!(Need::Root, Need::Program("cc"));
                same_natively_and_in_the_sandbox(stringify!($name), "systrap");
            }

            #[test]
            fn ptrace() {
                require!(Need::Root, Need::Program("cc"));
                same_natively_and_in_the_sandbox(stringify!($name), "ptrace");
            }
        })*

        /// A program without a row would never run.
        #[test]
        fn every_guest_has_a_row() {
            let rows = [$(stringify!($name)),*];
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest");
            for entry in std::fs::read_dir(folder).expect("the folder of the guests") {
                let path = entry.expect("an entry").path();
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                if path.extension().is_some_and(|e| e == "c") {
                    assert!(rows.contains(&name.as_str()), "{name}.c has no row");
                }
            }
        }
    };
}

guests! {
    chosen_ids
    cpu_clocks
    cpu_time
    crashes
    direct_io
    directory_signals
    epoll
    exec_environment
    extension_headers
    fast_open
    file_capabilities
    file_rules
    files
    flow_label
    foreign_sources
    fork_and_wait
    futexes
    ip_options
    job_control
    linux_aio
    local_options
    lost_datagrams
    mappings
    many_messages
    min_ttl
    mount_propagation
    multicast_netlink
    multicast_routing
    namespaces
    network_namespaces
    no_free_port
    other_processes
    packet_receive_ring
    packet_tags
    packet_transmit
    packet_vnet_header
    parent_death
    peek_offset
    pid_namespaces
    pipes
    ports_of_connections
    posix_queues
    record_locks
    seccomp
    seccomp_listener
    sender_process
    signal_driven_io
    signals
    socket_filter
    socket_inet
    socket_interfaces
    socket_limits
    socket_multicast
    socket_option_table
    socket_tcp_options
    socket_unix
    stream_headers
    stream_stamps
    sysv_ipc
    tcp_repair
    terminal_modes
    threads
    timers
    timestamping
    tracing
    tunnel_devices
    udp_cork
    user_namespaces
    vdso
    vector_state
    waits_in_turn
}
