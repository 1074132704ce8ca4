# Rules that look at protocols, ports, users and types of service, as ip(8) shows them and as requests of other programs are answered.
# Natively in a namespace, and in the sandbox.
set -u
[ "${1-}" = again ] || exec unshare -n bash "$0" again
ip link set lo up
ip link add v0 type veth peer name v1; ip link add w0 type veth peer name w1
for device in v0 v1 w0 w1; do ip link set $device up; done
ip addr add 10.1.0.1/24 dev v0; ip addr add 10.2.0.1/24 dev w0
ip -6 addr add 2001:db8:1::1/64 dev v0 nodad; ip -6 addr add 2001:db8:2::1/64 dev w0 nodad
ip route add default via 10.1.0.254; ip route add default via 10.2.0.254 table 100
ip -6 route add default via 2001:db8:1::fe; ip -6 route add default via 2001:db8:2::fe table 100
show() { echo "== $*"; "$@" 2>&1 | sed -e 's/cache.*//; s/ *$//; /^fe80/d'; }
attempt() { echo "++ $*"; "$@" 2>&1; echo "-> $?"; }

attempt ip rule add pref 10 ipproto tcp table 100
attempt ip rule add pref 10 ipproto tcp table 100
attempt ip rule add pref 11 ipproto udp sport 100-200 dport 53 table 100
attempt ip rule add pref 11 ipproto udp sport 100-200 dport 54 table 100
attempt ip rule add pref 12 sport 0 table 100
attempt ip rule add pref 12 sport 200-100 table 100
attempt ip rule add pref 12 dport 0-10 table 100
attempt ip rule add pref 12 dport 65535 table 100
attempt ip rule add pref 13 uidrange 10-5 table 100
attempt ip rule add pref 13 uidrange 5-10 table 100
attempt ip rule add pref 13 uidrange 5-11 table 100
attempt ip rule add pref 14 uidrange 0-4294967294 blackhole
attempt ip rule del pref 14
attempt ip rule add pref 15 tos 0x10 table 100
attempt ip rule add pref 15 tos 0x20 table 100
attempt ip rule add pref 15 tos 0x11 table 100
attempt ip -6 rule add pref 15 tos 0x20 table 100
attempt ip -6 rule add pref 15 tos 0x11 table 100
attempt ip rule add pref 16 protocol bird fwmark 4 table 100
attempt ip rule add pref 16 protocol bird fwmark 4 table 100
attempt ip rule add pref 16 protocol static fwmark 4 table 100
attempt ip rule add pref 5 goto 3
attempt ip -6 rule add pref 17 ipproto ipv6-icmp unreachable
attempt ip -6 rule add pref 18 not sport 1-1023 table 100
show ip rule
show ip -d rule
show ip -6 -d rule
show ip rule list protocol bird
attempt ip rule del ipproto udp dport 55
attempt ip rule del ipproto icmp
attempt ip rule del ipproto udp
attempt ip rule del uidrange 5-12
attempt ip rule del uidrange 5-11
attempt ip rule del tos 0x04
attempt ip rule del tos 0x10
attempt ip rule del protocol static
attempt ip rule del sport 100-200
attempt ip rule del dport 65534
attempt ip rule del dport 65535
attempt ip -6 rule del ipproto tcp
attempt ip -6 rule del not sport 1-1023
show ip rule

# What `ip route get` is told about the packet.
ip rule add pref 20 ipproto udp dport 53 table 100; ip rule add pref 21 uidrange 7-9 table 100
ip rule add pref 22 tos 0x08 table 100; ip rule add pref 23 sport 99 table 100
ip -6 rule del pref 17; ip -6 rule del pref 15; ip rule del pref 10; ip rule del pref 13
ip -6 rule add pref 20 ipproto ipv6-icmp table 100; ip -6 rule add pref 21 uidrange 7-9 table 100
for what in "" "ipproto udp" "ipproto udp dport 53" "dport 53" "ipproto icmp" "ipproto sctp" "uid 7" "uid 10" "tos 0x08" "tos 0x0b" \
    "tos 0x28" "sport 99" "ipproto tcp sport 99"; do
    show ip route get 192.0.3.1 $what
done
echo 1 > /proc/sys/net/ipv4/ip_forward
show ip route get 192.0.3.1 from 10.9.0.1 iif v0
show ip route get 192.0.3.1 from 10.9.0.1 iif v0 ipproto udp dport 53
show ip route get 192.0.3.1 from 10.9.0.1 iif v0 tos 0x08
for what in "" "ipproto ipv6-icmp" "ipproto icmp" "ipproto udp" "uid 9"; do show ip -6 route get 2001:db8:77::5 $what; done
for family in 4 6; do
    ip -$family rule add pref 9 ipproto udp table 100
    ip -$family rule add pref 8 ipproto tcp unreachable
done
show ip route get 192.0.3.1
show ip route get 192.0.3.1 from 10.9.0.1 iif v0
show ip -6 route get 2001:db8:77::5
for pref in 9 8; do ip -6 rule del pref $pref; done
ip rule show | while read -r pref _; do
    case $pref in 0:|32766:|32767:) ;; *) ip rule del pref ${pref%:} ;; esac
done
ip -6 rule del pref 20; ip -6 rule del pref 21

