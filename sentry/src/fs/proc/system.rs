//! The files of `/proc` about the machine as a whole.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::fs::registry;
use crate::kernel::Kernel;

/// Makes the contents of a file.
pub(super) type Render = fn(&Arc<Kernel>) -> Vec<u8>;

/// Name and contents of each.
pub(super) const FILES: &[(&str, Render)] = &[
    ("cgroups", |_| b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_vec()),
    ("cmdline", |_| b"BOOT_IMAGE=/vmlinuz quiet\n".to_vec()),
    ("cpuinfo", |_| cpuinfo()),
    ("devices", |_| DEVICES.as_bytes().to_vec()),
    ("filesystems", |_| filesystems()),
    ("loadavg", loadavg),
    ("meminfo", meminfo),
    ("modules", |_| Vec::new()),
    ("partitions", |_| b"major minor  #blocks  name\n\n".to_vec()),
    ("stat", stat),
    ("swaps", |_| b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()),
    ("uptime", uptime),
    ("version", |_| version()),
    ("vmstat", |_| Vec::new()),
];

const DEVICES: &str = "Character devices:\n  1 mem\n  4 /dev/vc/0\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n \
                       10 misc\n136 pts\n\nBlock devices:\n";

/// How many CPUs the guest sees.
pub(crate) fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Identification of the CPU by the instruction itself, as a process in an empty root cannot read the host's file.
fn cpuinfo() -> Vec<u8> {
    let count = cpu_count();
    let id = CpuId::read();
    let mut out = String::new();
    for cpu in 0..count {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "processor\t: {cpu}\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\nstepping\t: {}\n\
             cpu MHz\t\t: 2000.000\ncache size\t: 8192 KB\nphysical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {cpu}\n\
             cpu cores\t: {count}\napicid\t\t: {cpu}\nfpu\t\t: yes\nfpu_exception\t: yes\nwp\t\t: yes\nflags\t\t: {}\n\
             bogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: 46 bits physical, 48 bits virtual\n",
            id.vendor, id.family, id.model, id.name, id.stepping, id.flags,
        );
    }
    out.into_bytes()
}

struct CpuId {
    vendor: String,
    family: u32,
    model: u32,
    stepping: u32,
    name: String,
    flags: String,
}

impl CpuId {
    fn read() -> Self {
        use std::arch::x86_64::__cpuid_count;
        let leaf = |n| __cpuid_count(n, 0);
        let text = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ']).to_owned()
        };
        let zero = leaf(0);
        let one = leaf(1);
        let base_family = (one.eax >> 8) & 0xf;
        let family = if base_family == 0xf { base_family + ((one.eax >> 20) & 0xff) } else { base_family };
        let model = ((one.eax >> 4) & 0xf) | ((one.eax >> 12) & 0xf0);
        let brand: Vec<u32> = (0x8000_0002..=0x8000_0004)
            .flat_map(|n| {
                let l = leaf(n);
                [l.eax, l.ebx, l.ecx, l.edx]
            })
            .collect();
        let seven = leaf(7);
        let extended = leaf(0x8000_0001);
        let mut flags = Vec::new();
        for (names, word) in [
            (FLAGS_1_EDX, one.edx),
            (FLAGS_EXT_EDX, extended.edx),
            (FLAGS_1_ECX, one.ecx),
            (FLAGS_EXT_ECX, extended.ecx),
            (FLAGS_7_EBX, seven.ebx),
        ] {
            flags.extend(names.iter().filter(|(bit, _)| word & (1 << bit) != 0).map(|(_, name)| *name));
        }
        Self {
            vendor: text(&[zero.ebx, zero.edx, zero.ecx]),
            family,
            model,
            stepping: one.eax & 0xf,
            name: text(&brand),
            flags: flags.join(" "),
        }
    }
}

/// Bit and name of the features that programs look for (Linux's names, in its order).
const FLAGS_1_EDX: &[(u32, &str)] = &[
    (0, "fpu"),
    (4, "tsc"),
    (5, "msr"),
    (6, "pae"),
    (8, "cx8"),
    (9, "apic"),
    (11, "sep"),
    (15, "cmov"),
    (16, "pat"),
    (19, "clflush"),
    (23, "mmx"),
    (24, "fxsr"),
    (25, "sse"),
    (26, "sse2"),
    (28, "ht"),
];
const FLAGS_EXT_EDX: &[(u32, &str)] =
    &[(11, "syscall"), (20, "nx"), (26, "pdpe1gb"), (27, "rdtscp"), (29, "lm")];
