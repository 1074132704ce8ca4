//! The generated files of a task's directory.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::errno::Errno;
use crate::fs::proc::system::{TICK_NS, cpu_count};
use crate::fs::proc::task::Reader;
use crate::kernel::{KTime, PidNamespace};
use crate::mm::{AreaReport, MemoryUsage, PAGE_SIZE, Prot};
use crate::task::trace::{AccessMode, check_access};
use crate::task::{Capabilities, Resource, RunState, Task, Tid, current_task};

type Rendered = Result<Vec<u8>, Errno>;

/// Stores what the guest wrote to the file `name`.
pub(super) fn store(task: &Arc<Task>, name: &str, data: &[u8]) -> Result<(), Errno> {
    let number = || -> Result<i32, Errno> {
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        text.trim_matches(['\n', ' ', '\0']).parse().map_err(|_| Errno::EINVAL)
    };
    match name {
        // Threads of the process itself, and nobody else.
        "comm" if current_task().is_some_and(|writer| writer.pid() != task.pid()) => Err(Errno::EINVAL),
        "comm" => {
            let end = data.iter().position(|b| *b == b'\n' || *b == 0).unwrap_or(data.len());
            task.set_comm(&data[..end]);
            Ok(())
        }
        "oom_score_adj" => {
            let value = number()?;
            if !(-1000..=1000).contains(&value) {
                return Err(Errno::EINVAL);
            }
            set_oom_score_adj(task, value, Legacy::No)
        }
        "oom_adj" => {
            let value = number()?;
            if !(-17..=15).contains(&value) {
                return Err(Errno::EINVAL);
            }
            set_oom_score_adj(task, if value == 15 { 1000 } else { value * 1000 / 17 }, Legacy::Yes)
        }
        "loginuid" | "timerslack_ns" => Ok(()),
        _ => Err(Errno::EACCES),
    }
}

/// Whether a value came through `oom_adj`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Legacy {
    No,
    Yes,
}

/// Sets the value of a process: below what a privileged writer has set last only by another, and the old file lets
/// others raise it only (`__set_oom_adj`).
fn set_oom_score_adj(task: &Task, value: i32, legacy: Legacy) -> Result<(), Errno> {
    let group = task.thread_group();
    let least = if legacy == Legacy::Yes { group.oom_score_adj() } else { group.oom_score_adj_min() };
    let is_privileged = current_task().is_none_or(|writer| writer.creds().has(Capabilities::SYS_RESOURCE));
    if value < least && !is_privileged {
        return Err(Errno::EACCES);
    }
    let sets_least = legacy == Legacy::No && is_privileged;
    group.set_oom_score_adj(value, if sets_least { value } else { group.oom_score_adj_min() });
    Ok(())
}

pub(super) fn auxv(task: &Arc<Task>) -> Rendered {
    Ok(task.mm().map_or_else(Vec::new, |mm| mm.auxv()))
}

pub(super) fn cgroup(_: &Arc<Task>) -> Rendered {
    Ok(b"0::/\n".to_vec())
}

/// Stands for those files that show ids, which depend on the reader.
pub(super) fn of_reader(_: &Arc<Task>) -> Rendered {
    Ok(Vec::new())
}

pub(super) fn children(task: &Arc<Task>, reader: &Reader) -> Rendered {
    let tree = task.kernel().tree();
    let show = |child: &Tid| format!("{} ", reader.pid_ns.number(*child));
    let ids = tree.process(task.pid()).map(|p| p.children.iter().map(show).collect::<String>());
    Ok(ids.unwrap_or_default().into_bytes())
}

pub(super) fn cmdline(task: &Arc<Task>) -> Rendered {
    Ok(task.mm().map_or_else(Vec::new, |mm| mm.command_line()))
}

pub(super) fn comm(task: &Arc<Task>) -> Rendered {
    let mut name = task.comm();
    name.push(b'\n');
    Ok(name)
}

pub(super) fn environ(task: &Arc<Task>) -> Rendered {
    Ok(task.mm().map_or_else(Vec::new, |mm| mm.environment()))
}

pub(super) fn io(_: &Arc<Task>) -> Rendered {
    Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"
        .to_vec())
}

pub(super) fn loginuid(_: &Arc<Task>) -> Rendered {
    Ok(b"4294967295".to_vec())
}

pub(super) fn oom_score(_: &Arc<Task>) -> Rendered {
    Ok(b"0\n".to_vec())
}

pub(super) fn oom_adj(task: &Arc<Task>) -> Rendered {
    Ok(format!("{}\n", task.thread_group().oom_score_adj() * 17 / 1000).into_bytes())
}

pub(super) fn oom_score_adj(task: &Arc<Task>) -> Rendered {
    Ok(format!("{}\n", task.thread_group().oom_score_adj()).into_bytes())
}

