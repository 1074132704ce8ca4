"""Builds frames: a line of standard input is a Python expression over scapy, a line of output its frames in hex.

An expression yields a packet, raw bytes, or a list of those.
"""

import sys

from scapy.all import *  # noqa: F403

US_MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
US, PEER, US6, PEER6 = "10.9.0.1", "10.9.0.2", "fd09::1", "fd09::2"


def eth(**fields):
    return Ether(**{"dst": US_MAC, "src": PEER_MAC, **fields})


def ip(**fields):
    return eth() / IP(**{"src": PEER, "dst": US, "id": 7, **fields})


def ip6(**fields):
    return eth() / IPv6(**{"src": PEER6, "dst": US6, **fields})


ports = iter(range(20000, 30000))


def tcp(**fields):
    """From another port each time: a host may still think of an earlier one."""
    return TCP(**{"sport": next(ports), **fields})


def ip_options(options):
    """An echo request behind options that scapy would not write so."""
    message = bytes(ICMP())
    header = bytearray(bytes(IP(src=PEER, dst=US, ihl=5 + len(options) // 4, len=20 + len(options) + 8, proto=1, chksum=0)))
    header += options
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return eth(type=0x0800) / Raw(bytes(header) + message)


def pieces(data, cuts, last=None, **fields):
    """Fragments of an IPv4 UDP packet: `cuts` are (offset, end) in bytes; the last of the packet has no MF."""
    end = last if last is not None else len(data)
    return [
        ip(proto=17, flags=0 if stop == end else 1, frag=start // 8, **fields) / Raw(data[start:stop])
        for start, stop in cuts
    ]


def pieces6(data, cuts, last=None, next_header=17):
    end = last if last is not None else len(data)
    return [
        ip6() / IPv6ExtHdrFragment(nh=next_header, offset=start // 8, m=int(stop != end), id=9) / Raw(data[start:stop])
        for start, stop in cuts
    ]


def udp_bytes(length=200):
    """A UDP packet to the echo port, checksum left out."""
    return struct.pack("!HHHH", 5000, 7, length, 0) + bytes(range(length - 8))


for line in sys.stdin:
    made = eval(line)
    frames = made if isinstance(made, list) else [made]
    print(" ".join(bytes(frame).hex() for frame in frames), flush=True)
