//! Real programs that talk TCP through the sandbox's own stack with the host kernel as the peer.
//!
//! Each test has a network namespace of its own; the sandbox's veth ends in it, and the peers run in it. Each runs once
//! with `runsc do` and once with an OCI bundle that names a namespace.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::{Need, Netns, Place, Running, Sandbox, require, wait_until};

const SANDBOX: &str = "10.77.0.2";
const LIMIT: Duration = Duration::from_secs(60);

/// Each test in each kind of sandbox.
macro_rules! in_each_place {
    ($($name:ident)*) => {
        $(mod $name {
            use integration_tests::Place;

            #[test]
            fn with_do() {
                super::$name(Place::Do);
            }

            #[test]
            fn in_a_bundle() {
                super::$name(Place::Bundle);
            }
        })*
    };
}

in_each_place! {
    ping_both_ways
    http_server_sends_a_large_file
    curl_inside_fetches_a_large_file
    upload_from_inside_is_byte_identical
    echo_server_with_200_concurrent_clients
    iperf3_server_and_client
    busybox_httpd_and_wget
    busybox_nc_both_ways
    interface_shows_its_address_inside
    redis_server_answers_redis_benchmark
    nginx_serves_files
    udp_datagrams_pass
}

/// The address of the host's end of the veth: the one after the sandbox's.
fn host() -> String {
    let sandbox: Ipv4Addr = SANDBOX.parse().expect("a literal address");
    Ipv4Addr::from(u32::from(sandbox) + 1).to_string()
}

/// Waits until something in the sandbox listens on `port`.
#[track_caller]
fn wait_for_port(netns: &Netns, address: &str, port: u16) {
    wait_until(&format!("port {port} of {address}"), Duration::from_secs(20), || {
        let probe = netns.command("nc").args(["-z", "-w", "1", address, &port.to_string()]).status();
        probe.is_ok_and(|s| s.success())
    });
}

#[track_caller]
fn run(command: &mut Command) -> integration_tests::Finished {
    Running::start(command).finish(LIMIT)
}

/// A file of `mib` MiB whose blocks all differ, so that misplaced data shows.
fn big_file(path: &Path, mib: usize) {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    })
    .take((mib << 20) / 8)
    .flatten()
    .collect();
    fs::write(path, bytes).expect("write the test file");
}

fn ping_both_ways(place: Place) {
    require!(Need::Root, Need::Program("ip"), Need::Program("ping"));
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let out = inside.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", &host()]).ok();
    assert!(out.out().contains(" 0% packet loss"), "{}", out.out());

    let _sandbox = Running::start(&mut inside.command("sleep", &["20"]));
    wait_until("answer to ping", Duration::from_secs(10), || {
        netns.command("ping").args(["-c", "1", "-W", "1", SANDBOX]).output().is_ok_and(|o| o.status.success())
    });
}

fn http_server_sends_a_large_file(place: Place) {
    require!(Need::Root, Need::Program("python3"), Need::Program("curl"));
    let folder = tempfile::tempdir().expect("a folder");
    big_file(&folder.path().join("big"), 100);
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let path = folder.path().to_str().expect("a UTF-8 path");
    let _server =
        Running::start(&mut inside.command("python3", &["-m", "http.server", "8000", "--directory", path]));
    wait_for_port(&netns, SANDBOX, 8000);
    let got = folder.path().join("got");
    run(netns
        .command("curl")
        .args(["-sS", "-m", "50", "-o"])
        .arg(&got)
        .arg(format!("http://{SANDBOX}:8000/big")))
    .ok();
    assert!(
        fs::read(&got).expect("read") == fs::read(folder.path().join("big")).expect("read"),
        "files differ"
    );
}

fn curl_inside_fetches_a_large_file(place: Place) {
    require!(Need::Root, Need::Program("python3"), Need::Program("curl"));
    let folder = tempfile::tempdir().expect("a folder");
    big_file(&folder.path().join("big"), 100);
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    // The host's end of the veth exists only while a sandbox does: listen on all addresses.
    let path = folder.path().to_str().expect("a UTF-8 path");
    let _server =
        Running::start(netns.command("python3").args(["-m", "http.server", "8000", "--directory", path]));
    wait_for_port(&netns, "127.0.0.1", 8000);
    let url = format!("http://{}:8000/big", host());
    let sums = inside.sh(&format!("curl -sS -m 50 {url} | cmp - {path}/big && echo same")).ok();
    assert_eq!(sums.out(), "same\n", "{}", sums.err());
}

