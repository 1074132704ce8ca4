//! `--network=host`: guests over the sockets of the namespace in which the runtime was started.

use std::time::Duration;

use integration_tests::{Finished, Need, Netns, Running, Sandbox, require, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

#[track_caller]
fn native(netns: &Netns, program: &str, script: &str) -> Finished {
    Running::start(netns.command(program).args(["-c", script])).finish(LIMIT).ok()
}

/// The same program natively and in the sandbox, in one namespace.
#[track_caller]
fn assert_same_python(script: &str) {
    require!(Need::Root, Need::Program("python3"));
    let netns = Netns::new();
    let expected = native(&netns, "python3", script);
    let got = Sandbox::sharing(&netns).run("python3", &["-c", script]);
    assert_eq!(got.out(), expected.out(), "{}", got.err());
    assert_eq!(got.status, 0);
}

#[test]
fn connections_and_their_ends() {
    assert_same_python(CONNECTIONS);
}

#[test]
fn datagrams_with_what_travels_beside_them() {
    assert_same_python(DATAGRAMS);
}

#[test]
fn fifty_echoes_at_once() {
    assert_same_python(ECHOES);
}

#[test]
fn downloads_in_both_directions() {
    require!(Need::Root, Need::Program("python3"), Need::Program("curl"));
    let folder = tempfile::tempdir().expect("a folder");
    let data: Vec<u8> = (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(folder.path().join("big"), &data).expect("write");
    let path = folder.path().to_str().expect("a UTF-8 path");
    let serve = ["-m", "http.server", "8000", "--bind", "127.0.0.1", "--directory", path];
    let fetch = format!("curl -sS -m 50 http://127.0.0.1:8000/big | cmp - {path}/big && echo same");

    let netns = Netns::new();
    let server = Running::start(&mut Sandbox::sharing(&netns).command("python3", &serve));
    wait_for_port(&netns);
    assert_eq!(native(&netns, "bash", &fetch).out(), "same\n");
    drop(server);

    let netns = Netns::new();
    let _server = Running::start(netns.command("python3").args(serve));
    wait_for_port(&netns);
    let got = Sandbox::sharing(&netns).sh(&fetch).ok();
    assert_eq!(got.out(), "same\n", "{}", got.err());
}

fn wait_for_port(netns: &Netns) {
    wait_until("port 8000", Duration::from_secs(30), || {
        netns.inside(|| std::net::TcpStream::connect("127.0.0.1:8000").is_ok())
    });
}

#[test]
fn interfaces_are_the_hosts_and_cannot_be_changed() {
    require!(Need::Root, Need::Program("ip"), Need::Program("busybox"));
    let netns = Netns::new();
    let other = Netns::new();
    netns.veth(("eth7", "10.9.8.1/24"), &other, ("eth8", "10.9.8.2/24"));
    netns.ip(&["route", "add", "default", "via", "10.9.8.2"]);
    let look = "ip -o addr show eth7 | tr -s ' ' | cut -d' ' -f2-4 | grep -v inet6; ip route; \
                busybox ifconfig eth7 | grep -o 'addr:10.9.8.1 '; ip -o link show eth7 | grep -o 'mtu [0-9]*'";
    let expected = native(&netns, "bash", look);
    let got = Sandbox::sharing(&netns).sh(look);
    assert_eq!(got.out(), expected.out(), "{}", got.err());
    let change = Sandbox::sharing(&netns)
        .sh("ip addr add 10.1.1.1/24 dev eth7 2>&1; ip link set eth7 down 2>&1; \
        busybox ifconfig eth7 mtu 1000 2>&1; true");
    assert_eq!(change.out().matches("Operation not permitted").count(), 3, "{}", change.out());
    assert_eq!(native(&netns, "bash", look).out(), expected.out());
}

/// Lists of sockets and interfaces are the host's, whether asked for over netlink or read from /proc.
#[test]
fn lists_show_the_hosts_sockets_and_interfaces() {
    require!(Need::Root, Need::Program("ss"), Need::Program("python3"));
    let (netns, other) = (Netns::new(), Netns::new());
    netns.veth(("eth7", "10.9.8.1/24"), &other, ("eth8", "10.9.8.2/24"));
    netns.ip(&["route", "add", "default", "via", "10.9.8.2"]);
    let server = "import socket, time\ns = socket.create_server(('127.0.0.1', 8000))\n\
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 8001)); time.sleep(60)";
    let _server = Running::start(netns.command("python3").args(["-c", server]));
    wait_for_port(&netns);
    // Without the columns that count up.
    let look = "ss -Hltn; ss -Hlun; ss -Hltn sport = 8000; cat /proc/net/route; \
        cut -d: -f1 /proc/net/dev | tail -n +3 | sort; awk '$4 == \"0A\" { print $2, $3 }' /proc/net/tcp; awk '{ print $2, $3 }' /proc/net/udp";
    let expected = native(&netns, "bash", look);
    assert!(expected.out().contains(":8000") && expected.out().contains("1F40"), "{}", expected.out());
    let got = Sandbox::sharing(&netns).sh(look);
    assert_eq!(got.out(), expected.out(), "{}", got.err());
    // Those of local sockets are the sandbox's own.
    let own = "python3 -c 'import socket, time; s = socket.socket(socket.AF_UNIX); s.bind(\"\\0mine\"); s.listen(); \
        print(open(\"/proc/net/unix\").read().count(\"@mine\"))'; ss -Hxl | wc -l";
    assert_eq!(Sandbox::sharing(&netns).sh(own).ok().out(), "1\n0\n");
    let refused = "echo 5 > /proc/sys/net/core/somaxconn";
    let refused = Sandbox::sharing(&netns).sh(refused);
    assert!(refused.err().contains("Operation not permitted"), "{}", refused.err());
}

#[test]
fn abstract_names_of_the_host_do_not_pass() {
    require!(Need::Root, Need::Program("python3"));
    let netns = Netns::new();
    let name = format!("test-{}", std::process::id());
    let serve = format!(
        "import socket, time\ns = socket.socket(socket.AF_UNIX); s.bind('\\0{name}'); s.listen(); \
         t = socket.create_server(('127.0.0.1', 8000)); time.sleep(60)"
    );
    let _server = Running::start(netns.command("python3").args(["-c", &serve]));
    wait_for_port(&netns);
    let connect = format!(
        "import socket\ntry: socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('connected')\n\
        except OSError as e: print(e.strerror)"
    );
    assert_eq!(native(&netns, "python3", &connect).out(), "connected\n");
    let got = Sandbox::sharing(&netns).run("python3", &["-c", &connect]);
    assert_eq!(got.out(), "Connection refused\n");
}

#[test]
fn ping_works_where_the_host_allows_ping_sockets() {
    require!(Need::Root, Need::Program("ping"));
    let netns = Netns::new();
    let ping = || Sandbox::sharing(&netns).run("ping", &["-c", "1", "-W", "5", "127.0.0.1"]);
    // A new namespace allows no group.
    assert_eq!(ping().status, 2);
    netns.inside(|| std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")).expect("permit");
    assert!(ping().ok().out().contains(" 0% packet loss"));
}

#[test]
fn options_reach_the_host() {
    assert_same_python(OPTIONS);
}

const OPTIONS: &str = r"
import socket, errno, struct
def show(s, *names):
    for level, name in names:
        try: print(level, name, s.getsockopt(level, name))
        except OSError as e: print(level, name, errno.errorcode[e.errno])
def put(s, level, name, value):
    try: s.setsockopt(level, name, value)
    except OSError as e: print('set', level, name, errno.errorcode[e.errno])
S, T, I = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.SOL_IP
l = socket.create_server(('127.0.0.1', 0)); s = socket.create_connection(l.getsockname()); a, _ = l.accept()
for level, name, value in [(S, socket.SO_KEEPALIVE, 1), (S, socket.SO_RCVBUF, 5000), (S, socket.SO_SNDBUF, 70000),
        (S, socket.SO_PRIORITY, 3), (T, socket.TCP_NODELAY, 1), (T, socket.TCP_KEEPIDLE, 77), (T, socket.TCP_MAXSEG, 999),
        (T, socket.TCP_USER_TIMEOUT, 1234), (I, socket.IP_TOS, 16), (I, socket.IP_TTL, 9), (S, socket.SO_LINGER, 5)]:
    put(s, level, name, value)
show(s, (S, socket.SO_KEEPALIVE), (S, socket.SO_RCVBUF), (S, socket.SO_SNDBUF), (S, socket.SO_PRIORITY), (S, socket.SO_TYPE),
    (T, socket.TCP_NODELAY), (T, socket.TCP_KEEPIDLE), (T, socket.TCP_USER_TIMEOUT), (I, socket.IP_TOS), (I, socket.IP_TTL),
    (S, socket.SO_ERROR), (S, socket.SO_ACCEPTCONN), (S, socket.SO_DOMAIN), (S, socket.SO_PROTOCOL))
put(s, S, socket.SO_LINGER, struct.pack('ii', 1, 0)); print(s.getsockopt(S, socket.SO_LINGER, 8))
put(s, T, socket.TCP_CONGESTION, b'reno'); print(s.getsockopt(T, socket.TCP_CONGESTION, 16))
show(l, (S, socket.SO_ACCEPTCONN)); s.close()
try: a.recv(1)
except OSError as e: print(errno.errorcode[e.errno])
";

const CONNECTIONS: &str = r"
import socket, errno, select, struct
def fails(f):
    try: print('no error', f())
    except OSError as e: print(errno.errorcode[e.errno])
s = socket.create_server(('127.0.0.1', 0)); at = s.getsockname()
c = socket.create_connection(at); a, _ = s.accept()
print(a.getpeername() == c.getsockname())
c.sendall(b'hello'); print(a.recv(3, socket.MSG_PEEK), a.recv(10))
fails(lambda: socket.create_connection(('127.0.0.1', 1)))
n = socket.socket(); n.setblocking(False); print(errno.errorcode[n.connect_ex(at)])
select.select([], [n], [], 5)
print(n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), n.connect_ex(at), errno.errorcode[n.connect_ex(at)])
n = socket.socket(); n.setblocking(False); n.connect_ex(('127.0.0.1', 1))
p = select.poll(); p.register(n, select.POLLOUT); print([e for _, e in p.poll(5000)])
print(errno.errorcode[n.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)])
c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 20000)); fails(lambda: c.recv(1))
c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 0))
e = select.epoll(); e.register(a, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
print(e.poll(0)); c.shutdown(socket.SHUT_WR); print([b for _, b in e.poll(5)], a.recv(10))
a.close(); print(c.recv(10))
fails(lambda: c.send(b'x'))
t = socket.socket(); t.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print(t.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), len(t.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)))
d = socket.socket(socket.AF_INET6); d.setsockopt(41, 26, 0); d.bind(('::', 0)); d.listen()
socket.create_connection(('127.0.0.1', d.getsockname()[1])); print(d.accept()[1][0])
s = socket.create_server(('127.0.0.1', 0)); at = s.getsockname()
big = bytes(range(256)) * 40000
c = socket.create_connection(at); a, _ = s.accept(); c.setblocking(False)
sent = got = 0
while got < len(big):
    try: sent += c.send(big[sent:]) if sent < len(big) else 0
    except BlockingIOError: pass
    d = a.recv(100000); assert d == big[got:got + len(d)]; got += len(d)