pub(super) fn personality(task: &Arc<Task>) -> Rendered {
    Ok(format!("{:08x}\n", task.personality()).into_bytes())
}

pub(super) fn schedstat(task: &Arc<Task>) -> Rendered {
    let (user, system) = task.cpu_times();
    Ok(format!("{} 0 0\n", user + system).into_bytes())
}

/// `proc_pid_syscall(5)`: known of threads that are stopped for a tracer.
pub(super) fn syscall(task: &Arc<Task>) -> Rendered {
    let state = task.trace().lock();
    let Some(stop) = &state.stop else { return Ok(b"running\n".to_vec()) };
    let regs = &stop.regs;
    let place = format!("{:#x} {:#x}\n", regs.rsp, regs.rip);
    // The kernel keeps the number as an int.
    if regs.orig_rax.cast_signed() < 0 {
        return Ok(format!("-1 {place}").into_bytes());
    }
    let args = regs.syscall_args().map(|arg| format!("{arg:#x} ")).concat();
    Ok(format!("{} {args}{place}", regs.orig_rax).into_bytes())
}

pub(super) fn timerslack(_: &Arc<Task>) -> Rendered {
    Ok(b"50000\n".to_vec())
}

pub(super) fn wchan(_: &Arc<Task>) -> Rendered {
    Ok(b"0".to_vec())
}

/// Title and unit of each limit, in the order of their numbers (`proc_pid_limits(5)`).
const LIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

pub(super) fn limits(task: &Arc<Task>) -> Rendered {
    let show = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    let mut out = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (resource, (title, unit)) in Resource::ALL.into_iter().zip(LIMITS) {
        let limit = task.rlimit(resource);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{title:<25} {:<20} {:<20} {unit:<10}", show(limit.soft), show(limit.hard));
    }
    Ok(out.into_bytes())
}

/// The line of `maps` for an area.
fn area_line(task: &Task, area: &AreaReport) -> String {
    let bit = |flag, letter| if area.prot.contains(flag) { letter } else { '-' };
    let (device, ino, name) = match &area.file {
        Some(file) => {
            let stat = file.stat().ok();
            let device = crate::vfs::DeviceId::decode(stat.map_or(0, |s| s.dev));
            let text = file.path().text(&task.fs().root()).for_proc();
            let name = String::from_utf8_lossy(&text).replace('\n', "\\012");
            (device, stat.map_or(0, |s| s.ino), name)
        }
        None => (crate::vfs::DeviceId::default(), 0, area.name.to_string()),
    };
    let line = format!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {ino}",
        area.range.start,
        area.range.end,
        bit(Prot::READ, 'r'),
        bit(Prot::WRITE, 'w'),
        bit(Prot::EXEC, 'x'),
        if area.is_shared { 's' } else { 'p' },
        area.offset,
        device.major,
        device.minor,
    );
    // Names begin in column 74 (the kernel pads to 25 + sizeof(void *) * 6).
    if name.is_empty() { format!("{line} \n") } else { format!("{line:<73}{name}\n") }
}

pub(super) fn maps(task: &Arc<Task>) -> Rendered {
    let Some(mm) = task.mm() else { return Ok(Vec::new()) };
    let lines: String = mm.areas().iter().map(|area| area_line(task, area)).collect();
    Ok(lines.into_bytes())
}

/// The sizes that `smaps` shows of an area, in kilobytes.
fn smaps_sizes(resident: u64, anonymous: u64, locked: u64) -> String {
    let (rss, anon, file, locked) =
        (resident / 1024, anonymous / 1024, (resident - anonymous) / 1024, locked / 1024);
    let lines = [
        ("Rss", rss),
        ("Pss", rss),
        ("Shared_Clean", file),
        ("Shared_Dirty", 0),
        ("Private_Clean", 0),
        ("Private_Dirty", anon),
        ("Referenced", rss),
        ("Anonymous", anon),
        ("Swap", 0),
        ("Locked", locked),
    ];
    lines.iter().map(|(name, kib)| format!("{:<16}{kib:>8} kB\n", format!("{name}:"))).collect()
}

pub(super) fn smaps(task: &Arc<Task>) -> Rendered {
    let Some(mm) = task.mm() else { return Ok(Vec::new()) };
    let mut out = String::new();
    for area in mm.areas() {
        out.push_str(&area_line(task, &area));
        let size = (area.range.end - area.range.start) / 1024;
        let _ = write!(
            out,
            "Size:           {size:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
        );
        out.push_str(&smaps_sizes(area.resident, area.anonymous, area.locked));
        out.push_str("VmFlags: rd wr mr mw me ac\n");
    }
    Ok(out.into_bytes())
}

