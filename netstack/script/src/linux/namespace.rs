//! The namespace of a script: a tun device, addresses, routes and sysctls.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use netstack_host_links::{TapLink, TapOptions, VnetHeaders};
use nix::sched::{CloneFlags, unshare};

use crate::backend::{COMMON_SYSCTLS, Setup};
use crate::value::Value;

/// Moves the calling thread into a new network namespace and sets it up.
pub(super) fn enter(setup: &Setup) -> Result<Arc<TapLink>, String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("cannot make a network namespace: {error}"))?;
    for (name, value) in COMMON_SYSCTLS.into_iter().chain(OWN_SYSCTLS) {
        write_sysctl(name, value)?;
    }
    for (name, value) in &setup.sysctls {
        let text = match value {
            Value::Name(text) => text.clone(),
            other => other.to_string(),
        };
        write_sysctl(name, &text)?;
    }
    // Without virtio headers the kernel cuts its segments before they reach the device.
    let options = TapOptions { vnet_headers: VnetHeaders::Absent, ..TapOptions::tun() };
    let link = TapLink::open(DEVICE, options).map_err(|error| error.to_string())?;
    ip(&format!(
        "link set lo up\n\
         link set {DEVICE} addrgenmode none\n\
         link set {DEVICE} mtu {} up\n\
         addr add 192.0.2.1/24 dev {DEVICE}\n\
         route add default dev {DEVICE}\n",
        setup.mtu
    ))?;
    // IPv6 does not work on such a link (RFC 8200 section 5).
    if setup.mtu >= 1280 {
        ip(&format!("addr add 2001:db8::1/64 dev {DEVICE} nodad\nroute add ::/0 dev {DEVICE}\n"))?;
    }
    Ok(link)
}

fn ip(batch: &str) -> Result<(), String> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start ip: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes()).map_err(|error| format!("ip: {error}"))?;
    }
    let output = child.wait_with_output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Names without a point are those of `net.ipv4`; with one, of `net`.
fn write_sysctl(name: &str, value: &str) -> Result<(), String> {
    let path = match name.contains('.') {
        true => format!("/proc/sys/net/{}", name.replace('.', "/")),
        false => format!("/proc/sys/net/ipv4/{name}"),
    };
    std::fs::write(&path, value).map_err(|error| format!("{path}: {error}"))
}

/// Nothing is remembered from one connection to the next, and errors are not rationed.
const OWN_SYSCTLS: [(&str, &str); 2] = [("tcp_no_metrics_save", "1"), ("icmp_ratelimit", "0")];

const DEVICE: &str = "tun0";