fn upload_from_inside_is_byte_identical(place: Place) {
    require!(Need::Root, Need::Program("nc"), Need::Program("ss"));
    let folder = tempfile::tempdir().expect("a folder");
    big_file(&folder.path().join("big"), 100);
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let got = folder.path().join("got");
    let listen = format!("nc -l -N 9000 > {}", got.display());
    let sink = Running::start(netns.command("bash").args(["-c", &listen]));
    wait_until("the listener", Duration::from_secs(10), || {
        // Seen, not tried: it takes one connection.
        let listeners = netns.command("ss").args(["-Hltn", "sport = :9000"]).output();
        listeners.is_ok_and(|out| !out.stdout.is_empty())
    });
    let script = format!("exec 3<>/dev/tcp/{}/9000; cat {}/big >&3", host(), folder.path().display());
    inside.sh(&script).ok();
    sink.finish(LIMIT).ok();
    assert!(
        fs::read(&got).expect("read") == fs::read(folder.path().join("big")).expect("read"),
        "files differ"
    );
}

fn echo_server_with_200_concurrent_clients(place: Place) {
    require!(Need::Root, Need::Program("python3"));
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let server = "import asyncio\n\
        async def echo(r, w):\n \
         while data := await r.read(65536): w.write(data); await w.drain()\n \
         w.close()\n\
        async def main():\n \
         s = await asyncio.start_server(echo, '0.0.0.0', 7000, backlog=512)\n \
         await s.serve_forever()\n\
        asyncio.run(main())";
    let _server = Running::start(&mut inside.command("python3", &["-c", server]));
    wait_for_port(&netns, SANDBOX, 7000);
    let client = format!(
        "import asyncio, os\n\
        async def one(i):\n \
         r, w = await asyncio.open_connection('{SANDBOX}', 7000)\n \
         data = os.urandom(20000 + i)\n \
         w.write(data); w.write_eof()\n \
         got = await r.read(-1)\n \
         assert got == data, (i, len(got), len(data)); w.close()\n\
        async def main(): await asyncio.gather(*[one(i) for i in range(200)])\n\
        asyncio.run(main()); print('all')"
    );
    let out = run(netns.command("python3").args(["-c", &client])).ok();
    assert_eq!(out.out(), "all\n");
}

fn iperf3_server_and_client(place: Place) {
    require!(Need::Root, Need::Program("iperf3"));
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let _server = Running::start(&mut inside.command("iperf3", &["-s"]));
    wait_for_port(&netns, SANDBOX, 5201);
    for direction in [&[][..], &["-R"]] {
        let out = run(netns.command("iperf3").args(["-c", SANDBOX, "-t", "1", "-J"]).args(direction)).ok();
        assert_rate(&out.stdout);
    }
    drop(_server);

    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let _server = Running::start(netns.command("iperf3").arg("-s"));
    wait_for_port(&netns, "127.0.0.1", 5201);
    for direction in [&[][..], &["-R"]] {
        let host = host();
        let arguments = [&["-c", &host, "-t", "1", "-J"], direction].concat();
        let out = inside.run("iperf3", &arguments).ok();
        assert_rate(&out.stdout);
    }
}

#[track_caller]
fn assert_rate(report: &[u8]) {
    let report: serde_json::Value = serde_json::from_slice(report).expect("iperf3 writes JSON");
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0);
    assert!(rate > 100e6, "{rate} bit/s");
}

fn busybox_httpd_and_wget(place: Place) {
    require!(Need::Root, Need::Program("busybox"));
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("page"), "from busybox\n").expect("write");
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let path = folder.path().to_str().expect("a UTF-8 path");
    let _server = Running::start(&mut inside.command("busybox", &["httpd", "-f", "-p", "80", "-h", path]));
    wait_for_port(&netns, SANDBOX, 80);
    let out =
        run(netns.command("busybox").args(["wget", "-q", "-O", "-", &format!("http://{SANDBOX}/page")])).ok();
    assert_eq!(out.out(), "from busybox\n");
    drop(_server);

    let _server = Running::start(netns.command("busybox").args(["httpd", "-f", "-p", "80", "-h", path]));
    wait_for_port(&netns, "127.0.0.1", 80);
    let url = format!("http://{}/page", host());
    let out = inside.run("busybox", &["wget", "-q", "-O", "-", &url]).ok();
    assert_eq!(out.out(), "from busybox\n");
}

