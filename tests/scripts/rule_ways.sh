# Where packets go by rules that look at protocols, ports, users and types of service: those of sockets, answers, and packets of others.
# Natively in a namespace, and in the sandbox.
set -u
[ "${1-}" = again ] || exec unshare -n bash "$0" again
ip link set lo up
ip link add v0 type veth peer name v1; ip link add w0 type veth peer name w1
for device in v0 v1 w0 w1; do ip link set $device up; done
ip addr add 10.1.0.1/24 dev v0; ip addr add 10.2.0.1/24 dev w0
ip -6 addr add 2001:db8:1::1/64 dev v0 nodad; ip -6 addr add 2001:db8:2::1/64 dev w0 nodad
mac=02:00:00:00:00:99
ip neigh add 10.1.0.254 lladdr $mac dev v0; ip neigh add 10.2.0.254 lladdr $mac dev w0
ip neigh add 2001:db8:1::fe lladdr $mac dev v0; ip neigh add 2001:db8:2::fe lladdr $mac dev w0
ip route add default via 10.1.0.254; ip route add default via 10.2.0.254 table 100
ip -6 route add default via 2001:db8:1::fe; ip -6 route add default via 2001:db8:2::fe table 100
for device in v0 w0; do echo 0 > /proc/sys/net/ipv4/conf/$device/rp_filter; done
echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter

python3 - <<'P'
import os, select, socket, struct, subprocess
sniffers = {}
for device in ("v1", "w1"):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind((device, 3)); s.setblocking(False)
    sniffers[s] = device[0]
rules = []
def rule(text, family=4):
    arguments = ["ip", f"-{family}", "rule", "add", "pref", "10", *text.split(), "table", "100"]
    subprocess.run(arguments, check=True); rules.append(arguments)
def clean():
    for arguments in rules: subprocess.run([*arguments[:3], "del", *arguments[4:]], check=True)
    rules.clear()
count = 0
def fresh(family):
    global count; count += 1
    return f"192.0.2.{count}" if family == 4 else f"2001:db8:77::{count:x}"
def way(send, to):
    "Where what `send` does to `to` comes out."
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    needle = socket.inet_pton(family, to)
    try: keep = send(to)
    except OSError as e: return e.strerror
    for _ in range(200):
        ready, _, _ = select.select(list(sniffers), [], [], 3)
        if not ready: return "nowhere"
        for s in ready:
            frame, where = s.recvfrom(4096)
            if where[2] == socket.PACKET_OUTGOING: continue
            at = (30, 34) if family == socket.AF_INET else (38, 54)
            if frame[12:14] == (b"\x08\x00" if family == socket.AF_INET else b"\x86\xdd") and frame[at[0]:at[1]] == needle:
                return sniffers[s]
def sock(family, kind, proto=0, sport=0, tos=0, uid=None, mark=0):
    s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, proto)
    if tos: s.setsockopt(*((0, 1) if family == 4 else (41, 67)), tos)
    if uid is not None: os.fchown(s.fileno(), uid, -1)
    if sport: s.bind(("" if family == 4 else "::", sport))
    return s
def udp(family, dport=53, connected=False, **k):
    def send(to):
        s = sock(family, socket.SOCK_DGRAM, **k)
        if connected: s.connect((to, dport)); s.send(b"x")
        else: s.sendto(b"x", (to, dport))
        return s
    return way(send, fresh(family))
def tcp(family, dport=80, **k):
    def send(to):
        s = sock(family, socket.SOCK_STREAM, **k); s.setblocking(False)
        try: s.connect((to, dport))
        except BlockingIOError: pass
        return s
    return way(send, fresh(family))
def ping(family, raw=False, **k):
    def send(to):
        proto = 1 if family == 4 else 58
        s = sock(family, socket.SOCK_RAW if raw else socket.SOCK_DGRAM, proto, **k)
        s.sendto(struct.pack("BBHHH", 8 if family == 4 else 128, 0, 0xf7ff - (0x7800 if family == 6 else 0), 0, 0), (to, 0))
        return s
    return way(send, fresh(family))
