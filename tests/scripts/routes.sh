# Routes and the rules that choose among their tables, as ip(8) shows them and as packets find them. Natively in a namespace, and
# in the sandbox.
set -u
[ "${1-}" = again ] || exec unshare -n bash "$0" again
log="${TMPDIR:-/tmp}/routes.$$"
trap 'rm -f "$log"' EXIT
ip link set lo up
ip link add v0 type veth peer name v1; ip link add w0 type veth peer name w1
for device in v0 v1 w0 w1; do ip link set $device up; done
ip addr add 10.1.0.1/24 dev v0; ip addr add 10.2.0.1/24 dev w0
ip -6 addr add 2001:db8:1::1/64 dev v0 nodad; ip -6 addr add 2001:db8:2::1/64 dev w0 nodad
# What the cache says varies; link-local networks come when their devices are ready.
show() { echo "== $*"; "$@" 2>&1 | sed -e 's/cache.*//; s/ *$//; /^fe80/d'; }
attempt() { echo "++ $*"; "$@" 2>&1; echo "-> $?"; }
# It complains of names of namespaces of the host, which are none in the sandbox.
ip monitor route rule > "$log" 2> /dev/null & monitor=$!
until ip rule add pref 1 fwmark 0xfffe table 7 && ip rule del pref 1 && grep -q fffe "$log"; do sleep 0.1; done

attempt ip route add default via 10.1.0.254
attempt ip -6 route add default via 2001:db8:1::fe
attempt ip -6 route add 2001:db8:9::/64 via 2001:db8:2::fe metric 77 proto static
attempt ip route add 192.0.2.0/24 nexthop via 10.1.0.254 weight 1 nexthop via 10.2.0.254 weight 3
attempt ip route add 192.0.2.0/24 via 10.1.0.253 metric 5 proto bird
attempt ip -6 route add 2001:db8:a::/64 nexthop via 2001:db8:1::fe weight 2 nexthop via 2001:db8:2::fe
attempt ip route add 192.0.2.0/24 via 10.1.0.254
show ip route
show ip -6 route show table main
show ip route show 192.0.2.0/24
show ip route show proto bird
show ip route get 192.0.3.1
attempt ip route add default via 10.2.0.254 table 100
attempt ip rule add fwmark 7 table 100
attempt ip rule add from 10.2.0.1 table 100
attempt ip rule add fwmark 7 table 100
show ip route get 192.0.3.1 mark 7
show ip route get 192.0.3.1 from 10.2.0.1
show ip route get 192.0.3.1 from 10.9.9.9
show ip route get 192.0.3.1 oif w0
show ip route get 10.1.0.77
show ip route get 10.1.0.1
show ip route get 10.1.0.255
show ip route get 127.0.0.5
show ip -6 route get 2001:db8:9::5
show ip -6 route get 2001:db8:77::5
show ip -6 route get 2001:db8:1::5
show ip -6 route get 2001:db8:1::1

# The routes themselves; ways that there are none of; packets of others, with and without forwarding.
for to in 10.1.0.9 10.1.0.1 10.1.0.255 127.0.0.5 192.0.2.9 192.0.3.1; do show ip route get fibmatch $to; done
for to in 2001:db8:1::5 2001:db8:1::1 2001:db8:9::5 2001:db8:77::5; do show ip -6 route get fibmatch $to; done
show ip -6 route get 2001:db8:1::5 oif w0
show ip -6 route get 2001:db8:1::1 oif w0
show ip -6 route get 2001:db8:1::5 oif lo
for forwarding in 0 1; do
    echo $forwarding > /proc/sys/net/ipv4/ip_forward
    echo $forwarding > /proc/sys/net/ipv6/conf/all/forwarding
    show ip route get 10.1.0.9 from 10.2.0.9 iif w0
    show ip route get 10.1.0.1 from 10.2.0.9 iif w0
    show ip -6 route get 2001:db8:1::5 iif w0
    show ip -6 route get 2001:db8:1::1 iif w0
    show ip -6 route get 2001:db8:77::5 iif w0
done
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding

# As wg-quick does it: all but the default route of the main table, then the tunnel's.
attempt ip rule add table main suppress_prefixlength 0 pref 50
attempt ip rule add not fwmark 9 table 100 pref 60
show ip rule
show ip route get 192.0.3.1
show ip route get 192.0.3.1 mark 9
show ip route get 10.1.0.9
attempt ip route add unreachable 198.51.100.0/24
attempt ip route add prohibit 198.51.101.0/24
attempt ip route add blackhole 198.51.102.0/24
for network in 100 101 102; do show ip route get 198.51.$network.1; done
attempt ip rule del table main suppress_prefixlength 0
attempt ip rule del not fwmark 9 table 100
attempt ip rule del fwmark 8
show ip rule
attempt ip route del 192.0.2.0/24 metric 6
attempt ip route del 192.0.2.0/24 metric 5
attempt ip route del 192.0.2.0/24
attempt ip -6 route del 2001:db8:9::/64 metric 76
attempt ip -6 route del 2001:db8:9::/64
attempt ip -6 route del 2001:db8:a::/64
show ip route
show ip -6 route show table main

# Of several routes to one network the one that is meant goes, or is replaced.
for metric in 5 6 7; do attempt ip route add 203.0.113.0/24 via 10.1.0.254 metric $metric; done
attempt ip route replace 203.0.113.0/24 via 10.2.0.254 metric 6
show ip route show 203.0.113.0/24
attempt ip route del 203.0.113.0/24 via 10.1.0.254 metric 5
show ip route show 203.0.113.0/24
attempt ip route del 203.0.113.0/24 dev v0
attempt ip route replace 203.0.113.0/24 via 10.1.0.254 metric 9
show ip route show 203.0.113.0/24
attempt ip rule add to 203.0.113.0/24 unreachable pref 40
show ip route get 203.0.113.1
attempt ip rule del pref 40

# Rules that go on elsewhere, and those of interfaces that are yet to come.
ip rule add pref 10 goto 10 2> /dev/null; echo "-> $?"
attempt ip rule add pref 10 goto 100
attempt ip rule add pref 20 fwmark 5 table 100
show ip rule
show ip route get 192.0.3.1 mark 5
attempt ip rule add pref 100 nop
show ip rule
show ip route get 192.0.3.1 mark 5
attempt ip rule add goto 32767
attempt ip rule add goto 32766
show ip rule
show ip route get 10.1.0.9
attempt ip rule del pref 8
show ip route get 10.1.0.9
attempt ip rule del goto 32767
attempt ip -6 rule add pref 30 goto 32767
attempt ip -6 rule add pref 31 goto 32766
ip -6 rule add pref 32 goto 31 2> /dev/null; echo "-> $?"
show ip -6 rule
attempt ip -6 rule del pref 30
attempt ip -6 rule del goto 32766
attempt ip rule del pref 100
show ip rule
attempt ip rule del pref 10
attempt ip rule del pref 20
attempt ip rule add pref 30 oif later0 table 100
attempt ip rule add pref 30 oif later0 table 100
attempt ip rule add pref 31 iif later0 prohibit
show ip rule
ip link add later0 type veth peer name later1; ip link set later0 up; ip link set later1 up
ip addr add 10.3.0.1/24 dev later0
show ip rule
show ip route get 192.0.3.1 from 10.2.9.9 iif later0
ip link set later0 down; ip link set later0 name later2; ip link set later2 up
show ip rule
ip link set later1 down; ip link set later1 name later0; ip link set later0 up
show ip rule
ip link del later2
show ip rule
attempt ip rule del iif later0
attempt ip rule del oif later0
show ip rule

ip rule add pref 2 fwmark 0xfffd table 7
until grep -q fffd "$log"; do sleep 0.1; done
kill $monitor; wait $monitor 2>/dev/null
echo "== heard"
sed -n '/192.0.2\|2001:db8:9\|2001:db8:a\|^\t\|198.51\|lookup 100/p' "$log"

# What sockets take.
python3 - <<'P'
import socket
def source(to, mark=0):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if mark:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    s.connect((to, 9))
    return s.getsockname()[0]
print(source("192.0.3.1"), source("192.0.3.1", 7), source("127.0.0.5"), source("10.2.0.1"))
listener = socket.socket(); listener.bind(("127.0.0.5", 0)); listener.listen()
client = socket.socket(); client.connect(listener.getsockname())
print(client.getsockname()[0], listener.accept()[1][0])
P