fn busybox_nc_both_ways(place: Place) {
    require!(Need::Root, Need::Program("busybox"));
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    // The text is there before the connection is: the listener has no input and ends its half at once, upon which nc(1) ends
    // whether it has sent anything or not.
    let talk = format!("busybox nc -w 5 {} 9001 <<< 'to the host'", host());
    let listener = Running::start(netns.command("busybox").args(["nc", "-l", "-p", "9001"]));
    wait_until("the listener", LIMIT, || {
        let out = netns.command("ss").args(["-ltn"]).output();
        out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(":9001"))
    });
    let _ = inside.sh(&talk).ok();
    assert_eq!(listener.finish(LIMIT).ok().out(), "to the host\n");

    let script = "busybox nc -l -p 9002 <<< 'from inside'";
    let _listener = Running::start(&mut inside.command("bash", &["-c", script]));
    let mut got = String::new();
    wait_until("the listener inside", LIMIT, || {
        let out = run(netns.command("busybox").args(["nc", "-w", "2", SANDBOX, "9002"]));
        got = out.out();
        !got.is_empty()
    });
    assert_eq!(got, "from inside\n");
}

fn interface_shows_its_address_inside(place: Place) {
    require!(Need::Root, Need::Program("busybox"), Need::Program("ip"));
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    for program in ["busybox ip addr", "ip addr", "ip route"] {
        let out = inside.sh(program).ok();
        assert!(out.out().contains("10.77.0."), "{program}:\n{}", out.out());
    }
}

fn redis_server_answers_redis_benchmark(place: Place) {
    require!(Need::Root, Need::Program("redis-server"), Need::Program("redis-benchmark"));
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let arguments = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
    let _server = Running::start(&mut inside.command("redis-server", &arguments));
    wait_for_port(&netns, SANDBOX, 6379);
    let benchmark = ["-h", SANDBOX, "-n", "10000", "-c", "20", "-t", "set,get,lpush,lrange_100", "--csv"];
    let out = run(netns.command("redis-benchmark").args(benchmark)).ok();
    assert!(out.out().contains("\"GET\""), "{}", out.out());
    let big = run(netns.command("bash").args([
        "-c",
        &format!("head -c 3000000 /dev/zero | tr '\\0' x | redis-cli -h {SANDBOX} -x set k && redis-cli -h {SANDBOX} strlen k"),
    ]))
    .ok();
    assert_eq!(big.out(), "OK\n3000000\n");
}

fn nginx_serves_files(place: Place) {
    require!(Need::Root, Need::Program("nginx"), Need::Program("curl"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a UTF-8 path");
    big_file(&folder.path().join("file"), 8);
    let config = format!(
        "worker_processes 2; daemon off; pid {path}/pid; error_log stderr; events {{ worker_connections 128; }}\n\
        http {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
        uwsgi_temp_path {path}/u; scgi_temp_path {path}/s; sendfile on;\n\
        server {{ listen 8080; root {path}; }} }}\n"
    );
    fs::write(folder.path().join("nginx.conf"), config).expect("write");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let arguments = ["-c", &format!("{path}/nginx.conf"), "-e", "stderr"];
    let _server = Running::start(&mut inside.command("/usr/sbin/nginx", &arguments));
    wait_for_port(&netns, SANDBOX, 8080);
    let url = format!("http://{SANDBOX}:8080/file");
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8; do curl -sS -m 30 {url} | cmp - {path}/file & done; wait; echo end"
    );
    let out = run(netns.command("bash").args(["-c", &script])).ok();
    assert_eq!(out.out(), "end\n", "{}", out.err());
}

fn udp_datagrams_pass(place: Place) {
    require!(Need::Root, Need::Program("python3"));
    let netns = Netns::new();
    let inside = place.beside(&netns, SANDBOX);
    let server = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 5000))\n\
        t = socket.create_server(('0.0.0.0', 5001))\n\
        while True:\n d, a = s.recvfrom(70000)\n s.sendto(d[::-1], a)";
    let _server = Running::start(&mut inside.command("python3", &["-c", server]));
    wait_for_port(&netns, SANDBOX, 5001);
    let client = format!(
        "import socket, os\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n\
        for n in (0, 1, 100, 1472, 1473, 9000, 60000):\n d = os.urandom(n); s.sendto(d, ('{SANDBOX}', 5000))\n \
         assert s.recv(70000) == d[::-1], n\nprint('ok')"
    );
    let out = run(netns.command("python3").args(["-c", &client])).ok();
    assert_eq!(out.out(), "ok\n");
}