def say(name, *results): print(f"{name}:", *results)

open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 2147483647")
for family in (4, 6):
    icmp = "icmp" if family == 4 else "ipv6-icmp"
    say("nothing", udp(family), tcp(family), ping(family), ping(family, raw=True))
    rule("ipproto udp", family); say("udp", udp(family), udp(family, connected=True), tcp(family), ping(family)); clean()
    rule("ipproto tcp", family); say("tcp", udp(family), tcp(family), ping(family)); clean()
    rule(f"ipproto {icmp}", family); say("icmp", udp(family), tcp(family), ping(family), ping(family, raw=True)); clean()
    rule("dport 50-60", family)
    say("dport", udp(family, 53), udp(family, 61), udp(family, 60, True), tcp(family, 50), tcp(family, 49), ping(family)); clean()
    rule("not dport 50-60", family); say("not dport", udp(family, 53), udp(family, 61), tcp(family, 50), ping(family)); clean()
    rule("sport 2000-3000", family)
    say("sport", udp(family, sport=2000), udp(family, sport=3001), udp(family, connected=True, sport=2500), tcp(family, sport=3000), tcp(family, sport=1999)); clean()
    # The ports that the system gives.
    rule("sport 1024-65534", family); say("any sport", udp(family), udp(family, connected=True), tcp(family)); clean()
    rule("uidrange 7-9", family)
    say("uid", udp(family), udp(family, uid=7), udp(family, connected=True, uid=9), tcp(family, uid=8), tcp(family, uid=10), ping(family, uid=8), ping(family, raw=True, uid=8)); clean()
    for tos, wanted in (("0x10", (0, 0x10, 0x13, 0x30, 0x14)), ("0x1c", (0x1c, 0xfc))) + ((("0xb8", (0x18, 0xb8)),) if family == 6 else ()):
        rule(f"tos {tos}", family)
        for value in wanted: say(f"tos {tos} {value:#x}", udp(family, tos=value), tcp(family, tos=value), ping(family, tos=value), ping(family, raw=True, tos=value))
        clean()
    # One socket, several destinations and settings.
    s = sock(family, socket.SOCK_DGRAM); host = fresh(family)
    rule("ipproto udp dport 53", family)
    say("in turn", *(way(lambda to, port=port: s.sendto(b"x", (to, port)), host) for port in (53, 54, 53, 53, 54, 54)))
    clean()
    say("afterwards", way(lambda to: s.sendto(b"x", (to, 53)), host))
    rule("uidrange 5-5", family); os.fchown(s.fileno(), 5, -1)
    say("changed owner", way(lambda to: s.sendto(b"x", (to, 53)), host))
    os.fchown(s.fileno(), 6, -1)
    say("and again", way(lambda to: s.sendto(b"x", (to, 53)), host)); clean()
    rule("tos 0x08", family)
    for value in (8, 0):
        s.setsockopt(*((0, 1) if family == 4 else (41, 67)), value)
        say("changed class", way(lambda to: s.sendto(b"x", (to, 53)), host))
    message = [((0, 1) if family == 4 else (41, 67)) + (struct.pack("i", 8),)]
    say("class of a message", way(lambda to: s.sendmsg([b"x"], message, 0, (to, 53)), host), way(lambda to: s.sendto(b"x", (to, 53)), host))
    clean()

# Packets of others, and answers: they come in at the other end of the cable.
def checksum(data):
    data += b"\0" * (len(data) % 2); total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
near = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); near.bind(("v0", 0)); mac = near.getsockname()[4]
inject = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); inject.bind(("v1", 0))
def packet(family, source, to, proto, payload, tos=0, fragment=0):
    if family == 4:
        ends = socket.inet_aton(source) + socket.inet_aton(to)
        head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + len(payload), 77, fragment, 64, proto, 0) + ends
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]; kind = b"\x08\x00"
    else:
        ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
        head = struct.pack(">IHBB", 6 << 28 | tos << 20, len(payload), proto, 64) + ends; kind = b"\x86\xdd"
    inject.send(mac + b"\2\0\0\0\0\x99" + kind + head + payload)
def summed(family, source, to, proto, payload, at):
    pton = lambda a: socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, a)
    pseudo = pton(source) + pton(to) + struct.pack(">IBBBB", len(payload), 0, 0, 0, proto)
    return payload[:at] + struct.pack(">H", checksum(pseudo + payload)) + payload[at + 2:]
def udp_of(family, source, to, sport, dport):
    return summed(family, source, to, 17, struct.pack(">HHHH", sport, dport, 9, 0) + b"x", 6)
def tcp_of(family, source, to, sport, dport, flags):
    return summed(family, source, to, 6, struct.pack(">HHIIBBHHH", sport, dport, 1, 0, 0x50, flags, 1000, 0, 0), 16)
open("/proc/sys/net/ipv4/ip_forward", "w").write("1"); open("/proc/sys/net/ipv6/conf/all/forwarding", "w").write("1")
OWN = {4: "10.1.0.1", 6: "2001:db8:1::1"}; OTHER = {4: "203.0.113.9", 6: "2001:db8:99::9"}
for family in (4, 6):
    def crossing(dport=53, sport=9, proto=17, tos=0, fragment=0):
        def send(to):
            body = udp_of(family, OTHER[family], to, sport, dport) if proto == 17 else tcp_of(family, OTHER[family], to, sport, dport, 2)
            if family == 6 and fragment: packet(6, OTHER[6], to, 44, struct.pack(">BBHI", proto, 0, 1 if fragment == 0x2000 else 8, 5) + body + b"0" * (-len(body) % 8)); return
            packet(family, OTHER[family], to, proto, body + b"0" * (-len(body) % 8 if fragment else 0), tos, fragment)
        return way(send, fresh(family))
    def answered(make, to=None):
        to = to or fresh(family).replace("192.0.2.", "198.51.100.").replace(":77:", ":78:")
        return way(make, to)
    say("crossing", crossing())
    for text in ("ipproto udp", "dport 53", "ipproto udp sport 9", "uidrange 0-0", "uidrange 1-9", "not ipproto tcp", "iif v0 dport 53", "iif lo dport 53"):
        rule(text, family); say(f"crossing {text}", crossing(), crossing(80, 8, 6), crossing(54), crossing(fragment=0x2000), crossing(fragment=1)); clean()
    rule("tos 0x10", family); say("crossing tos", *(crossing(tos=tos) for tos in (0, 0x10, 0x13, 0x30))); clean()
    listener = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6); listener.bind(("", 8000)); listener.listen()
    os.fchown(listener.fileno(), 7, -1)
    syn = lambda port: lambda to: packet(family, to, OWN[family], 6, tcp_of(family, to, OWN[family], 4000, port, 2))
    echo = lambda tos: lambda to: packet(family, to, OWN[family], 1 if family == 4 else 58, summed(family, to, OWN[family], 58, b"\x80\0\0\0abcd", 2) if family == 6 else b"\x08\0" + struct.pack(">H", checksum(b"\x08\0\0\0abcd")) + b"abcd", tos)
    closed = lambda to: packet(family, to, OWN[family], 17, udp_of(family, to, OWN[family], 4000, 9999))
    for text in ("ipproto tcp", "ipproto udp", "ipproto " + ("icmp" if family == 4 else "ipv6-icmp"), "sport 8000", "dport 4000", "uidrange 7-7", "uidrange 0-0", "tos 0x10"):
        rule(text, family)
        say(f"answers {text}", answered(syn(8000)), answered(syn(8001)), answered(echo(0)), answered(echo(0x10)), answered(closed)); clean()
    listener.close()
P
