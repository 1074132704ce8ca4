//! `/proc/sys/net`: what is written has the effect that it has on Linux, or is refused.

use std::time::Duration;

use integration_tests::{Bundle, Need, Netns, Running, Sandbox, require};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

/// The same script natively, in a namespace of its own, and in the sandbox.
#[test]
fn settings_have_the_effect_that_they_have_on_linux() {
    require!(Need::Root, Need::Program("python3"), Need::Program("ip"));
    let netns = Netns::new();
    let native = Running::start(netns.command("python3").args(["-c", EFFECTS])).finish(LIMIT).ok();
    let sandboxed = Sandbox::new().run("python3", &["-c", EFFECTS]);
    assert_eq!(sandboxed.out(), native.out(), "{}", sandboxed.err());
    assert_eq!(sandboxed.status, 0);
}

/// In Linux these are the machine's, not a namespace's.
#[test]
fn sizes_of_buffers_are_bounded_and_preset() {
    require!(Need::Root, Need::Program("python3"));
    let out = Sandbox::new().run("python3", &["-c", BUFFERS]).ok();
    assert_eq!(out.out(), "20000 30000\n16384 9216\nOSError EACCES\nOSError EINVAL\n", "{}", out.err());
}

#[test]
fn settings_of_a_container_are_made_before_its_program() {
    require!(Need::Root, Need::Program("busybox"));
    let bundle =
        Bundle::new(&["sh", "-c", "cd /proc/sys/net; cat ipv4/ip_unprivileged_port_start core/somaxconn"]);
    let run = ["run", "--bundle", bundle.dir().to_str().expect("UTF-8"), "c"];
    let set = |settings: serde_json::Value| bundle.change(|config| config["linux"]["sysctl"] = settings);
    set(json!({ "net.ipv4.ip_unprivileged_port_start": "0", "net.core.somaxconn": "77", "net.no.such": "1",
        "kernel.shmmax": "1" }));
    assert_eq!(bundle.global(&run).ok().out(), "0\n77\n");
    assert!(bundle.log().contains("kernel.shmmax is not supported"), "{}", bundle.log());
    set(json!({ "net.core.somaxconn": "many" }));
    let out = bundle.global(&run);
    assert_eq!(out.status, 128);
    assert!(out.err().contains("net.core.somaxconn") && out.err().lines().count() == 1, "{}", out.err());
}

const EFFECTS: &str = r"
import errno, os, socket, struct, subprocess
from socket import AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_STREAM
def put(name, value):
    try:
        with open('/proc/sys/net/' + name, 'w') as f: f.write(value)
    except OSError as e: print(name, value, errno.errorcode[e.errno])
def show(name): print(name, open('/proc/sys/net/' + name).read().split())
def code(f):
    try: f(); return 'ok'
    except OSError as e: return errno.errorcode[e.errno]
def bound(port, address='127.0.0.1', kind=SOCK_STREAM):
    s = socket.socket(AF_INET, kind); s.bind((address, port)); return s

put('ipv4/ip_local_port_range', '40000 40003'); show('ipv4/ip_local_port_range')
held = [bound(0) for _ in range(4)]
print(sorted(s.getsockname()[1] for s in held), code(lambda: bound(0)))
held = [bound(0, kind=SOCK_DGRAM) for _ in range(4)]
print(sorted(s.getsockname()[1] for s in held), code(lambda: bound(0, kind=SOCK_DGRAM)))
put('ipv4/ip_local_port_range', '5 4'); put('ipv4/ip_local_port_range', '0 9'); put('ipv4/ip_local_port_range', 'x')
show('ipv4/ip_local_port_range')
put('ipv4/ip_local_port_range', '40000 50000')

def as_nobody(f):
    r, w = os.pipe()
    if os.fork() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534); os.write(w, f().encode()); os._exit(0)
    os.wait(); return os.read(r, 100).decode()