/// libpcap captures through a ring and filters with a program.
#[test]
fn tcpdump_inside_filters_and_sees_both_directions() {
    require!(Need::Root, Need::Program("tcpdump"), Need::Program("nc"), Need::Program("ping"));
    let netns = Netns::new();
    let listen = "while nc -l -N 8080 </dev/null >/dev/null; do :; done";
    let _server = Running::start(netns.command("timeout").args(["50", "bash", "-c", listen]));
    let script = format!(
        "exec 3< <(tcpdump -i eth0 -n -c 2 -l 'tcp port 8080' 2>&1)\n\
        while read -r line <&3; do [[ $line == listening* ]] && break; done\n\
        ping -c 1 {host} >/dev/null\n\
        for _ in $(seq 20); do nc -z -w 1 {host} 8080 && break; sleep 0.2; done\n\
        cat <&3",
        host = host()
    );
    let out = Sandbox::on(&netns, SANDBOX).sh(&script).ok();
    assert!(out.out().contains(&format!("> {}.8080: Flags [S]", host())), "{}{}", out.out(), out.err());
    assert!(out.out().contains("2 packets captured"), "{}", out.out());
    assert!(!out.out().contains("ICMP"), "{}", out.out());
}

/// Runs a script natively in a namespace and in the sandbox, and compares what they print.
#[track_caller]
fn is_the_same_inside(script: &str) {
    let script = format!("{}/scripts/{script}", env!("CARGO_MANIFEST_DIR"));
    let netns = Netns::new();
    let native = run(netns.command("bash").arg(&script));
    let inside = Sandbox::new().run("bash", &[&script]);
    assert_eq!(inside.out(), native.out(), "standard output; errors: {}", inside.err());
    assert_eq!(inside.err(), native.err(), "standard error");
}

/// The legacy tools see the tables that they have set, and the rules do what they do on Linux.
#[test]
fn iptables_inside_is_iptables_outside() {
    require!(Need::Root, Need::Program("iptables-legacy"), Need::Program("python3"));
    is_the_same_inside("iptables.sh");
}

/// The same for the matches and targets that are used less often.
#[test]
fn extensions_of_iptables_are_the_same_inside() {
    require!(Need::Root, Need::Program("iptables-legacy"));
    is_the_same_inside("iptables_extensions.sh");
}

/// What the matches `recent` and `hashlimit` remember is shown in `/proc/net`, and lists can be changed there.
#[test]
fn lists_of_iptables_are_the_same_inside() {
    require!(
        Need::Root,
        Need::Program("iptables-legacy"),
        Need::Program("ip6tables-legacy"),
        Need::Program("python3")
    );
    is_the_same_inside("iptables_lists.sh");
}

/// `nft`, and iptables on top of it, list what they were told in the same words, fail in the same words, and the rules do the same.
#[test]
fn nftables_inside_is_nftables_outside() {
    require!(
        Need::Root,
        Need::Program("nft"),
        Need::Program("iptables-nft"),
        Need::Program("conntrack"),
        Need::Program("python3")
    );
    is_the_same_inside("nftables.sh");
}

/// `ip` shows the same routes and rules, is told the same changes, and packets go the same ways.
#[test]
fn routes_and_rules_inside_are_those_outside() {
    require!(Need::Root, Need::Program("ip"), Need::Program("python3"));
    is_the_same_inside("routes.sh");
}

/// The same for rules that look at protocols, ports, users and types of service, and for what is wrong with requests.
#[test]
fn rules_with_all_selectors_inside_are_those_outside() {
    require!(Need::Root, Need::Program("ip"), Need::Program("python3"));
    is_the_same_inside("rules.sh");
}

/// Connections, datagrams, echo requests, answers and packets of others go where such rules say.
#[test]
fn rules_with_all_selectors_lead_the_same_ways_inside() {
    require!(Need::Root, Need::Program("ip"), Need::Program("python3"));
    is_the_same_inside("rule_ways.sh");
}

/// Addresses and routes, changed by netlink and as it was done before.
#[test]
fn addresses_inside_are_those_outside() {
    require!(Need::Root, Need::Program("ip"), Need::Program("busybox"), Need::Program("python3"));
    is_the_same_inside("addresses_and_routes.sh");
}

/// Rules of iptables and of nft give the flows of others to a transparent proxy.
#[test]
fn transparent_proxies_inside_are_those_outside() {
    require!(
        Need::Root,
        Need::Program("nft"),
        Need::Program("iptables-legacy"),
        Need::Program("ip6tables-legacy"),
        Need::Program("nsenter"),
        Need::Program("python3")
    );
    is_the_same_inside("tproxy.sh");
}

/// What addresses lead to is listed as the table "local".
#[test]
fn the_local_table_inside_is_that_outside() {
    require!(Need::Root, Need::Program("ip"));
    is_the_same_inside("local_table.sh");
}

