//! Tools that look for what is open, with packets that no connection begins with: nmap and hping3.

use crate::common::{Net, STACK, Way};
use crate::require_tools;
use crate::services::Services;

/// What nmap says about a port, or a protocol.
#[track_caller]
fn assert_port(scan: &str, port: u16, state: &str) {
    // `22/tcp   open   ssh`
    let line = scan
        .lines()
        .find(|line| line.starts_with(&format!("{port}/")) || line.starts_with(&format!("{port} ")));
    let said = line.and_then(|line| line.split_whitespace().nth(1));
    assert_eq!(said, Some(state), "port {port}:\n{scan}");
}

#[track_caller]
fn nmap(net: &Net, arguments: &str) -> String {
    net.run(&format!("nmap -n -Pn -T4 --max-retries 2 {arguments}")).ok().out()
}

#[test]
fn scans_see_open_and_closed_ports() {
    require_tools!("nmap");
    let net = Net::new(Way::Tap, 1500);
    let services = Services::start(&net.stack);
    for (option, address) in ["-4", "-6"].iter().zip(STACK) {
        let target = if *option == "-6" { format!("-6 {address}") } else { address.to_owned() };
        for (kind, open, closed) in [
            ("-sS", "open", "closed"),
            ("-sT", "open", "closed"),
            ("-sA", "unfiltered", "unfiltered"),
            ("-sW", "closed", "closed"),
            // RFC 9293 section 3.10.7.2: a listener drops what has neither RST, ACK nor SYN.
            ("-sN", "open|filtered", "closed"),
            ("-sF", "open|filtered", "closed"),
            ("-sX", "open|filtered", "closed"),
        ] {
            let scan = nmap(&net, &format!("{kind} -p 7,80,81,443 {target}"));
            for (port, state) in [(7, open), (80, open), (81, closed), (443, closed)] {
                assert_port(&scan, port, state);
            }
        }
        let scan = nmap(&net, &format!("-sU -p 7,9 --data-string hello {target}"));
        assert_port(&scan, 7, "open");
        assert_port(&scan, 9, "closed");
    }
    // Every port once, with nothing left of it.
    let scan = nmap(&net, &format!("-sS -p 1-1000 --open {}", STACK[0]));
    let open: Vec<_> = scan.lines().filter(|line| line.contains("/tcp")).collect();
    assert_eq!(open.len(), 3, "{scan}");
    services.finish(&net);
}

#[test]
fn scans_of_protocols_services_and_systems_end_well() {
    require_tools!("nmap");
    let net = Net::new(Way::Tap, 1500);
    let services = Services::start(&net.stack);
    let scan = nmap(&net, &format!("-sO -p 1,6,17,47,132,253 {}", STACK[0]));
    for (protocol, state) in
        [(1, "open"), (6, "open"), (17, "open"), (47, "closed"), (132, "closed"), (253, "closed")]
    {
        assert_port(&scan, protocol, state);
    }
    let scan = nmap(&net, &format!("-sV --version-light -p 22,80,81 {}", STACK[0]));
    assert!(scan.contains("OpenSSH 9.2") && scan.contains("Apache httpd"), "{scan}");
    // Odd segments of all kinds, the sequence numbers, and what the answers look like.
    let scan = nmap(&net, &format!("-O -v --max-os-tries 1 -p 80,81 {}", STACK[0]));
    assert_port(&scan, 80, "open");
    // RFC 6528: the numbers of connections cannot be foreseen.
    assert!(scan.contains("TCP Sequence Prediction: Difficulty=2"), "{scan}");
    services.finish(&net);
}

/// How hping3's probes were answered.
fn hping(net: &Net, arguments: &str) -> String {
    // It has its result on standard error, and fails when nothing came.
    let hping = net.run(&format!("hping3 -n -i u2000 {arguments}"));
    format!("{}{}", hping.out(), hping.err())
}