put('ipv4/ip_unprivileged_port_start', '80')
print(as_nobody(lambda: code(lambda: bound(80)) + ' ' + code(lambda: bound(79))))
put('ipv4/ip_unprivileged_port_start', '70000')

ping = lambda: socket.socket(AF_INET, SOCK_DGRAM, socket.IPPROTO_ICMP)
put('ipv4/ping_group_range', '5 6'); show('ipv4/ping_group_range'); print(code(ping))
put('ipv4/ping_group_range', '6 5'); show('ipv4/ping_group_range')
put('ipv4/ping_group_range', '0 0'); print(code(ping), as_nobody(lambda: code(ping)))

put('ipv4/ip_nonlocal_bind', '1'); print(code(lambda: bound(0, '203.0.113.5')))
put('ipv4/ip_nonlocal_bind', '0'); print(code(lambda: bound(0, '203.0.113.5')))

put('ipv4/ip_default_ttl', '33'); put('ipv4/ip_default_ttl', '0')
to = bound(5555, kind=SOCK_DGRAM); to.setsockopt(socket.SOL_IP, 12, 1)
socket.socket(AF_INET, SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 5555))
print([struct.unpack('i', data) for _, _, data in to.recvmsg(9, 99)[1]])

for name, values in (('ipv4/route/min_pmtu', ('67', 'x', '68', '600')),
                     ('ipv4/route/mtu_expires', ('8589935', '8589934', '600')),
                     ('ipv6/route/mtu_expires', ('8589935', '8589934', '600'))):
    for value in values: put(name, value); show(name)

def answered(seconds):
    s = ping(); s.settimeout(seconds); s.sendto(struct.pack('!BBHHH', 8, 0, 0, 0, 1), ('127.0.0.1', 0))
    try: return s.recv(99)[0]
    except TimeoutError: return 'nothing'
print(answered(5)); put('ipv4/icmp_echo_ignore_all', '1'); print(answered(0.3))
put('ipv4/icmp_echo_ignore_all', '0'); print(answered(5))

put('core/somaxconn', '3'); s = bound(0); s.listen(100)
print(subprocess.run(['ss', '-Hltn'], capture_output=True, text=True).stdout.split()[:3]); put('core/somaxconn', '-1')

put('unix/max_dgram_qlen', '3'); r = socket.socket(AF_UNIX, SOCK_DGRAM); r.bind('\0qlen'); sent = 0
w = socket.socket(AF_UNIX, SOCK_DGRAM); w.setblocking(False)
while code(lambda: w.sendto(b'x', '\0qlen')) == 'ok': sent += 1
print(sent)

put('ipv4/ip_forward', '1'); show('ipv4/conf/all/forwarding'); show('ipv4/conf/lo/forwarding')
put('ipv4/conf/lo/rp_filter', '2'); show('ipv4/conf/lo/rp_filter'); put('ipv4/conf/lo/forwarding', '0')
put('ipv4/ip_forward', '0'); show('ipv4/ip_forward'); show('ipv4/conf/lo/forwarding')
print(sorted(os.listdir('/proc/sys/net/ipv4/conf')))
";

const BUFFERS: &str = r"
import errno, socket
def put(name, value):
    try:
        with open('/proc/sys/net/core/' + name, 'w') as f: f.write(value)
    except OSError as e: print('OSError', errno.errorcode[e.errno])
def sizes(s): print(*(s.getsockopt(socket.SOL_SOCKET, o) for o in (socket.SO_RCVBUF, socket.SO_SNDBUF)))
put('rmem_max', '10000'); put('wmem_max', '15000')
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for o in (socket.SO_RCVBUF, socket.SO_SNDBUF): s.setsockopt(socket.SOL_SOCKET, o, 1 << 20)
sizes(s)
put('rmem_default', '16384'); put('wmem_default', '9216'); sizes(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
put('netdev_max_backlog', '5'); put('rmem_max', '1')
";
