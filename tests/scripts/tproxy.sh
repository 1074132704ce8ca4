# Transparent proxies: what iptables and nft show of their rules, and connections and datagrams to others that end here. Natively in
# a namespace, and in the sandbox. The client is in a namespace of its own behind a pair of devices.
set -u
unshare -n sleep 60 & client=$!
trap 'kill $client' EXIT
until [ "$(readlink /proc/$client/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
there() { nsenter -t "$client" -n "$@"; }
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v1 netns "$client"
ip addr add 10.73.0.1/24 dev v0
ip addr add fd73::1/64 dev v0 nodad
ip link set v0 up
there ip addr add 10.73.0.2/24 dev v1
there ip addr add fd73::2/64 dev v1 nodad
there ip link set v1 up
there ip route add default via 10.73.0.1
there ip -6 route add default via fd73::1
ip rule add fwmark 1 lookup 100; ip -6 rule add fwmark 1 lookup 100
ip route add local 0.0.0.0/0 dev lo table 100; ip -6 route add local ::/0 dev lo table 100
ip rule; ip -6 rule; ip route show table 100
ip rule add fwmark 1 prio 32765 lookup 100; echo "again $?"
ip rule del prio 77; echo "missing $?"

cat > "${TMPDIR:-/tmp}/tproxy.$$.py" <<'P'
import socket, struct, subprocess, sys
TRANSPARENT = {socket.AF_INET: (socket.SOL_IP, 19), socket.AF_INET6: (socket.IPPROTO_IPV6, 75)}
ORIGINAL = {socket.AF_INET: (socket.SOL_IP, 20), socket.AF_INET6: (socket.IPPROTO_IPV6, 74)}
client = sys.argv[1]
CLIENT = '''
import socket, sys
family, kind, host = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, int(sys.argv[2]), sys.argv[1]
s = socket.socket(family, kind); s.settimeout(3)
try:
    s.connect((host, int(sys.argv[3]))); s.send(b"question"); print("client got", s.recv(100), "from", s.getpeername()[:2], flush=True)
except OSError as e:
    print("client failed", flush=True)
'''
def start(host, kind, port):
    return subprocess.Popen(["nsenter", "-t", client, "-n", sys.executable, "-c", CLIENT, host, str(int(kind)), str(port)])
def server(family, kind, transparent=True):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if transparent:
        s.setsockopt(*TRANSPARENT[family], 1)
    s.settimeout(5)
    return s
for family, host, any in [(socket.AF_INET, "198.51.100.7", "0.0.0.0"), (socket.AF_INET6, "2001:db8:7::1", "::")]:
    s = server(family, socket.SOCK_STREAM); s.bind((any, 3129)); s.listen()
    c = start(host, socket.SOCK_STREAM, 80)
    a, peer = s.accept()
    print("stream", a.getsockname()[:2], peer[0], a.recv(100)); a.send(b"answer"); c.wait(); a.close(); s.close()
    s = server(family, socket.SOCK_DGRAM); s.bind((any, 3129)); s.setsockopt(*ORIGINAL[family], 1)
    c = start(host, socket.SOCK_DGRAM, 53)
    data, aux, _, peer = s.recvmsg(100, 200)
    level, kind, value = aux[0]
    port = struct.unpack("!H", value[2:4])[0]
    address = socket.inet_ntop(family, value[4:8] if family == socket.AF_INET else value[8:24])
    print("datagram", data, (level, kind) == ORIGINAL[family], address, port, peer[0])
    back = server(family, socket.SOCK_DGRAM); back.bind((address, port)); back.sendto(b"answer", peer); c.wait(); back.close(); s.close()
    # One that may not have any address gets nothing.
    s = server(family, socket.SOCK_STREAM, False); s.bind((any, 3129)); s.listen()
    start(host, socket.SOCK_STREAM, 80).wait(); s.close()
P
proxies() { python3 "${TMPDIR:-/tmp}/tproxy.$$.py" "$client"; }

echo "== iptables"
for t in iptables-legacy ip6tables-legacy; do
  $t -t mangle -N DIVERT
  $t -t mangle -A DIVERT -j MARK --set-mark 1
  $t -t mangle -A DIVERT -j ACCEPT
  $t -t mangle -A PREROUTING -p tcp -m socket --transparent -j DIVERT
  $t -t mangle -A PREROUTING -p tcp --syn --dport 80 -j TPROXY --on-port 3129 --tproxy-mark 0x1/0x1
  $t -t mangle -A PREROUTING -p udp --dport 53 -j TPROXY --on-port 3129 --tproxy-mark 1
  $t -t mangle -A PREROUTING -p udp -m socket --nowildcard --restore-skmark -j ACCEPT
  $t -t mangle -S
done
iptables-legacy -t mangle -A PREROUTING -p tcp --dport 99 -j TPROXY --on-ip 127.0.0.1 --on-port 99
ip6tables-legacy -t mangle -A PREROUTING -p tcp --dport 99 -j TPROXY --on-ip fd00::1 --on-port 0
iptables-legacy -t mangle -S PREROUTING | tail -1; ip6tables-legacy -t mangle -S PREROUTING | tail -1
iptables-legacy -t mangle -A PREROUTING -j TPROXY --on-port 1 2>/dev/null; echo "without protocol $?"
iptables-legacy -t mangle -A INPUT -p tcp -j TPROXY --on-port 1 2>/dev/null; echo "elsewhere $?"
iptables-legacy -t filter -A INPUT -m socket; echo "input $?"
iptables-legacy -t mangle -A POSTROUTING -m socket 2>/dev/null; echo "leaving $?"
proxies
iptables-legacy -t mangle -L DIVERT -v -n | awk 'NR>2 {print ($1 > 2), $3}'
iptables-legacy -t mangle -F; iptables-legacy -t mangle -X; ip6tables-legacy -t mangle -F; ip6tables-legacy -t mangle -X; iptables-legacy -F

echo "== nft"
nft -f - <<'N'
table inet proxy {
  chain pre {
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto { tcp, udp } socket transparent 1 socket wildcard 0 meta mark set 0x1 accept
    tcp dport 80 tproxy to :3129 meta mark set 1 accept
    udp dport 53 tproxy to :3129 meta mark set 1
    meta nfproto ipv4 tcp dport 99 tproxy ip to 127.0.0.1:99
    meta l4proto tcp tproxy ip6 to [fd00::1]:7
    meta mark set socket mark
  }
  chain in { type filter hook input priority 0; socket mark 0x0 counter accept; }
}
table ip p4 { chain pre { type filter hook prerouting priority 5; tcp dport 7 tproxy to 10.0.0.1; }; }
N
echo "status $?"
nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*/N/'
nft add chain inet proxy out '{ type filter hook output priority 0; }'; nft add rule inet proxy out tcp dport 1 tproxy to :1 2>/dev/null; echo "elsewhere $?"
nft delete table inet proxy; nft delete table ip p4
nft -f - <<'N'
table inet proxy {
  chain pre {
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto { tcp, udp } socket transparent 1 socket wildcard 0 meta mark set 0x1 accept
    tcp dport 80 tproxy to :3129 meta mark set 1 accept
    udp dport 53 tproxy to :3129 meta mark set 1
  }
}
N
proxies
rm -f "${TMPDIR:-/tmp}/tproxy.$$.py"