pub(super) fn smaps_rollup(task: &Arc<Task>) -> Rendered {
    let Some(mm) = task.mm() else { return Ok(Vec::new()) };
    let areas = mm.areas();
    let sum = |f: fn(&AreaReport) -> u64| areas.iter().map(f).sum::<u64>();
    let (first, last) = (areas.first(), areas.last());
    let mut out = format!(
        "{:08x}-{:08x} ---p 00000000 00:00 0                          [rollup]\n",
        first.map_or(0, |a| a.range.start),
        last.map_or(0, |a| a.range.end)
    );
    out.push_str(&smaps_sizes(sum(|a| a.resident), sum(|a| a.anonymous), sum(|a| a.locked)));
    Ok(out.into_bytes())
}

fn usage(task: &Task) -> MemoryUsage {
    task.mm().map_or_else(MemoryUsage::default, |mm| mm.usage())
}

pub(super) fn statm(task: &Arc<Task>) -> Rendered {
    let u = usage(task);
    let pages = |bytes: u64| bytes / PAGE_SIZE;
    let (size, resident, shared) = (pages(u.size), pages(u.resident), pages(u.shared));
    let (code, data) = (pages(u.code), pages(u.data + u.stack));
    Ok(format!("{size} {resident} {shared} {code} 0 {data} 0\n").into_bytes())
}

/// What the process tree knows of a process.
struct Relations {
    parent: i32,
    group: i32,
    session: i32,
}

fn relations(task: &Task, pid_ns: &PidNamespace) -> Relations {
    let number = |id: Tid| pid_ns.number(id);
    let tree = task.kernel().tree();
    match tree.process(task.pid()) {
        Some(p) => Relations {
            parent: p.parent.map_or(0, number),
            group: number(p.pgid),
            session: number(p.session.id()),
        },
        None => Relations { parent: 0, group: 0, session: 0 },
    }
}

/// The state letter; a process that ended and was not waited for is a zombie.
fn state(task: &Task) -> char {
    if task.thread_group().has_ended() { RunState::Zombie.letter() } else { task.run_state().letter() }
}

fn ticks(ns: u64) -> u64 {
    ns / TICK_NS
}

/// `proc_pid_stat(5)`.
pub(super) fn stat(task: &Arc<Task>, reader: &Reader) -> Rendered {
    let group = task.thread_group();
    let r = relations(task, &reader.pid_ns);
    let (user, system) = if task.tid() == task.pid() { group.cpu_times() } else { task.cpu_times() };
    let (child_user, child_system) = group.children_cpu_times();
    let scheduling = task.scheduling();
    let threads = group.threads().len().max(1);
    // Times since boot, like the start time of the kernel's own processes.
    let clocks = task.kernel().clocks();
    let offset = clocks.boottime().0.saturating_sub(clocks.monotonic().0);
    let start = ticks(KTime(task.start_time().0.saturating_add(offset)).0);
    let u = usage(task);
    let (mut code, mut stack) = task.mm().map_or((0..0, 0), |mm| mm.code_and_stack());
    // Where a program of others is, is theirs (proc_pid_stat(5)).
    let may_inspect = |who: Arc<Task>| check_access(&who, &who.creds(), task, AccessMode::FsCreds).is_ok();
    if !current_task().is_some_and(may_inspect) {
        (code, stack) = (1..1, 0);
    }
    let (tty, foreground) = terminal(task);
    let (pending, blocked) = (task.pending_signals().0, task.signal_mask().0);
    let (ignored, caught) = handled(task);
    let comm = String::from_utf8_lossy(&task.comm()).into_owned();
    let priority = 20 + scheduling.nice;
    Ok(format!(
        "{} ({comm}) {} {} {} {} {tty} {foreground} 4194304 0 0 0 0 {} {} {} {} {priority} {} {threads} 0 {start} {} {} \
         18446744073709551615 {} {} {stack} 0 0 {pending} {blocked} {ignored} {caught} 0 0 0 17 0 {} {} 0 0 0 0 0 0 0 \
         0 0 0 0\n",
        reader.pid_ns.number(task.tid()),
        state(task),
        r.parent,
        r.group,
        r.session,
        ticks(user),
        ticks(system),
        ticks(child_user),
        ticks(child_system),
        scheduling.nice,
        u.size,
        u.resident / PAGE_SIZE,
        code.start,
        code.end,
        scheduling.priority,
        scheduling.policy,
    )
    .into_bytes())
}

/// Device number of the controlling terminal and its foreground group, or 0 and -1.
fn terminal(task: &Task) -> (u64, i32) {
    let session = task.kernel().tree().process(task.pid()).map(|p| p.session.clone());
    session.and_then(|s| s.terminal()).map_or((0, -1), |t| crate::fs::dev::terminal_numbers(&t))
}

