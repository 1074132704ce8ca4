//! What guests configure themselves with: udhcpc, dhclient and rdisc6 against the gateway.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use integration_tests::{Finished, Need, Netns, Running, require, wait_until};

/// A gateway and a guest that has a device and nothing else.
struct World {
    _gateway: Running,
    guest: Netns,
    host: Netns,
    folder: tempfile::TempDir,
}

impl World {
    #[track_caller]
    fn new() -> Self {
        let (host, guest) = (Netns::new(), Netns::new());
        host.ip(&["link", "add", "away", "type", "veth", "peer", "name", "far"]);
        host.ip(&["addr", "add", "192.0.2.1/24", "dev", "away"]);
        host.ip(&["link", "set", "away", "up"]);
        host.ip(&["link", "set", "far", "up"]);
        let mut command = host.command(env!("CARGO_BIN_EXE_usernet"));
        command.args(["--netns", &guest.path(), "--tap", "tap0", "--mtu", "9000"]);
        let gateway = Running::start(&mut command);
        let world = Self { _gateway: gateway, guest, host, folder: tempfile::tempdir().expect("a folder") };
        wait_until("the guest's device", LIMIT, || world.run(&["ip", "link", "show", "tap0"]).status == 0);
        world.guest.ip(&["link", "set", "tap0", "up"]);
        world
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> Finished {
        Running::start(self.guest.command(words[0]).args(&words[1..])).finish(LIMIT)
    }

    /// A program for a DHCP client to call, which applies what it learns and says so.
    fn script(&self, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join("script");
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("permissions");
        path
    }

    /// The guest reaches the host with what it has configured.
    #[track_caller]
    fn assert_connected(&self) {
        let listener = self.host.inside(|| TcpListener::bind("192.0.2.1:0")).expect("listen");
        let to: SocketAddr = listener.local_addr().expect("an address");
        self.guest.inside(|| TcpStream::connect_timeout(&to, LIMIT)).expect("connect");
    }
}

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn udhcpc_gets_a_lease() {
    require!(Need::Root, Need::Program("ip"), Need::Program("udhcpc"), Need::File("/dev/net/tun"));
    let world = World::new();
    let script = world.script(
        "#!/bin/sh
         [ \"$1\" = bound ] || exit 0
         ip addr add $ip/$mask dev $interface
         ip link set $interface mtu $mtu
         ip route add default via $router
         echo \"$ip/$mask router $router dns $dns mtu $mtu lease $lease from $serverid\"
        ",
    );
    let script = script.to_str().expect("a path");
    let found =
        world.run(&["udhcpc", "-i", "tap0", "-f", "-n", "-q", "-t", "10", "-T", "1", "-s", script]).ok();
    let lease = "10.0.2.15/24 router 10.0.2.2 dns 10.0.2.3 mtu 9000 lease 86400 from 10.0.2.2";
    assert!(found.out().contains(lease), "{}{}", found.out(), found.err());
    world.assert_connected();
    // It asks for an address that somebody else would have given: no, and it takes ours.
    world.guest.ip(&["addr", "flush", "dev", "tap0"]);
    world.guest.ip(&["link", "set", "tap0", "mtu", "1500"]);
    let asked = ["-r", "192.168.1.77"];
    let found = world.run(
        &[&["udhcpc", "-i", "tap0", "-f", "-n", "-q", "-t", "10", "-T", "1", "-s", script], &asked[..]]
            .concat(),
    );
    assert!(found.ok().out().contains(lease));
}

#[test]
fn dhclient_gets_a_lease_and_confirms_it() {
    require!(Need::Root, Need::Program("ip"), Need::Program("dhclient"), Need::File("/dev/net/tun"));
    let world = World::new();
    let script = world.script(
        "#!/bin/sh
         case $reason in BOUND|REBOOT) ;; *) exit 0 ;; esac
         ip addr replace $new_ip_address/$new_subnet_mask dev $interface
         ip route replace default via $new_routers
         echo \"$reason $new_ip_address $new_subnet_mask $new_routers $new_domain_name_servers $new_interface_mtu\"
        ",
    );
    let at = |name: &str| world.folder.path().join(name).to_str().expect("a path").to_owned();
    std::fs::write(
        at("conf"),
        "timeout 20; request subnet-mask, routers, domain-name-servers, interface-mtu;",
    )
    .expect("write");
    // With the lease from before it asks for the same address alone (RFC 2131 section 3.2).
    for reason in ["BOUND", "REBOOT"] {
        let mut command = world.guest.command("dhclient");
        command.args(["-4", "-1", "-v", "-d", "-sf", script.to_str().expect("a path")]);
        command.args(["-cf", &at("conf"), "-lf", &at("leases"), "-pf", &at("pid"), "tap0"]);
        let mut client = Running::start(&mut command);
        wait_until("a route", LIMIT, || {
            assert!(client.is_running(), "dhclient gave up");
            world.run(&["ip", "route"]).out().contains("default via 10.0.2.2")
        });
        client.signal(nix::sys::signal::Signal::SIGTERM);
        let said = client.finish(LIMIT);
        let expected = format!("{reason} 10.0.2.15 255.255.255.0 10.0.2.2 10.0.2.3 9000");
        assert!(said.out().contains(&expected), "{}{}", said.out(), said.err());
        world.assert_connected();
        world.guest.ip(&["route", "del", "default"]);
    }
    let leases = std::fs::read_to_string(at("leases")).expect("leases");
    assert!(
        leases.contains("fixed-address 10.0.2.15") && leases.contains("dhcp-lease-time 86400"),
        "{leases}"
    );
}

#[test]
fn rdisc6_is_told_of_the_network() {
    require!(Need::Root, Need::Program("ip"), Need::Program("rdisc6"), Need::File("/dev/net/tun"));
    let world = World::new();
    let mut text = String::new();
    // The kernel checks its own link-local address first.
    wait_until("an advertisement", LIMIT, || {
        let found = world.run(&["rdisc6", "-1", "-w", "2000", "tap0"]);
        text = found.out();
        found.status == 0
    });
    let compact: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "Prefix : fd00::/64",
        "On-link : Yes",
        "Autonomous address conf.: Yes",
        "MTU : 9000 bytes",
        "DNS server : fd00::3",
    ] {
        assert!(compact.contains(line), "{line}:\n{text}");
    }
}
