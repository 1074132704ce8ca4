//! Opening a tap device in another network namespace: a process of its own enters it, because a process cannot leave a
//! user namespace again, and passes the descriptor back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use netstack_host_links::{HostLink, TapLink, TapOptions, receive_descriptor, send_descriptor};
use netstack_usernet::Config;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::cli::Cli;

/// Starts this program again to open the device, and receives the descriptor.
pub(crate) fn open_tap() -> Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .context("socketpair")?;
    let program = std::env::current_exe().context("the program's own file")?;
    let status = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--opener")
        .stdin(Stdio::from(theirs))
        .status()
        .context("start the opener")?;
    if !status.success() {
        bail!("the device could not be opened");
    }
    receive_descriptor(ours.as_fd()).context("receive the device")
}

/// Opens the device and passes it to standard input.
pub(crate) fn serve(cli: &Cli) -> Result<()> {
    let Some(name) = &cli.tap else { bail!("no device is named") };
    enter(cli)?;
    let config = cli.config();
    let link = TapLink::open(name, TapOptions::tap(config.mac))?;
    ip(&["link", "set", name, "mtu", &config.mtu.to_string()])?;
    if cli.configure {
        configure(name, &config)?;
    }
    send_descriptor(io::stdin().as_fd(), link.fd()).context("pass the device on")
}

fn enter(cli: &Cli) -> Result<()> {
    if let Some(path) = &cli.netns {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| path.display().to_string())?;
    }
    if let Some(pid) = cli.pid {
        let open = |kind: &str| {
            let path = format!("/proc/{pid}/ns/{kind}");
            File::open(&path).context(path)
        };
        let (user, net) = (open("user")?, open("net")?);
        let own = File::open("/proc/self/ns/user").context("own user namespace")?;
        // Entering the own user namespace is an error (setns(2), EINVAL).
        if own.metadata()?.ino() != user.metadata()?.ino() {
            setns(user, CloneFlags::CLONE_NEWUSER).context("enter the user namespace")?;
        }
        setns(net, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
    }
    Ok(())
}

/// What a DHCP client and the kernel's address autoconfiguration would do.
fn configure(name: &str, config: &Config) -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "set", name, "up"])?;
    if let Some(net) = config.v4 {
        ip(&["addr", "add", &format!("{}/{}", net.guest, net.prefix_len), "dev", name])?;
        ip(&["route", "add", "default", "via", &net.gateway.to_string(), "dev", name])?;
    }
    if let Some(net) = config.v6 {
        ip(&["addr", "add", &format!("{}/64", net.guest), "dev", name, "nodad"])?;
        ip(&["-6", "route", "add", "default", "via", &net.gateway.to_string(), "dev", name])?;
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(args).status().context("start ip")?;
    if !status.success() {
        bail!("ip {} failed", args.join(" "));
    }
    Ok(())
}