print(sent, got)
";

const DATAGRAMS: &str = r"
import socket, errno, struct
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 0)); to = u.getsockname()
u.setsockopt(socket.SOL_IP, 8, 1); u.setsockopt(socket.SOL_IP, 12, 1) # IP_PKTINFO, IP_RECVTTL
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v.sendmsg([b'abc' * 1000], [(socket.SOL_IP, socket.IP_TTL, struct.pack('i', 9))], 0, to)
d, control, flags, _ = u.recvmsg(10, 200); print(d, sorted(control), bool(flags & socket.MSG_TRUNC))
v.sendto(b'abc', to); print(u.recv_into(bytearray(1), 0, socket.MSG_TRUNC | socket.MSG_PEEK), u.recv(9))
v.sendto(b'', to); print(u.recv(10))
for n in (1, 1473, 60000): v.sendto(b'x' * n, to); print(len(u.recv(70000)))
try: v.sendto(b'x' * 70000, to)
except OSError as e: print(errno.errorcode[e.errno])
v.connect(('127.0.0.1', 9)); v.send(b'x')
try: v.recv(1)
except OSError as e: print(errno.errorcode[e.errno])
";

const ECHOES: &str = r"
import asyncio, os
async def main():
    async def echo(r, w):
        while d := await r.read(65536): w.write(d); await w.drain()
        w.close()
    server = await asyncio.start_server(echo, '127.0.0.1', 0, backlog=512)
    at = server.sockets[0].getsockname()
    async def one(i):
        r, w = await asyncio.open_connection(*at); d = os.urandom(100000 + i)
        w.write(d); w.write_eof(); assert await r.read(-1) == d; w.close()
    await asyncio.gather(*[one(i) for i in range(50)]); print('all')
asyncio.run(main())
";
