//! Tools that look whether and where a host is: ping, traceroute, arping, `ip neigh`, ndisc6.

use std::time::{Duration, Instant};

use integration_tests::wait_until;

use crate::common::{KERNEL, LIMIT, Net, STACK, Way};
use crate::services::{CLOSED, Services, WEB};
use crate::{require_net, require_tools};

/// Pings until `count` answers came.
#[track_caller]
fn assert_answered(net: &Net, count: u32, arguments: &str) {
    // With a deadline it waits for answers, however late; without one, for two round-trip times.
    let ping = net.run(&format!("ping -n -c {count} -w 30 {arguments}"));
    let text = ping.out();
    let is_whole = !text.contains("wrong data") && !text.contains("truncated");
    let all_came = ping.status == 0 && text.contains(&format!(" {count} received"));
    assert!(
        all_came && is_whole,
        "{arguments}:
{text}{}",
        ping.err()
    );
}

#[test]
fn pings_of_every_size_are_answered_whole() {
    require_net!();
    let net = Net::new(Way::Tap, 1500);
    for (option, address) in ["-4", "-6"].iter().zip(STACK) {
        // None, below and at the MTU, beyond it, and the longest packet there is.
        let longest = if *option == "-4" { 65_507 } else { 65_527 };
        for size in [0, 1, 7, 8, 56, 1452, 1453, 1472, 1473, 2960, 8000, 40_001, longest] {
            // 64 KiB are 45 fragments in a burst, which a queue may not hold.
            assert_answered(&net, 2, &format!("{option} -i 0.02 -p a55ac3 -s {size} {address}"));
        }
    }
    assert_eq!(net.stack.gauges().reassemblies, 0);
}

#[test]
fn pings_with_flags_are_answered() {
    require_net!();
    let net = Net::new(Way::Veth, 1500);
    for line in [
        "-4 -M do -s 1472",
        "-4 -Q 0x10",
        "-4 -t 1",
        "-4 -t 255",
        "-4 -l 3",
        "-4 -I k0",
        "-4 -I 10.9.0.1",
        "-4 -T tsonly",
        "-4 -T tsandaddr",
        "-4 -R",
        "-4 -D -U -O",
        "-6 -M do -s 1452",
        "-6 -Q 0x10",
        "-6 -t 1",
        "-6 -F 0x12345",
        "-6 -I k0",
        "-6 -I fd09::1",
    ] {
        let address = STACK[usize::from(line.starts_with("-6"))];
        assert_answered(&net, 3, &format!("{line} -i 0.02 {address}"));
    }
    for (option, address) in ["-4", "-6"].iter().zip(STACK) {
        assert_answered(&net, 2000, &format!("{option} -f {address}"));
    }
}

#[test]
fn groups_answer_pings_as_hosts_do() {
    require_net!();
    let net = Net::new(Way::Tap, 1500);
    // RFC 4443 section 4.2 wants an answer to groups; RFC 1122 section 3.2.2.6 leaves it open, and Linux gives none.
    let ping = net.run("ping -6 -n -c 3 -i 0.2 -W 10 ff02::1%k0");
    assert!(ping.out().contains(&format!("bytes from {}: icmp_seq=2", STACK[1])), "{}", ping.out());
    let ping = net.run("ping -4 -n -b -c 2 -i 0.02 -W 1 10.9.0.255");
    assert!(ping.out().contains("100% packet loss"), "{}", ping.out());
}

#[test]
fn traceroutes_end_at_the_stack() {
    require_tools!("traceroute", "tracert6");
    let net = Net::new(Way::Tap, 1500);
    let services = Services::start(&net.stack);
    for (option, address) in ["-4", "-6"].iter().zip(STACK) {
        for method in ["", "-U -p 53", "-I", &format!("-T -p {WEB}"), &format!("-T -p {CLOSED}"), "-P 253"] {
            let line = format!("traceroute {option} -n -q 1 -w 5 -m 3 {method} {address}").replace("  ", " ");
            let hops = net.run(&line).ok();
            let text = hops.out();
            let hops: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
            let is_reached = matches!(hops[..], [only] if only.starts_with(&format!("1  {address}")));
            assert!(is_reached && !text.contains('!') || method.contains("253"), "{line}:\n{text}");
        }
    }
    let hops = net.run(&format!("tracert6 -n -q 1 -w 5 {}", STACK[1])).ok();
    assert!(hops.out().contains(&format!(" 1  {}", STACK[1])), "{}", hops.out());
    services.finish(&net);
}

