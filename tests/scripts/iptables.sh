# What iptables(8) shows of the tables that it has set, and what the rules do. Natively in a namespace, and in the sandbox.
set -u
T=iptables-legacy
$T -P FORWARD DROP
$T -N web
$T -A web -p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT
$T -A web -s 10.0.0.0/8 ! -d 10.1.0.0/16 -i eth+ -j RETURN
$T -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
$T -A INPUT -m state --state NEW -p tcp --dport 22 --syn -j ACCEPT
$T -A INPUT -p icmp --icmp-type echo-request -m limit --limit 5/second --limit-burst 10 -j ACCEPT
$T -A INPUT -p tcp --dport 81 -j REJECT --reject-with tcp-reset
$T -A INPUT -j web
$T -A INPUT -m comment --comment "a comment" -m mark --mark 0x1/0xff
$T -A OUTPUT -p udp --dport 9 -j DROP
$T -A OUTPUT -p udp --dport 10 -j REJECT
$T -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.9:80
$T -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE
$T -t nat -A POSTROUTING -s 10.0.1.0/24 -p tcp -j SNAT --to-source 10.9.9.1-10.9.9.9:1024-2048
$T -t nat -A OUTPUT -p tcp --dport 8000 -j REDIRECT --to-ports 80
$T -t mangle -A OUTPUT -p tcp -j MARK --set-mark 7
$T -I INPUT 2 -i lo -j ACCEPT
$T -D INPUT -p tcp --dport 81 -j REJECT --reject-with tcp-reset
iptables-legacy-save | grep -v '^#' | sed 's/\[[0-9:]*\]//'
$T -L -n
$T -C INPUT -i lo -j ACCEPT && echo there
$T -D INPUT 77; echo $?
$T -A INPUT -j nosuch; echo $?
$T -X web; echo $?
ip6tables-legacy -A INPUT -p ipv6-icmp --icmpv6-type 135 -j ACCEPT
ip6tables-legacy -A INPUT -s fd00::/8 -p tcp --dport 22 -j REJECT
ip6tables-legacy -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination [fd00::9]:8080
ip6tables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE
ip6tables-legacy-save | grep -v '^#' | sed 's/\[[0-9:]*\]//'
(echo x > /dev/udp/127.0.0.1/9) 2>&1 | sed 's/.*: //'
(echo x > /dev/udp/127.0.0.1/10) 2>&1 | sed 's/.*: //'
(echo x > /dev/udp/127.0.0.1/11) && echo sent
python3 - <<'E2'
import socket, struct
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(('127.0.0.1', 80)); l.listen()
c = socket.create_connection(('127.0.0.1', 8000), 5)
s, _ = l.accept()
a = s.getsockopt(socket.SOL_IP, 80, 16)
print('was for', struct.unpack('!H', a[2:4])[0], socket.inet_ntoa(a[4:8]))
c.sendall(b'hello'); print(s.recv(9))
try: c.getsockopt(socket.SOL_IP, 80, 16); print('client knows')
except OSError as e: print(e)
E2
$T -t nat -L OUTPUT -n -v -x | awk 'NR>2{print $1, $3}'
$T -Z; $T -F; $T -X; $T -t nat -F
iptables-legacy-save | grep -v '^#' | sed 's/\[[0-9:]*\]//'
