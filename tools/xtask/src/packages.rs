//! The Debian packages that the tests use.

use std::process::{Command, Stdio};

use anyhow::bail;

use crate::run::succeed;

/// Packages by what they bring: peers, programs that run inside the sandbox, and tools of the harness.
const PACKAGES: &[&str] = &[
    "acl",
    "bash",
    "bubblewrap",
    "busybox-static",
    "conntrack",
    "coreutils",
    "curl",
    "ethtool",
    "gcc",
    "libc6-dev",
    "git",
    "hping3",
    "iperf3",
    "iproute2",
    "iptables",
    "isc-dhcp-client",
    "iputils-arping",
    "iputils-ping",
    "ndisc6",
    "netcat-openbsd",
    "nftables",
    "nginx-light",
    "nmap",
    "nodejs",
    "perl",
    "podman",
    "procps",
    "python3",
    "python3-scapy",
    "radvd",
    "redis-server",
    "redis-tools",
    "smcroute",
    "socat",
    "sqlite3",
    "strace",
    "tcpdump",
    "traceroute",
    "udhcpc",
    "valgrind",
    "wget",
];

/// Installs the packages that are missing.
///
/// # Errors
/// When `apt-get` is missing, fails or this is not root.
pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES.iter().copied().filter(|p| !is_present(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if Command::new("apt-get").arg("--version").stdout(Stdio::null()).status().is_err() {
        bail!("missing packages {missing:?} and no apt-get: install them with this system's own tool");
    }
    let apt =
        |args: &[&str]| succeed(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], missing.as_slice()].concat())
}

/// True where dpkg has the package, or where the program of that name is there from elsewhere (a newer node, say).
fn is_present(package: &str) -> bool {
    let program = match package {
        "nodejs" => "node",
        "git" | "gcc" | "perl" => package,
        _ => "",
    };
    let on_path = |name: &str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(name).is_file()))
    };
    if !program.is_empty() && on_path(program) {
        return true;
    }
    let query =
        Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).stderr(Stdio::null()).output();
    query.is_ok_and(|out| out.stdout.ends_with(b" installed"))
}
