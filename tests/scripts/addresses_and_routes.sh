# Addresses and routes of an interface: what `ip`, `ifconfig`, `route` and `arp` make of them.
ip link set lo up
ip link add name e0 type veth peer name e1
ip link set e1 up
ip link set e0 up
say() { echo "# $*"; "$@" 2>&1; }
# Refused, by whichever words.
refused() { echo "# refused: $*"; "$@" >/dev/null 2>&1 && echo "but it was not"; }
show() { ip -4 address show e0 | grep inet | sed 's/ *valid_lft.*//'; ip route; }

say ip address add 10.3.3.1/24 dev e0; show
refused ip address add 10.3.3.1/24 dev e0
say ip address replace 10.3.3.1/24 dev e0
say ip address change 10.3.3.1/24 dev e0 preferred_lft 0; ip -4 address show e0 | grep -A1 inet
say ip address add 10.3.3.2/24 brd + dev e0; show
refused ip address del 10.3.3.2/16 dev e0
say ip address del 10.3.3.2/24 dev e0
say ip address del 10.3.3.1/24 dev e0; show

say ip address add 10.1.1.1 peer 10.1.1.2 dev e0
say ip address add 10.3.4.1 peer 10.4.4.9/24 dev e0; show
ip route get 10.1.1.2 | head -1
ip route get 10.4.4.7 | head -1
ip route show table local dev e0
refused ip address del 10.1.1.1 peer 10.1.1.3 dev e0
say ip address del 10.1.1.1 peer 10.1.1.2 dev e0
say ip address flush dev e0; show

say ip address add 10.5.5.1/24 dev e0 noprefixroute; show
say ip address flush dev e0
say ip address add 10.5.5.1/24 dev e0 metric 33; show
say ip address change 10.5.5.1/24 dev e0 metric 44; show
say ip address add 10.6.6.1/24 dev e0 broadcast 10.6.6.77 preferred_lft 0; show
ip route show table local dev e0
say ip address flush dev e0

say ip address add 10.3.3.1/24 dev e0
say ip route add 10.9.0.0/16 dev e0 mtu 1300
say ip route add 10.10.0.0/16 via 10.3.3.9 mtu 1280; show
say ip route change 10.10.0.0/16 via 10.3.3.9; show
say ip address add fd01::1/64 dev e0 nodad
say ip -6 route add fd05::/32 via fd01::9
say ip link set e0 down; show; ip -6 route | grep fd0; ip address show e0 | grep inet6
say ip link set e0 up; show; ip -6 route | grep fd0
say ip route add 10.9.0.0/16 dev e0
say ip address del 10.3.3.1/24 dev e0; show

echo "As it was before there was netlink"
busybox() { say command busybox "$@"; }
busybox ifconfig e0 10.20.0.1 netmask 255.255.255.0; show
busybox route add default gw 10.20.0.254
busybox route add -net 10.30.0.0/16 gw 10.20.0.2 metric 5
busybox route add -host 10.31.1.1 dev e0
busybox route add -net 10.32.0.0 netmask 255.255.0.0 reject
ip route | sed 's/ scope host//'
busybox route add default gw 10.20.0.254
busybox route add -net 10.33.0.0/16 gw 99.9.9.9
busybox route -n
busybox route del -net 10.30.0.0/16
busybox route del default gw 10.20.0.254
busybox route del default
busybox route del -net 10.32.0.0 netmask 255.255.0.0 reject; show
busybox ifconfig e0 10.40.0.1 pointopoint 10.40.0.2; show
busybox ifconfig e0 broadcast 10.99.99.99; show
command busybox ifconfig e0 | grep "inet addr"
busybox ifconfig e0 0.0.0.0; show
busybox ifconfig e0 10.51.0.1; show
busybox arp -s 10.51.0.7 02:00:00:00:00:07
busybox arp -an
say ip neighbour show dev e0
busybox arp -d 10.51.0.7
ip neighbour show dev e0 | grep -v FAILED
busybox arp -d 10.51.0.8

ip link set e0 down
mac=$(ip link show e0 | awk '/ether/ { print $2 }')
command busybox nameif e9 "$mac"
ip -brief link show dev e9 | awk '{ print $1, $2 }'
busybox ifconfig e9 hw ether 02:01:02:03:04:05
ip link show e9 | grep ether
ip link set e9 up
python3 - <<'PYTHON'
import errno, fcntl, socket, struct

sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
index = socket.if_nametoindex('e9')
SIOCADDRT, SIOCDELRT, SIOCSIFADDR, SIOCDIFADDR = 0x890b, 0x890c, 0x8916, 0x8936

def address(text):
    return socket.inet_pton(socket.AF_INET6, text)

def say(request, value):
    try:
        fcntl.ioctl(sock, request, value)
        print('done')
    except OSError as error:
        print(errno.errorcode[error.errno])

def own(text, length):
    return struct.pack('16sIi', address(text), length, index)

def route(destination, gateway, flags, metric, where):
    head = struct.pack('16s16s16sI', address(destination), address('::'), address(gateway), 0)
    return head + struct.pack('HHIxxxxQIi', 32, 0, metric, 0, flags, where)

say(SIOCSIFADDR, own('fd01::1', 64))
say(SIOCSIFADDR, own('fd01::1', 64))
say(SIOCSIFADDR, own('fd02::1', 129))
say(SIOCADDRT, route('fd05::', 'fd01::9', 3, 1, 0))
say(SIOCADDRT, route('fd06::', '::', 1, 7, index))
say(SIOCADDRT, route('fd06::', '::', 1, 7, index))
say(SIOCADDRT, route('fd07::', 'fd99::1', 3, 7, 0))
say(SIOCDELRT, route('fd05::', 'fd01::9', 3, 1, 0))
say(SIOCDELRT, route('fd05::', 'fd01::9', 3, 1, 0))
say(SIOCDIFADDR, own('fd01::1', 64))
say(SIOCDIFADDR, own('fd01::1', 64))
PYTHON
ip -6 route | grep fd0
