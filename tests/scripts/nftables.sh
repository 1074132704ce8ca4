# What nft(8) and iptables-nft(8) show of the rules that they have set, and what the rules do. Natively in a namespace, and in the
# sandbox.
set -u
ip link set lo up 2>/dev/null
nft -f - <<'R'
table inet t {
  set hosts { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.1-192.168.1.9 }; }
  set names { type ifname; elements = { "eth0", "lo" }; }
  set dyn { type ipv4_addr; size 128; flags dynamic,timeout; timeout 1h; }
  map ports { type inet_service : verdict; elements = { 22 : accept, 23 : drop }; }
  map addresses { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1, 81 : 10.0.0.2 }; }
  set pairs { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80, 10.0.0.2 . 443 }; }
  set ranges { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/24 . 80-90, 10.1.0.1 . 22 }; }
  counter hits { packets 3 bytes 4 }
  quota much { over 25 mbytes }
  limit slow { rate 10/second burst 20 packets }
  chain web { tcp dport { 80, 443, 8000-8010 } counter accept; return; }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname "lo" accept
    ip saddr @hosts tcp dport vmap @ports
    ip saddr . tcp dport @pairs accept
    ip saddr . tcp dport @ranges log prefix "seen " level info accept
    ip6 saddr fe80::/10 icmpv6 type { nd-neighbor-solicit, nd-router-advert } accept
    icmp type echo-request limit rate 5/second accept
    meta l4proto { tcp, udp } th dport 53 counter name "hits" quota name "much" accept
    limit name "slow" udp dport 99 accept
    tcp flags & (fin|syn|rst|ack) == syn counter drop comment "openers"
    jump web
    ip ttl 1-5 counter packets 0 bytes 0 reject with icmp type host-unreachable
    tcp dport 113 reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    tcp flags syn tcp option maxseg size set rt mtu
    ip dscp set cs1
    meta mark set ct mark and 0xffff or 0x10000
    ct mark set meta mark
    add @dyn { ip saddr timeout 5m counter }
    fib daddr type local counter accept
    udp dport 1000-2000 numgen inc mod 2 0 drop
  }
}
table ip nat {
  chain pre { type nat hook prerouting priority dstnat; tcp dport 8080 dnat to 10.0.0.9:80; ip daddr 10.9.0.0/16 dnat prefix to 10.8.0.0/16; }
  chain post { type nat hook postrouting priority srcnat; oifname "eth0" masquerade random; ip saddr 10.1.0.0/16 snat to 10.2.0.1-10.2.0.9 persistent; }
}
table ip6 raw { chain pre { type filter hook prerouting priority raw; udp dport 53 notrack; }; }
R
echo "status $?"
nft -a list ruleset
nft -j list ruleset | python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)["nftables"][1:], indent=1))'
nft add rule inet t nochain accept; echo $?
nft add rule ip nosuch c accept; echo $?
nft delete chain inet t web; echo $?
nft delete set inet t hosts; echo $?
nft add table ip nat '{ flags dormant; }'; nft create table ip nat; echo $?
nft add element inet t hosts '{ 172.16.0.0/12 }'; nft delete element inet t hosts '{ 10.0.0.0/8 }'; nft list set inet t hosts
nft delete element inet t pairs '{ 10.0.0.9 . 1 }'; echo $?
nft get element inet t ports '{ 22 }'
nft insert rule inet t web tcp dport 1 accept; nft add rule inet t web tcp dport 2 accept; nft list chain inet t web
nft reset counter inet t hits; nft list counters
nft list table ip nosuch; echo $?
nft add ct helper inet t assistant '{ type "nosuch" protocol tcp; }' 2>&1 | head -1
nft add chain inet t bad '{ type nat hook forward priority 0; }'; echo $?
nft 'add chain ip nat a; add chain ip nat b; add rule ip nat a jump b; add rule ip nat b jump a; add rule ip nat pre jump a'; echo $?
nft list chains
nft flush ruleset; nft list ruleset
I=iptables-nft
$I -P FORWARD DROP
$I -N web
$I -A web -p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT
$I -A web -s 10.0.0.0/8 ! -d 10.1.0.0/16 -i eth+ -j RETURN
$I -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
$I -A INPUT -p tcp --dport 22 --syn -j ACCEPT
$I -A INPUT -p icmp --icmp-type echo-request -m limit --limit 5/second --limit-burst 10 -j ACCEPT
$I -A INPUT -p tcp --dport 81 -j REJECT --reject-with tcp-reset
$I -A INPUT -j web
$I -A INPUT -m comment --comment "a comment" -m mark --mark 0x1/0xff
$I -A INPUT -m owner --uid-owner 0 2>&1 | head -1
$I -A OUTPUT -m owner --uid-owner 0 -j ACCEPT
$I -A INPUT -m addrtype --dst-type LOCAL -j LOG --log-prefix "local "
$I -A INPUT -m recent --name r --set -j DROP
$I -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.9:80
$I -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE
$I -t nat -A OUTPUT -p tcp --dport 8000 -j REDIRECT --to-ports 80
$I -t mangle -A OUTPUT -p tcp -j MARK --set-mark 7
$I -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
$I -t raw -A PREROUTING -p udp -j NOTRACK
$I -I INPUT 2 -i lo -j ACCEPT
$I -D INPUT -p tcp --dport 81 -j REJECT --reject-with tcp-reset
$I -S
$I -L -v -n
$I -t nat -S
iptables-nft-save -c | grep -v '^#'
$I -C INPUT -i lo -j ACCEPT && echo there
$I -D INPUT 77; echo $?
$I -A INPUT -j nosuch; echo $?
$I -X web; echo $?
iptables-nft-save -c > "${TMPDIR:-/tmp}/nft-rules.$$"; iptables-nft-restore -c < "${TMPDIR:-/tmp}/nft-rules.$$"; echo $?
iptables-nft-save -c | grep -v '^#' | cksum; rm "${TMPDIR:-/tmp}/nft-rules.$$"
ip6tables-nft -A INPUT -p ipv6-icmp --icmpv6-type 135 -j ACCEPT
ip6tables-nft -A INPUT -s fd00::/8 -p tcp --dport 22 -j REJECT
ip6tables-nft -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination [fd00::9]:8080
ip6tables-nft-save | grep -v '^#'
$I -F; $I -X; $I -t nat -F; nft flush ruleset
# What rules do.
nft -f - <<'R'
table inet f {
  counter seen { }
  set dyn { type inet_service; flags dynamic; }
  map where { type inet_service : verdict; elements = { 9 : drop, 10 : goto refuse }; }
  chain refuse { counter reject; }
  chain out {
    type filter hook output priority 0;
    ip daddr 127.0.0.1 udp dport vmap @where
    udp dport 11 counter name "seen"
    udp dport 20-22 add @dyn { udp dport }
    udp dport @dyn udp dport 21 drop
    meta skuid 0 udp dport 30 drop
    udp dport 31 udp length 9 drop
    udp dport 32 @th,64,8 0x78 drop
    tcp dport 5 reject with tcp reset
  }
}
table ip n {
  map to { type inet_service : inet_service; elements = { 8000 : 80 }; }
  chain out { type nat hook output priority -100; tcp dport 8000 redirect to :80; udp dport 40 dnat to 127.0.0.1:41; }
}
R
for port in 9 10 11 11 20 21 30 31 32 33; do
  (printf x > /dev/udp/127.0.0.1/$port; printf x > /dev/udp/127.0.0.1/$port) 2>&1 | sed "s/.*: /$port /"
done
(: > /dev/tcp/127.0.0.1/5) 2>&1 | sed 's/.*: //' | head -1
python3 - <<'P'
import socket
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(('127.0.0.1', 80)); l.listen()
c = socket.create_connection(('127.0.0.1', 8000), 5); s, _ = l.accept()
c.sendall(b'hello'); print(s.recv(9), c.getpeername())
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 41)); u.settimeout(5)
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); v.connect(('127.0.0.1', 40)); v.send(b'dnat'); d, a = u.recvfrom(9); print(d)
u.sendto(b'back', a); v.settimeout(5); print(v.recv(9))
P
conntrack -L -p udp 2>/dev/null | grep -c 'dport=40 '
nft list table inet f