/// smcrouted routes between two networks for static routes and for a template of any source.
#[test]
fn smcroute_inside_routes_for_groups() {
    require!(
        Need::Root,
        Need::Program("ip"),
        Need::Program("python3"),
        Need::Program("smcrouted"),
        Need::Program("smcroutectl")
    );
    let (router, sender, receiver) = (Netns::new(), Netns::new(), Netns::new());
    router.veth(("r0", "10.71.1.1/24"), &sender, ("a0", "10.71.1.2/24"));
    router.veth(("r1", "10.71.2.1/24"), &receiver, ("b0", "10.71.2.2/24"));
    for (netns, device, address) in [
        (&router, "r0", "fd71:1::1/64"),
        (&sender, "a0", "fd71:1::2/64"),
        (&router, "r1", "fd71:2::1/64"),
        (&receiver, "b0", "fd71:2::2/64"),
    ] {
        netns.ip(&["addr", "add", address, "dev", device, "nodad"]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a script");
        path
    };
    let send = script("send.py", SEND_TO_GROUPS);
    let receive = script("receive.py", RECEIVE_FROM_GROUPS);
    let is_member = folder.path().join("member");
    let mut command = receiver.command("timeout");
    let receiving = Running::start(command.args(["50", "python3"]).arg(&receive).arg(&is_member));
    wait_until("members of the groups", Duration::from_secs(20), || is_member.exists());
    let _sending = Running::start(sender.command("timeout").args(["50", "python3"]).arg(&send));
    let routing = Sandbox::administering(router).sh(ROUTE_FOR_GROUPS).ok();
    let received = receiving.finish(LIMIT).ok();
    assert_eq!(received.out(), "239.7.7.7\n239.8.8.8\nff05::77\n");
    let shown = routing.out();
    for line in [
        "(10.71.1.2,239.7.7.7) Iif: r0 Oifs: r1 State: resolved",
        "(10.71.1.2,239.8.8.8) Iif: r0 Oifs: r1 State: resolved",
        "(fd71:1::2,ff05::77) Iif: r0 Oifs: r1 State: resolved",
        "(10.71.1.2, 239.7.7.7) r0 r1",
        "(*, 239.8.8.8) r0 r1",
    ] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.lines().any(|shown| words(shown) == line), "{line}: {shown}{}", routing.err());
    }
}

/// Sends to the groups until it is ended.
const SEND_TO_GROUPS: &str = "
import socket, time
v4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v4.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
v4.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('10.71.1.2'))
v6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
v6.bind(('fd71:1::2', 0))
while True:
    for fd, group in (v4, '239.7.7.7'), (v4, '239.8.8.8'), (v6, 'ff05::77'):
        scope = (0, socket.if_nametoindex('a0')) if fd is v6 else ()
        fd.sendto(group.encode(), (group, 5007, *scope))
    time.sleep(0.1)
";

/// Says of each group when its first datagram came.
const RECEIVE_FROM_GROUPS: &str = "
import select, socket, sys
v4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v4.bind(('', 5007))
for group in '239.7.7.7', '239.8.8.8':
    member = socket.inet_aton(group) + socket.inet_aton('10.71.2.2')
    v4.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
v6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
v6.bind(('::', 5007))
member = socket.inet_pton(socket.AF_INET6, 'ff05::77') + socket.if_nametoindex('b0').to_bytes(4, 'little')
v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
open(sys.argv[1], 'w').close()
seen = set()
while len(seen) < 3:
    for fd in select.select([v4, v6], [], [])[0]:
        data, source = fd.recvfrom(100)
        assert source[0] in ('10.71.1.2', 'fd71:1::2'), source
        seen.add(data.decode())
print('\\n'.join(sorted(seen)))
";

/// Routes until each group has had some packets, and shows it.
const ROUTE_FOR_GROUPS: &str = "
cat > /tmp/smcroute.conf <<END
phyint r0 enable
phyint r1 enable
mroute from r0 source 10.71.1.2 group 239.7.7.7 to r1
mroute from r0 group 239.8.8.8 to r1
mroute from r0 source fd71:1::2 group ff05::77 to r1
END
smcrouted -n -N -f /tmp/smcroute.conf -u /tmp/smcroute.sock -P /tmp/smcroute.pid &
for _ in $(seq 100); do
    [ $(cat /proc/net/ip_mr_cache /proc/net/ip6_mr_cache | awk '$4 > 5' | grep -c :) -ge 3 ] && break
    sleep 0.1
done
ip mroute show
ip -6 mroute show
smcroutectl -u /tmp/smcroute.sock show
kill %1
wait
";
