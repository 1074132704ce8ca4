# The table "local", which follows from the addresses, and ways that end here. Natively in a namespace, and in the sandbox.
set -u
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 10.73.0.1/24 dev v0
ip addr add 10.73.0.4/24 dev v0
ip addr add 9.1.1.1/32 dev v0
ip addr add fd73::1/64 dev v0 nodad
ip addr add 10.74.0.128/25 dev v1
ip addr add 192.168.1.1/31 dev v1
ip route show table local
for nic in v0 v1; do ip link set $nic up; done
# A rule parts the table from the main one.
ip rule add fwmark 7 lookup 100
ip route show table local
ip route show table local type broadcast
ip -6 route show table local | grep -v -e fe80 -e ff00
ip -6 route show table local | grep ff00 | sort
ip route
ip route show table all | grep -v fe80 | sort
for to in 10.73.0.1 10.73.0.255 127.0.0.1 fd73::1; do ip route get $to; done