#[test]
fn odd_segments_are_answered_as_by_hosts() {
    require_tools!("hping3");
    let net = Net::new(Way::Tap, 1500);
    let services = Services::start(&net.stack);
    let stack = STACK[0];
    for (arguments, flags) in [
        ("-S -p 80", Some("SA")),
        ("-S -p 81", Some("RA")),
        ("-A -p 80", Some("R")),
        ("-A -p 81", Some("R")),
        ("-SA -p 80", Some("R")),
        ("-F -p 81", Some("RA")),
        ("-F -p 80", None),
        ("-R -p 80", None),
        ("-FPU -p 80", None),
        // Without any flag, and with bits that nobody uses.
        ("-p 80", None),
        // ECE and CWR, which ask for congestion notification.
        ("-S -X -Y -p 80", Some("SAX")),
        // Data with the first segment, and a window of nothing.
        ("-S -d 400 -w 0 -p 80", Some("SA")),
        // In fragments of eight bytes: the header in three.
        ("-S -f -p 80", Some("SA")),
        ("-S -f -m 8 -d 100 -p 80", Some("SA")),
        ("-S -b -p 80", None),
        ("-S --tcp-mss 1 -p 80", Some("SA")),
        ("-S --tcp-timestamp -p 80", Some("SA")),
    ] {
        let text = hping(&net, &format!("-c 3 {arguments} {stack}"));
        match flags {
            Some(flags) => {
                // The last may come after hping3 has gone.
                let answers = text.matches("flags=").count();
                let right = text.matches(&format!("flags={flags} ")).count();
                assert!(right > 0 && right == answers, "{arguments}:\n{text}");
            }
            None => assert!(text.contains("100% packet loss"), "{arguments}:\n{text}"),
        }
    }
    for (arguments, says) in [
        (&*format!("-2 -p 9 -c 3 {stack}"), "ICMP Port Unreachable"),
        (&format!("-2 -p 7 -d 10 -c 3 {stack}"), "ip=10.9.0.2"),
        (&format!("-1 -c 3 {stack}"), "icmp_seq=0"),
        (&format!("-1 -d 3000 -f -c 3 {stack}"), "icmp_seq=0"),
        (&format!("-0 -H 253 -d 20 -c 3 {stack}"), "ICMP Protocol Unreachable"),
        (&format!("-1 --icmptype 17 -c 3 {stack}"), "100% packet loss"),
        (&format!("-1 --icmptype 42 --force-icmp -c 3 {stack}"), "100% packet loss"),
    ] {
        let text = hping(&net, arguments);
        assert!(text.contains(says), "{arguments}:\n{text}");
    }
    services.finish(&net);
}

#[test]
fn flood_from_everywhere_ends_and_leaves_the_service_working() {
    require_tools!("hping3", "curl");
    let net = Net::new(Way::Tap, 1500);
    let services = Services::start(&net.stack);
    // To the kernel these sources are all over the world; the answers go nowhere.
    let nic = net.stack.nic_by_name("eth0").unwrap();
    let route = netstack::route::Route::via(
        "0.0.0.0/0".parse().unwrap(),
        crate::common::KERNEL[0].parse().unwrap(),
        nic,
    );
    net.stack.add_route(route).unwrap();
    for kind in ["-S -p 80", "-A -p 80", "-2 -p 7 -d 8", "-2 -p 9", "-1", "-S -f -p 80"] {
        net.run(&format!("hping3 -n -q -i u50 -c 1500 --rand-source {kind} {}", STACK[0]));
        let gauges = net.stack.gauges();
        assert!(gauges.tcp_half_open <= 4096 && gauges.tcp_accept_queue <= 128, "{gauges:?}");
        let page = net.run(&format!("curl -s --max-time 30 http://{}/", STACK[0])).ok();
        assert_eq!(page.out(), crate::services::PAGE);
    }
    services.finish(&net);
}