const FLAGS_1_ECX: &[(u32, &str)] = &[
    (0, "pni"),
    (1, "pclmulqdq"),
    (9, "ssse3"),
    (12, "fma"),
    (13, "cx16"),
    (19, "sse4_1"),
    (20, "sse4_2"),
    (22, "movbe"),
    (23, "popcnt"),
    (25, "aes"),
    (26, "xsave"),
    (28, "avx"),
    (29, "f16c"),
    (30, "rdrand"),
    (31, "hypervisor"),
];
const FLAGS_EXT_ECX: &[(u32, &str)] = &[(0, "lahf_lm"), (5, "abm"), (8, "3dnowprefetch")];
const FLAGS_7_EBX: &[(u32, &str)] = &[
    (0, "fsgsbase"),
    (3, "bmi1"),
    (5, "avx2"),
    (7, "smep"),
    (8, "bmi2"),
    (9, "erms"),
    (16, "avx512f"),
    (17, "avx512dq"),
    (18, "rdseed"),
    (19, "adx"),
    (20, "smap"),
    (23, "clflushopt"),
    (24, "clwb"),
    (28, "avx512cd"),
    (29, "sha_ni"),
    (30, "avx512bw"),
    (31, "avx512vl"),
];

fn filesystems() -> Vec<u8> {
    let mut out = String::new();
    for kind in registry::TYPES {
        let _ = writeln!(out, "nodev\t{kind}");
    }
    out.into_bytes()
}

fn loadavg(kernel: &Arc<Kernel>) -> Vec<u8> {
    let tree = kernel.tree();
    let (threads, last) = (tree.thread_count(), tree.processes().last().map_or(1, |p| p.group.pid().0));
    format!("0.00 0.00 0.00 1/{threads} {last}\n").into_bytes()
}

fn meminfo(kernel: &Arc<Kernel>) -> Vec<u8> {
    let memory = kernel.memory_file();
    let (total, used) = (memory.limit() / 1024, memory.in_use() / 1024);
    let free = total.saturating_sub(used);
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("Active(anon)", used),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used),
        ("Mapped", used),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("CommitLimit", total),
        ("Committed_AS", used),
    ];
    let mut out = String::new();
    for (name, kib) in lines {
        let _ = writeln!(out, "{:<15} {kib:>8} kB", format!("{name}:"));
    }
    out.into_bytes()
}

/// CPU time of all processes in clock ticks: user and system.
fn total_ticks(kernel: &Kernel) -> (u64, u64) {
    let groups: Vec<_> = kernel.tree().processes().map(|p| p.group.clone()).collect();
    let total = groups.iter().fold((0, 0), |(user, system), group| {
        let (u, s) = group.cpu_times();
        (user + u, system + s)
    });
    (total.0 / TICK_NS, total.1 / TICK_NS)
}

/// A clock tick of `USER_HZ` 100.
pub(super) const TICK_NS: u64 = 10_000_000;

fn stat(kernel: &Arc<Kernel>) -> Vec<u8> {
    let (user, system) = total_ticks(kernel);
    let up = kernel.clocks().boottime().0 / TICK_NS;
    let cpus = cpu_count() as u64;
    let idle = (up * cpus).saturating_sub(user + system);
    let mut out = format!("cpu  {user} 0 {system} {idle} 0 0 0 0 0 0\n");
    for cpu in 0..cpus {
        let (user, system, idle) = (user / cpus, system / cpus, idle / cpus);
        let _ = writeln!(out, "cpu{cpu} {user} 0 {system} {idle} 0 0 0 0 0 0");
    }
    let boot = (kernel.clocks().realtime_ns().saturating_sub(kernel.clocks().boottime().0)) / 1_000_000_000;
    let tree = kernel.tree();
    let last = tree.processes().last().map_or(1, |p| p.group.pid().0);
    let running = tree.thread_count();
    let _ = write!(
        out,
        "intr 0\nctxt 0\nbtime {boot}\nprocesses {last}\nprocs_running {running}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 \
         0 0 0 0 0 0\n"
    );
    out.into_bytes()
}

fn uptime(kernel: &Arc<Kernel>) -> Vec<u8> {
    let ns = kernel.clocks().boottime().0;
    let (sec, hundredths) = (ns / 1_000_000_000, ns / 10_000_000 % 100);
    format!("{sec}.{hundredths:02} {sec}.{hundredths:02}\n").into_bytes()
}

fn version() -> Vec<u8> {
    use crate::kernel::{RELEASE, VERSION};
    format!("Linux version {RELEASE} (root@sandbox) (gcc) {VERSION}\n").into_bytes()
}