# Requests that ip(8) does not make: code points, masks of ports, and what is wrong with others.
python3 - <<'P'
import socket, struct
def attribute(kind, value):
    return struct.pack("HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
def byte(kind, value): return attribute(kind, bytes([value]))
def half(kind, value): return attribute(kind, struct.pack("H", value))
def word(kind, value): return attribute(kind, struct.pack("I", value))
def ports(kind, first, last): return attribute(kind, struct.pack("HH", first, last))
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.setsockopt(270, 11, 1); netlink.setsockopt(270, 10, 1)
def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack("HH", data[:4])
        yield kind, data[4:length]
        data = data[(length + 3) & ~3:]
def ask(kind, flags, body):
    "The error, the text and the offset."
    netlink.send(struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    answer = netlink.recv(65536)
    error, = struct.unpack("i", answer[16:20])
    said = dict(attributes(answer[36:]))
    return error, said.get(1, b"").rstrip(b"\0").decode(), struct.unpack("I", said[2])[0] if 2 in said else None
def request(kind, name, more=b"", family=2, tos=0, table=100, action=1, pref=10, flags=0x605, header=b""):
    body = struct.pack("BBBBBBBBI", family, 0, 0, tos, table, 0, 0, action, 0)
    body = (header or body) + (word(6, pref) if pref else b"") + more
    print(name, *ask(kind, flags, body))
def add(*a, **k): request(32, *a, **k)
def delete(*a, **k): request(33, *a, flags=5, pref=0, **k)
def dump(family):
    netlink.send(struct.pack("IHHII", 28, 34, 0x301, 1, 0) + struct.pack("BBBBBBBBI", family, *[0] * 8))
    data = netlink.recv(65536)
    while len(data) >= 16:
        length, kind = struct.unpack("IH", data[:6])
        message, data = data[16:length], data[(length + 3) & ~3:]
        if kind != 3:
            print(message[:12].hex(), *sorted(f"{kind}:{value.hex()}" for kind, value in attributes(message[12:])))
for family in (2, 10):
    add("code point", byte(25, 8), family=family)
    add("another", byte(25, 64), family=family)
    add("with a type of service", byte(25, 8), family=family, tos=16)
    add("zero", byte(25, 0), family=family, pref=11)
    add("mask alone", byte(30, 8), family=family)
    add("under a mask", byte(25, 8) + byte(30, 0x38), family=family, pref=12)
    add("beside its mask", byte(25, 9) + byte(30, 0x38), family=family, pref=12)
    add("too wide a mask", byte(25, 8) + byte(30, 0x78), family=family, pref=12)
    add("mask and type of service", byte(30, 0x38), family=family, tos=16)
    add("exists", byte(25, 8), family=family)
    delete("code point 9", byte(25, 9), family=family)
    delete("type of service", family=family, tos=0x20)
    delete("mask", byte(30, 0x30), family=family)
    dump(family)
    delete("code point and mask", byte(25, 8) + byte(30, 0x38), family=family)
    delete("code point", byte(25, 8), family=family)
    delete("zero", byte(25, 0), family=family)
for range, mask in ((23, 28), (24, 29)):
    add("port", ports(range, 3, 3), pref=13)
    add("port under a mask", ports(range, 0x100, 0x100) + half(mask, 0xff00), pref=13)
    add("mask alone", half(mask, 0xff00), pref=14)
    add("range and mask", ports(range, 1, 5) + half(mask, 0xff00), pref=14)
    add("beside its mask", ports(range, 0x101, 0x101) + half(mask, 0xff00), pref=14)
    add("empty mask", ports(range, 3, 3) + half(mask, 0), pref=14)
    add("all bits of a range", ports(range, 1, 5) + half(mask, 0xffff), pref=14)
    add("all bits", ports(range, 3, 3) + half(mask, 0xffff), pref=13)
    dump(2)
    delete("mask alone", half(mask, 0xff00))
    delete("another mask", ports(range, 0x100, 0x100) + half(mask, 0xf100))
    delete("its mask", ports(range, 0x100, 0x100) + half(mask, 0xff00))
    delete("port", ports(range, 3, 3))
add("short range of users", word(20, 5))
add("no user", attribute(20, struct.pack("II", 5, 0xffffffff)))
add("short range of ports", half(23, 5))
add("no protocol", attribute(22, b""))
add("long protocol", attribute(22, b"\6\0"), pref=16)
add("protocol 0", byte(22, 0), pref=17)
add("flow label", attribute(26, struct.pack(">I", 5)), pref=18)
add("goto without a rule", action=2)
add("goto for another action", word(4, 50))
add("backward", word(4, 5), action=2)
add("no source", header=struct.pack("BBBBBBBBI", 2, 0, 8, 0, 100, 0, 0, 1, 0))
add("no destination", header=struct.pack("BBBBBBBBI", 2, 8, 0, 0, 100, 0, 0, 1, 0))
add("long prefix", attribute(1, bytes(4)), header=struct.pack("BBBBBBBBI", 2, 33, 0, 0, 100, 0, 0, 1, 0))
add("no family", family=1)
add("no table", family=10, table=0)
add("long name", attribute(3, b"x" * 16))
print("short", *ask(32, 0x605, b"\2\0"))
# What exists.
add("source", attribute(2, bytes([10, 0, 0, 0])), header=struct.pack("BBBBBBBBI", 2, 0, 8, 0, 100, 0, 0, 1, 0), pref=20)
add("any source", pref=20)
add("plain", pref=21)
add("inverted", header=struct.pack("BBBBBBBBI", 2, 0, 0, 0, 100, 0, 0, 1, 2), pref=21)
add("with a protocol", byte(22, 6), pref=21)
add("of a program", byte(21, 9), pref=21)
add("type of service", tos=16, pref=22)
add("none", pref=22)
add("another", tos=8, pref=22)
delete("nobody's", byte(21, 8))
delete("program's", byte(21, 9))
delete("without", byte(22, 7))
dump(2)
P
