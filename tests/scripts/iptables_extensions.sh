# What iptables(8) shows of rules with its less common matches and targets. Natively in a namespace, and in the sandbox.
set -u
T=iptables-legacy
$T -N c; $T -A INPUT -p tcp --dport 1 -g c
$T -A INPUT -m owner --uid-owner 0 ; echo $?
$T -A OUTPUT -m owner --uid-owner 0 --gid-owner 5 -j ACCEPT
$T -A OUTPUT -m owner --socket-exists -j ACCEPT
$T -A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
$T -A INPUT -m addrtype --src-type UNICAST --limit-iface-in -j ACCEPT
$T -A INPUT -f -j DROP
$T -A INPUT -p tcp --tcp-option 5 -j DROP
$T -A INPUT -p tcp -m tcpmss --mss 1:500 -j DROP
$T -A INPUT -m iprange --src-range 10.0.0.1-10.0.0.9 -j DROP
$T -A INPUT -m connmark --mark 1/2 -j CONNMARK --save-mark
$T -A INPUT -j CONNMARK --set-xmark 1/2
$T -t mangle -A PREROUTING -j CONNMARK --restore-mark
$T -A INPUT -m hashlimit --hashlimit-above 10/sec --hashlimit-burst 5 --hashlimit-mode srcip,dstport --hashlimit-name foo -j DROP
$T -A INPUT -m hashlimit --hashlimit-upto 10/min --hashlimit-mode srcip --hashlimit-srcmask 24 --hashlimit-name bar -j DROP
$T -A INPUT -m recent --name ssh --rcheck --seconds 60 --hitcount 4 -j DROP
$T -A INPUT -m recent --name ssh --set
$T -A INPUT -m conntrack --ctstate DNAT,NEW --ctproto tcp --ctorigsrc 10.0.0.0/8 --ctorigdstport 80 --ctstatus SEEN_REPLY --ctexpire 1:100 --ctdir REPLY -j ACCEPT
$T -A INPUT -m length --length 100:200 -j ACCEPT
$T -A INPUT -m ttl --ttl-lt 5 -j DROP
$T -t mangle -A PREROUTING -j TTL --ttl-set 64
$T -t mangle -A PREROUTING -j TTL --ttl-inc 1
$T -t mangle -A PREROUTING -m dscp --dscp-class EF -j DSCP --set-dscp 10
$T -t mangle -A PREROUTING -m tos --tos 0x10/0x3f -j TOS --set-tos 0x08
$T -A INPUT -m statistic --mode random --probability 0.5 -j ACCEPT
$T -A INPUT -m statistic --mode nth --every 3 --packet 1 -j ACCEPT
$T -A INPUT -m mac --mac-source 02:00:00:00:00:01 -j ACCEPT
$T -A INPUT -m pkttype --pkt-type broadcast -j DROP
$T -A INPUT -m quota --quota 1000 -j ACCEPT
$T -A INPUT -m u32 --u32 "6&0xFF=1 && 4&0x1FFF=0 && 0>>22&0x3C@0>>24=0" -j DROP
$T -A INPUT -p tcp -m connlimit --connlimit-above 2 --connlimit-mask 24 -j DROP
$T -A INPUT -m connlimit --connlimit-upto 5 --connlimit-daddr -j ACCEPT
$T -A INPUT -m connbytes --connbytes 100:200 --connbytes-dir both --connbytes-mode avgpkt -j DROP
$T -A INPUT -m connbytes ! --connbytes 5: --connbytes-dir reply --connbytes-mode packets -j DROP
$T -A INPUT -m time --timestart 22:00 --timestop 02:30 --contiguous --weekdays Mon,Fri --monthdays 1,31 --datestop 2030-01-02T03:04:05 -j DROP
$T -A INPUT -m time --timestart 25:00 -j DROP 2>&1 | head -1
$T -A INPUT -m string --algo bm --string "a b" --from 20 --to 100 -j DROP
$T -A INPUT -m string --algo kmp ! --hex-string "|00ff|x" --icase -j DROP
$T -A INPUT -m string --algo nosuch --string x -j DROP 2>&1 | grep -v '^Try'; echo $?
$T -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
$T -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1000
for w in icmp-net-unreachable icmp-host-unreachable icmp-port-unreachable icmp-proto-unreachable icmp-net-prohibited icmp-host-prohibited icmp-admin-prohibited; do $T -A INPUT -j REJECT --reject-with $w; done
$T -A INPUT -j LOG --log-prefix "hello " --log-level 5
$T -A INPUT -j NFLOG --nflog-group 2
$T -t nat -A PREROUTING -d 10.0.0.0/24 -j NETMAP --to 192.168.0.0/24
$T -t nat -A POSTROUTING -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.9:1000-2000 --random --persistent
$T -t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 1000-2000 --random-fully
$T -t nat -A PREROUTING -p tcp --dport 5000:5010 -j DNAT --to-destination 1.2.3.4:7000-7010/5000
$T -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 1000-2000 --random
$T -t raw -A PREROUTING -j NOTRACK
$T -t raw -A PREROUTING -j CT --notrack
$T -t security -A INPUT -j ACCEPT
$T -A INPUT -p icmp -m icmp --icmp-type any -j ACCEPT
$T -A INPUT -s 10.0.0.1/255.0.0.255 -j ACCEPT
$T -A INPUT -p tcp -m multiport ! --ports 1,2:3
$T -t mangle -A OUTPUT -j MARK --set-xmark 0x3/0x1
$T -t mangle -A POSTROUTING -p udp -j CHECKSUM --checksum-fill
iptables-legacy-save -c | grep -v '^#'
$T -L -v -n
$T -t mangle -L -v -n
T=ip6tables-legacy
$T -A INPUT -m hl --hl-gt 5 -j ACCEPT
$T -t mangle -A PREROUTING -j HL --hl-dec 1
$T -A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
$T -t nat -A PREROUTING -d fd00::/64 -j NETMAP --to fd01::/64
$T -t nat -A POSTROUTING -p tcp -j SNAT --to-source [fd00::1]:1000-2000 --random
$T -A INPUT -m iprange --dst-range fd00::1-fd00::9 -j DROP
$T -A INPUT -m conntrack --ctorigsrc fd00::/8 -j DROP
for w in icmp6-no-route icmp6-adm-prohibited icmp6-addr-unreachable icmp6-port-unreachable icmp6-policy-fail icmp6-reject-route; do $T -A INPUT -j REJECT --reject-with $w; done
$T -A INPUT -m recent --name x --set --mask ffff:: -j DROP
$T -A INPUT -m tos --tos 4 -j DROP
ip6tables-legacy-save | grep -v '^#' | sed 's/\[[0-9:]*\]//'
$T -Z; $T -F
# Counters survive a round trip.
I=iptables-legacy
$I -F; $I -t mangle -F; $I -t nat -F; $I -t raw -F; $I -X
$I -A OUTPUT -p udp --dport 9 -c 12 3456 -j ACCEPT
$I -t mangle -A OUTPUT -p udp --dport 9 -j MARK --set-mark 3
saved=$(iptables-legacy-save -c); $I -F; iptables-legacy-restore -c <<< "$saved"; iptables-legacy-save -c | grep -v '^#'
$I -Z; iptables-legacy-save -c | grep -- '-A'
# What rules do.
ip link set lo up 2>/dev/null
$I -F; $I -t mangle -F
$I -N out; $I -N refuse; $I -A refuse -j REJECT; $I -A OUTPUT -p udp -g out
$I -A out -p udp --dport 20 -m owner --uid-owner 0 -j DROP
$I -A out -p udp --dport 21 -m owner ! --uid-owner 0 -j DROP
$I -A out -p udp --dport 22 -m addrtype --dst-type LOCAL -j DROP
$I -A out -p udp --dport 23 -m addrtype ! --dst-type LOCAL -j DROP
$I -A out -p udp --dport 24 -m length --length 29 -j DROP
$I -A out -p udp --dport 25 -m iprange --dst-range 127.0.0.1-127.0.0.3 -g refuse
$I -A out -p udp --dport 26 -m statistic --mode nth --every 2 --packet 1 -j DROP
$I -A out -p udp --dport 27 -m quota ! --quota 40 -j DROP
$I -A out -p udp --dport 28 -m u32 --u32 "0>>22&0x3C@5&0xff=0x78" -j DROP
$I -A out -p udp --dport 29 -m recent --name r --rcheck --hitcount 2 --rdest -j DROP
$I -A out -p udp --dport 29 -m recent --name r --set --rdest
$I -t mangle -A OUTPUT -p udp --dport 30 -j TOS --set-tos 0x10/0xff
$I -A out -p udp --dport 30 -m tos --tos 0x10 -j DROP
$I -t mangle -A OUTPUT -p udp --dport 31 -j TTL --ttl-set 3
$I -A out -p udp --dport 31 -m ttl --ttl-eq 3 -j DROP
$I -t mangle -A OUTPUT -p udp --dport 32 -j CONNMARK --set-mark 5
$I -A out -p udp --dport 32 -m connmark --mark 5 -j DROP
$I -A out -p udp --dport 33 -m conntrack --ctorigdstport 33 --ctdir ORIGINAL --ctproto udp -j DROP
$I -A out -p udp --dport 34 -m hashlimit --hashlimit-above 1/hour --hashlimit-burst 2 --hashlimit-mode dstport --hashlimit-name h -j DROP
$I -A out -p udp --dport 35 -m multiport --ports 35,36 -m mark ! --mark 1 -j DROP
$I -A out -p udp --dport 37 -m string --algo bm --string X --icase -j DROP
$I -A out -p udp --dport 38 -m string --algo kmp --string x --from 28 --to 28 -j DROP
$I -A out -p udp --dport 39 -m string --algo kmp --string x --from 28 --to 29 -j DROP
$I -A out -p udp --dport 40 -m connlimit --connlimit-above 2 --connlimit-mask 0 -j DROP
$I -A out -p udp --dport 41 -m time --timestart 00:00 --timestop 23:59:59 -j DROP
$I -A out -p udp --dport 42 -m time --datestop 2001-01-01 -j DROP
$I -A out -p udp --dport 43 -m connbytes --connbytes 60: --connbytes-dir original --connbytes-mode bytes -j DROP
$I -A out -p udp --dport 44 -m connbytes --connbytes 2:2 --connbytes-dir both --connbytes-mode packets -j DROP
$I -A out -p udp --dport 44 -m connbytes --connbytes 29:29 --connbytes-dir both --connbytes-mode avgpkt
for port in 43 44; do
  exec 3> /dev/udp/127.0.0.1/$port
  for round in 1 2 3 4 5 6; do (printf x >&3) 2>&1 | sed "s/.*: /$port $round /"; done
  exec 3>&-
done
for port in 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42; do
  for round in 1 2 3 4; do (printf x > /dev/udp/127.0.0.1/$port) 2>&1 | sed "s/.*: /$port $round /"; done
done
$I -L out -v -n -x; $I -L refuse -v -n -x
