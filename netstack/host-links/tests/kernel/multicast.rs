//! The kernel's bridge as a multicast router: it asks for members and notes what the stack reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use integration_tests::Netns;
use netstack::options::Family;
use netstack::{Stack, UdpSocket};
use netstack_host_links::{HostLink, Pump, Reader, TapLink, TapOptions};

use crate::common::LIMIT;
use crate::require_net;

/// A stack on a tap that is a port of a snooping bridge which asks for members itself.
struct Bridged {
    // Before the namespace: fields are dropped in order.
    _reader: Reader,
    stack: Stack,
    kernel: Netns,
}

impl Bridged {
    fn new() -> Self {
        let kernel = Netns::new();
        kernel.ip(&[
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "mcast_snooping",
            "1",
            "mcast_querier",
            "1",
            "mcast_igmp_version",
            "3",
            "mcast_mld_version",
            "2",
            "mcast_query_response_interval",
            "100",
        ]);
        kernel.ip(&["addr", "add", "10.9.0.1/24", "dev", "br0"]);
        kernel.ip(&["tuntap", "add", "k0", "mode", "tap"]);
        let mac = netstack::MacAddr([2, 0, 0, 0, 9, 2]);
        let link: Arc<dyn HostLink> = kernel.inside(|| TapLink::open("k0", TapOptions::tap(mac))).unwrap();
        kernel.ip(&["link", "set", "k0", "master", "br0"]);
        kernel.ip(&["link", "set", "k0", "up"]);
        kernel.ip(&["link", "set", "br0", "up"]);
        let stack = Stack::builder().build();
        let nic = stack.add_nic("eth0", Arc::<dyn HostLink>::clone(&link)).unwrap();
        for address in ["10.9.0.2/24", "fe80::2/64"] {
            stack.add_address(nic, address.parse().unwrap()).unwrap();
        }
        let mut pump = Pump::new(stack.clone()).unwrap();
        pump.add(nic, link);
        Self { _reader: Reader::spawn(pump).unwrap(), stack, kernel }
    }

    /// Waits until the bridge's notes about a group are as wanted.
    fn wait_for(&self, what: &str, is_right: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        loop {
            let output = self.kernel.command("bridge").args(["-d", "mdb", "show"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if is_right(&text) {
                return;
            }
            assert!(Instant::now() < end, "{what}: the bridge knows\n{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_snooping_bridge_learns_groups_and_sources() {
    require_net!();
    integration_tests::require!(integration_tests::Need::Program("bridge"));
    let net = Bridged::new();
    let nic = net.stack.nic_by_name("eth0");
    for (family, group, source) in
        [(Family::V4, "239.9.9.9", "10.9.0.77"), (Family::V6, "ff15::99", "2001:db8::77")]
    {
        // The bridge forgets what it heard before its port forwards, and asks again: a report or its answer gets there.
        let socket = UdpSocket::new(&net.stack, family);
        socket.join_group(group.parse().unwrap(), nic).unwrap();
        net.wait_for(group, |text| text.contains(&format!("port k0 grp {group}")));
        socket.block_source(group.parse().unwrap(), source.parse().unwrap(), nic).unwrap();
        net.wait_for(source, |text| {
            text.lines().any(|line| line.contains(group) && line.contains("exclude") && line.contains(source))
        });
        socket.leave_group(group.parse().unwrap(), nic).unwrap();
        socket.add_source(group.parse().unwrap(), source.parse().unwrap(), nic).unwrap();
        net.wait_for(source, |text| text.contains(&format!("grp {group} src {source}")));
    }
}
