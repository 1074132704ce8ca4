//! Sandboxes whose network is a user-mode gateway over the sockets of a namespace of the test's own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::{Bundle, Finished, Need, Netns, Running, require, runsc, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// `runsc do` with the gateway in `netns`.
fn sandbox(netns: &Netns, options: &[&str], program: &str, args: &[&str]) -> Command {
    let mut command = netns.command(runsc());
    command.args(["--network-link=usernet", "do"]).args(options).arg("--").arg(program).args(args);
    command
}

#[track_caller]
fn sh(netns: &Netns, options: &[&str], script: &str) -> Finished {
    Running::start(&mut sandbox(netns, options, "bash", &["-c", script])).finish(LIMIT)
}

/// A file whose blocks all differ, so that misplaced data shows.
fn big_file(path: &Path, mib: usize) {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    let bytes: Vec<u8> = std::iter::repeat_with(next).take((mib << 20) / 8).flatten().collect();
    fs::write(path, bytes).expect("write the test file");
}

#[track_caller]
fn wait_for_port(netns: &Netns, address: &str, port: u16) {
    wait_until(&format!("port {port} of {address}"), Duration::from_secs(20), || {
        let probe = netns.command("nc").args(["-z", "-w", "1", address, &port.to_string()]).status();
        probe.is_ok_and(|status| status.success())
    });
}

#[test]
fn large_files_arrive_whole_in_both_directions() {
    require!(Need::Root, Need::Program("python3"), Need::Program("curl"), Need::Program("nc"));
    let folder = tempfile::tempdir().expect("a folder");
    big_file(&folder.path().join("big"), 100);
    let netns = Netns::new();
    let path = folder.path().to_str().expect("a UTF-8 path");
    let server = "import http.server, os, sys\n\
        class Handler(http.server.SimpleHTTPRequestHandler):\n \
         def do_PUT(self):\n  \
          left = int(self.headers['Content-Length'])\n  \
          with open('put', 'wb') as f:\n   \
           while left: data = self.rfile.read(min(left, 1 << 20)); f.write(data); left -= len(data)\n  \
          self.send_response(201); self.end_headers()\n\
        os.chdir(sys.argv[1])\n\
        http.server.ThreadingHTTPServer(('127.0.0.1', 8000), Handler).serve_forever()";
    let _server = Running::start(netns.command("python3").args(["-c", server, path]));
    wait_for_port(&netns, "127.0.0.1", 8000);
    let url = "http://10.0.2.2:8000";
    let script = format!(
        "curl -sS -m 50 {url}/big | cmp - {path}/big && curl -sS -m 50 -T {path}/big {url}/put && echo same"
    );
    let out = sh(&netns, &["--host-loopback"], &script).ok();
    assert_eq!(out.out(), "same\n", "{}", out.err());
    let (sent, put) = (fs::read(folder.path().join("big")), fs::read(folder.path().join("put")));
    assert!(sent.expect("read") == put.expect("read"), "the uploaded file differs");
}

#[test]
fn refused_half_closed_and_published() {
    require!(Need::Root, Need::Program("nc"), Need::Program("python3"));
    let netns = Netns::new();
    let out = sh(&netns, &[], "exec 3<>/dev/tcp/10.0.2.2/9");
    assert!(out.err().contains("Connection refused"), "{}", out.err());
    assert!(sh(&netns, &[], "exec 3<>/dev/tcp/198.51.100.1/9").err().contains("unreachable"));

    // The server answers only when it has seen the end of the question.
    let server = "import socket\ns = socket.create_server(('127.0.0.1', 7000))\nc, _ = s.accept()\nd = b''\n\
        while (p := c.recv(65536)): d += p\nc.sendall(d[::-1]); c.close()";
    let _server = Running::start(netns.command("python3").args(["-c", server]));
    wait_until("the server", LIMIT, || {
        let out = netns.command("ss").args(["-ltn"]).output();
        out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(":7000"))
    });
    let out = sh(&netns, &["--host-loopback"], "printf abc | nc -N -w 10 10.0.2.2 7000").ok();
    assert_eq!(out.out(), "cba");

    let script = "printf from-inside | nc -l -N 80";
    let inside = Running::start(&mut sandbox(&netns, &["-p", "8080:80"], "bash", &["-c", script]));
    let mut got = String::new();
    wait_until("the published port", LIMIT, || {
        let out = netns.command("nc").args(["-w", "2", "127.0.0.1", "8080"]).output().expect("run nc");
        got = String::from_utf8_lossy(&out.stdout).into_owned();
        !got.is_empty()
    });
    assert_eq!(got, "from-inside");
    inside.finish(LIMIT).ok();
}

/// Containers behind the gateway resolve names by it, unless their engine says otherwise.
#[test]
fn containers_find_the_gateways_name_server() {
    require!(Need::Root, Need::Program("busybox"), Need::Program("ip"));
    let bundle = Bundle::new(&["sh", "-c", "cat /etc/resolv.conf; ip route | grep default"]);
    bundle.change(|config| config["root"]["readonly"] = false.into());
    let run = ["--network-link=usernet", "run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"];
    let out = bundle.global(&run).ok();
    assert_eq!(out.out(), "nameserver 10.0.2.3\ndefault via 10.0.2.2 dev eth0 \n");
    let mine = bundle.dir().join("mine");
    fs::write(&mine, "nameserver 192.0.2.9\n").expect("write");
    bundle.change(|config| {
        config["mounts"].as_array_mut().expect("mounts").push(serde_json::json!({
            "destination": "/etc/resolv.conf", "type": "bind", "source": mine, "options": ["bind", "ro"]
        }));
    });
    assert!(bundle.global(&run).ok().out().starts_with("nameserver 192.0.2.9\n"));
}