/// The sets of ignored and of handled signals.
fn handled(task: &Task) -> (u64, u64) {
    use sentry_abi::signal::{SIG_DFL, SIG_IGN, Signal};
    let handlers = task.thread_group().handlers();
    let (mut ignored, mut caught) = (0, 0);
    for number in 1..=64 {
        let Some(signal) = Signal::new(number) else { continue };
        let bit = 1_u64 << (number - 1);
        match handlers.get(signal).handler {
            SIG_IGN => ignored |= bit,
            SIG_DFL => {}
            _ => caught |= bit,
        }
    }
    (ignored, caught)
}

/// `proc_pid_status(5)`.
pub(super) fn status(task: &Arc<Task>, reader: &Reader) -> Rendered {
    let Reader { user_ns, pid_ns } = reader;
    let group = task.thread_group();
    let r = relations(task, pid_ns);
    let creds = task.creds();
    let letter = state(task);
    let word = match letter {
        'R' => "running",
        'S' => "sleeping",
        'T' => "stopped",
        't' => "tracing stop",
        _ => "zombie",
    };
    let groups: String = creds.groups.iter().map(|g| format!("{} ", user_ns.show_gid(*g))).collect();
    let (tid, pid) = (pid_ns.number(task.tid()), pid_ns.number(task.pid()));
    let numbers = |id: Tid| {
        let all = pid_ns.numbers_down_to(task.pid_ns(), id);
        all.iter().map(i32::to_string).collect::<Vec<_>>().join("\t")
    };
    let ids = task.kernel().tree().process(task.pid()).map(|p| (p.pgid, p.session.id()));
    let (ns_group, ns_session) =
        ids.map_or_else(Default::default, |(group, session)| (numbers(group), numbers(session)));
    let (ns_pid, ns_tid) = (numbers(task.pid()), numbers(task.tid()));
    let fd_size = task.files().open_fds().last().map_or(0, |fd| fd.0 + 1).max(64).cast_unsigned();
    let mut out = format!(
        "Name:\t{}\nUmask:\t{:04o}\nState:\t{letter} ({word})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{}\n\
         TracerPid:\t{}\nUid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t{}\nGroups:\t{groups}\nNStgid:\t{ns_pid}\n\
         NSpid:\t{ns_tid}\nNSpgid:\t{ns_group}\nNSsid:\t{ns_session}\n",
        String::from_utf8_lossy(&task.comm()),
        task.fs().umask(),
        r.parent,
        pid_ns.number(task.tracer_tid()),
        user_ns.show_uid(creds.uid),
        user_ns.show_uid(creds.euid),
        user_ns.show_uid(creds.suid),
        user_ns.show_uid(creds.fsuid),
        user_ns.show_gid(creds.gid),
        user_ns.show_gid(creds.egid),
        user_ns.show_gid(creds.sgid),
        user_ns.show_gid(creds.fsgid),
        fd_size.next_power_of_two(),
    );
    if task.mm().is_some() {
        let u = usage(task);
        for (name, bytes) in [
            ("VmPeak", u.size),
            ("VmSize", u.size),
            ("VmLck", u.locked),
            ("VmPin", 0),
            ("VmHWM", u.resident),
            ("VmRSS", u.resident),
            ("RssAnon", u.resident - u.shared),
            ("RssFile", u.shared),
            ("RssShmem", 0),
            ("VmData", u.data),
            ("VmStk", u.stack),
            ("VmExe", u.code),
            ("VmLib", 0),
            ("VmPTE", 0),
            ("VmSwap", 0),
        ] {
            let _ = writeln!(out, "{name}:\t{:>8} kB", bytes / 1024);
        }
    }
    let (ignored, caught) = handled(task);
    let cpus = cpu_count();
    let mask = if cpus >= 32 { u32::MAX } else { (1 << cpus) - 1 };
    let _ = write!(
        out,
        "Threads:\t{}\nSigQ:\t0/31000\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{ignored:016x}\n\
         SigCgt:\t{caught:016x}\nCapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\n\
         CapAmb:\t{:016x}\nNoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}\nCpus_allowed:\t{mask:x}\n\
         Cpus_allowed_list:\t0-{}\nMems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\n\
         nonvoluntary_ctxt_switches:\t0\n",
        group.threads().len().max(1),
        task.pending_signals().0,
        0,
        task.signal_mask().0,
        creds.inheritable.bits(),
        creds.permitted.bits(),
        creds.effective.bits(),
        creds.bounding.bits(),
        creds.ambient.bits(),
        u8::from(creds.no_new_privs),
        task.seccomp().mode(),
        task.seccomp().filter_count(),
        cpus - 1,
    );
    Ok(out.into_bytes())
}
