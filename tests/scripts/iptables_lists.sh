# What the matches recent and hashlimit remember, as /proc/net shows it and takes it. Run natively and inside; the output is
# compared. Times are not shown.
ip link set lo up
I=iptables-legacy S=ip6tables-legacy
ls /proc/net/xt_recent /proc/net/ipt_hashlimit /proc/net/ip6t_hashlimit
$I -A INPUT -p udp --dport 9 -m recent --name seen --set
$I -A INPUT -p udp --dport 10 -m recent --name seen --update --seconds 60 --hitcount 2
$I -A INPUT -p udp --dport 12 -m recent --name seen --rcheck -j DROP
$S -A INPUT -p udp --dport 9 -m recent --name six --set
limit() { $1 -A INPUT -p udp --dport 11 -m hashlimit --hashlimit-name $2 --hashlimit-above 1/hour --hashlimit-burst 3 --hashlimit-mode $3 --hashlimit-htable-expire 90000 -j DROP; }
limit $I four srcip,dstport
limit $S six srcip
(cd /proc/net && ls -ld xt_recent ipt_hashlimit | cut -d' ' -f1 && ls -l xt_recent/* ipt_hashlimit/* ip6t_hashlimit/* | tr -s ' ' | cut -d' ' -f1,3,4,9)
send() { python3 - "$@" <<'P'
import socket, sys
for port in sys.argv[1:]:
    for family, to in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
        try: socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (to, int(port)))
        except OSError: pass
P
}
send 9 9 10 11
shown() { sed -E 's/[0-9]{10}/T/g' /proc/net/xt_recent/$1 | sort; }
shown seen; shown six
# Of the seconds and what may pass one packet more or less of time makes no difference.
awk '{ print ($1 >= 80 && $1 <= 90), $2, substr($3, 1, 2), $4, $5 }' /proc/net/ipt_hashlimit/four /proc/net/ip6t_hashlimit/six
say() { printf -- "$1" 2>/dev/null > /proc/net/xt_recent/seen; echo "$1: $?"; shown seen; }
say '+10.0.0.1\n'; say '+10.0.0.1'; say '10.0.0.2'; say '-10.0.0.1'; say '-10.99.0.1'; say '+fd00::1'; say '+bogus'
say '+10.0.0.9junk'; say '+10.0.0.300'; say '+'; say '\n'; say '/\n'; say '+127.0.0.1'
send 12
echo x 2>/dev/null > /proc/net/ipt_hashlimit/four; echo $?
echo +1.2.3.4 2>/dev/null > /proc/net/xt_recent/nobody; echo $?
$I -F; $S -F
ls /proc/net/xt_recent /proc/net/ipt_hashlimit /proc/net/ip6t_hashlimit