/// The same flag over a veth pair.
#[test]
fn ports_are_published_over_interfaces_too() {
    require!(Need::Root, Need::Program("python3"), Need::Program("curl"));
    let netns = Netns::new();
    let server = "import http.server, os, socket, threading\n\
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 53))\n\
        def answer():\n \
         while True: d, a = u.recvfrom(2000); u.sendto(d[::-1], a)\n\
        threading.Thread(target=answer, daemon=True).start()\n\
        os.makedirs('/tmp/served'); os.chdir('/tmp/served'); open('page', 'w').write('x' * 3000000)\n\
        http.server.ThreadingHTTPServer(('', 80), http.server.SimpleHTTPRequestHandler).serve_forever()";
    let mut command = netns.command(runsc());
    command.args([
        "do",
        "--quiet",
        "-p",
        "8080:80",
        "-p",
        "5353:53/udp",
        "-p",
        "8081:81",
        "python3",
        "-c",
        server,
    ]);
    let _inside = Running::start(&mut command);
    wait_until("the published port", LIMIT, || {
        let out = netns.command("curl").args(["-sS", "-m", "5", "http://127.0.0.1:8080/page"]).output();
        out.is_ok_and(|out| out.stdout.len() == 3_000_000)
    });
    let ask = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n\
        for n in (1, 1000): s.sendto(b'ab' * n, ('127.0.0.1', 5353)); print(s.recv(3000) == b'ba' * n)\n\
        t = socket.create_connection(('127.0.0.1', 8081), 5); print(t.recv(1))";
    let out = Running::start(netns.command("python3").args(["-c", ask])).finish(LIMIT).ok();
    // Nobody listens behind the last port.
    assert_eq!(out.out(), "True\nTrue\nb''\n", "{}", out.err());
}

#[test]
fn names_pings_and_many_flows() {
    require!(Need::Root, Need::Program("python3"), Need::Program("ping"), Need::Program("nc"));
    let netns = Netns::new();
    netns.ip(&["addr", "add", "192.0.2.1/32", "dev", "lo"]);
    netns
        .inside(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"))
        .expect("permit ping sockets");
    let server = "import asyncio, socket\n\
        async def echo(r, w):\n \
         d = await r.read(-1); w.write(d); await w.drain(); w.close()\n\
        class Names(asyncio.DatagramProtocol):\n \
         def connection_made(self, t): self.t = t\n \
         def datagram_received(self, d, a): self.t.sendto(d[:2] + b'\\x81\\x80' + d[4:], a)\n\
        async def main():\n \
         await asyncio.get_running_loop().create_datagram_endpoint(Names, local_addr=('192.0.2.1', 5300))\n \
         s = await asyncio.start_server(echo, '127.0.0.1', 7000, backlog=2000)\n \
         await s.serve_forever()\n\
        asyncio.run(main())";
    let _server = Running::start(
        netns.command("bash").args(["-c", &format!("ulimit -n 4096; exec python3 -c \"{server}\"")]),
    );
    wait_for_port(&netns, "127.0.0.1", 7000);
    let client = "import asyncio, os, socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n\
        s.sendto(b'ab' + bytes(10) + b'question', ('192.0.2.1', 5300))\n\
        assert s.recv(512)[:4] == b'ab\\x81\\x80'\n\
        async def one(i):\n \
         r, w = await asyncio.open_connection('10.0.2.2', 7000)\n \
         data = os.urandom(2000 + i)\n \
         w.write(data); w.write_eof()\n \
         got = await r.read(-1)\n \
         assert got == data, (i, len(got), len(data)); w.close()\n\
        async def main(): await asyncio.gather(*[one(i) for i in range(1000)])\n\
        asyncio.run(main()); print('all')";
    let script = format!(
        "ulimit -n 4096; ping -c 2 -i 0.2 -W 5 192.0.2.1 | grep -o ' 0% packet loss'; exec python3 -c \"{client}\""
    );
    let out = sh(&netns, &["--host-loopback"], &script).ok();
    assert_eq!(out.out(), " 0% packet loss\nall\n", "{}", out.err());
}

#[test]
fn unprivileged_caller_has_a_network() {
    require!(Need::Root, Need::Program("setpriv"), Need::Program("python3"), Need::Program("nc"));
    let netns = Netns::new();
    let _server = Running::start(netns.command("python3").args([
        "-c",
        "import http.server\nhttp.server.HTTPServer(('127.0.0.1', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()",
    ]));
    wait_for_port(&netns, "127.0.0.1", 8000);
    // The program may be in a folder that the user cannot enter.
    let folder = tempfile::Builder::new().prefix("usernet-").tempdir_in("/tmp").expect("a folder");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    let state = format!("--root={}/state", folder.path().display());
    let program = folder.path().join("runsc");
    fs::copy(runsc(), &program).expect("copy the program");
    let mut command = netns.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    command.args([&state, "do", "--host-loopback", "--", "bash", "-c"]);
    command.arg("exec 3<>/dev/tcp/10.0.2.2/8000; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3");
    let out = Running::start(&mut command).finish(LIMIT).ok();
    assert!(out.out().contains("200 OK"), "{} {}", out.out(), out.err());
}