#[test]
fn arping_is_answered_and_sees_duplicates() {
    require_tools!("arping");
    let net = Net::new(Way::Tap, 1500);
    let [kernel, stack] = [KERNEL[0], STACK[0]];
    let found = net.run(&format!("arping -I k0 -c 2 -w 10 {stack}")).ok();
    assert!(
        found.out().contains("Received 2 response(s)") && found.out().contains("02:00:00:00:00:02"),
        "{}",
        found.out()
    );
    // Is it free (RFC 5227 section 2.1.1)? Not this one.
    assert_eq!(net.run(&format!("arping -D -I k0 -c 2 -w 3 {stack}")).status, 1);
    assert_eq!(net.run("arping -D -I k0 -c 1 -w 1 10.9.0.77").status, 0);
    // The kernel gets another station address, and says so to everybody.
    let station = || {
        let all = net.stack.neighbours();
        all.iter().find(|entry| entry.address.to_string() == kernel).and_then(|entry| entry.mac)
    };
    for (announcement, last) in [("-U", 0x98), ("-A", 0x99)] {
        net.kernel.ip(&["link", "set", "k0", "address", &format!("02:00:00:00:00:{last:x}")]);
        net.run(&format!("arping {announcement} -I k0 -c 1 -w 2 {kernel}"));
        wait_until("the new station address", LIMIT, || station().is_some_and(|mac| mac.0[5] == last));
    }
    // Somebody else claims the stack's address.
    let before = net.stack.stats().arp_conflicts;
    net.kernel.ip(&["addr", "add", &format!("{stack}/32"), "dev", "k0"]);
    net.run(&format!("arping -U -I k0 -s {stack} -c 1 -w 2 {stack}"));
    wait_until("the conflict", LIMIT, || net.stack.stats().arp_conflicts > before);
}

/// The kernel's entry for a neighbour.
fn neighbour(net: &Net, address: &str) -> String {
    net.run(&format!("ip neigh show {address} dev k0")).ok().out().trim().to_owned()
}

#[test]
fn kernel_finds_keeps_and_confirms_the_stack_as_neighbour() {
    require_net!();
    let net = Net::new(Way::Tap, 1500);
    for address in STACK {
        let entry = neighbour(&net, address);
        assert!(entry.contains("lladdr 02:00:00:00:00:02") && !entry.contains("router"), "{entry}");
        // Confirmed by a question to the station alone.
        net.kernel.ip(&["neigh", "change", address, "dev", "k0", "nud", "probe"]);
        wait_until("an answer to the probe", LIMIT, || neighbour(&net, address).ends_with("REACHABLE"));
        // Forgotten, and found by a question to everybody.
        net.kernel.ip(&["neigh", "del", address, "dev", "k0"]);
        net.run(&format!("ping -n -c 1 -W 10 {address}")).ok();
        assert!(neighbour(&net, address).contains("lladdr 02:00:00:00:00:02"));
    }
    for nobody in ["10.9.0.77", "fd09::77"] {
        net.run(&format!("ping -n -c 1 -W 1 {nobody}"));
        let is_missed = || {
            let entry = neighbour(&net, nobody);
            entry.ends_with("INCOMPLETE") || entry.ends_with("FAILED")
        };
        wait_until("that nobody answers", LIMIT, is_missed);
    }
}

#[test]
fn ndisc6_finds_the_stack_and_duplicates_are_noticed() {
    require_tools!("ndisc6", "rdisc6");
    let net = Net::new(Way::Tap, 1500);
    let found = net.run(&format!("ndisc6 -1 -w 5000 {} k0", STACK[1])).ok();
    assert!(found.out().contains("02:00:00:00:00:02"), "{}", found.out());
    assert_ne!(net.run("ndisc6 -1 -r 1 -w 300 fd09::77 k0").status, 0);
    // A host is no router.
    assert_ne!(net.run("rdisc6 -1 -r 1 -w 300 k0").status, 0);
    // The kernel wants the stack's address, and gives up (RFC 4862 section 5.4).
    net.kernel.ip(&["addr", "add", &format!("{}/64", STACK[1]), "dev", "k0"]);
    let is_noticed = || net.run("ip -6 addr show dev k0").ok().out().contains("dadfailed");
    wait_until("that the address is taken", LIMIT, is_noticed);
    // The stack wants the kernel's, and gives up too.
    let nic = net.stack.nic_by_name("eth0").unwrap();
    for address in [format!("{}/24", KERNEL[0]), format!("{}/64", KERNEL[1])] {
        let before = net.stack.stats().duplicate_addresses;
        net.stack.add_tentative_address(nic, address.parse().unwrap()).unwrap();
        let end = Instant::now() + LIMIT;
        while net.stack.stats().duplicate_addresses == before {
            assert!(Instant::now() < end, "{address} is used twice");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
