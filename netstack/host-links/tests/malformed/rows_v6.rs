//! IPv6 and what it carries.

use crate::{Row, row};

/// Headers, extension headers and options (RFC 8200 section 4).
pub(crate) const IP: &[Row] = &[
    row("version 4", "ip6(version=4) / ICMPv6EchoRequest()", "ip_in_header_errors", ""),
    row("cut in the header", "Raw(bytes(ip6() / ICMPv6EchoRequest())[:40])", "ip_in_truncated", ""),
    row("length past the end", "ip6(plen=1400) / ICMPv6EchoRequest()", "ip_in_truncated", ""),
    row("from a group", "ip6(src='ff02::1') / ICMPv6EchoRequest()", "ip_in_martians", ""),
    row("from loopback", "ip6(src='::1') / ICMPv6EchoRequest()", "ip_in_martians", ""),
    row("to loopback", "ip6(dst='::1') / ICMPv6EchoRequest()", "ip_in_martians", ""),
    row(
        "from an address that is IPv4's loopback",
        "ip6(src='::ffff:127.0.0.1') / ICMPv6EchoRequest()",
        "ip_in_martians",
        "",
    ),
    row(
        "to a group of the interface alone",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff01::1') / ICMPv6EchoRequest()",
        "ip_in_not_ours",
        "",
    ),
    row(
        "to a group of scope zero",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff00::1') / ICMPv6EchoRequest()",
        "ip_in_not_ours",
        "",
    ),
    row("for somebody else", "ip6(dst='fd09::77') / ICMPv6EchoRequest()", "ip_in_not_ours", ""),
    row("unknown next header", "ip6(nh=253) / Raw(bytes(20))", "ip_in_unknown_protos", "icmp6 4/1 @6"),
    row(
        "unknown next header behind options",
        "ip6() / IPv6ExtHdrDestOpt(nh=253) / Raw(bytes(20))",
        "ip_in_unknown_protos",
        "icmp6 4/1 @40",
    ),
    row(
        "unknown next header to everybody",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff02::1', nh=253) / Raw(bytes(20))",
        "ip_in_unknown_protos",
        "",
    ),
    row("no next header", "ip6(nh=59) / Raw(bytes(20))", "ip_in_delivers", ""),
    row("options cut short", "ip6(nh=60) / Raw(b'\\x3a')", "ip_in_truncated", ""),
    row(
        "options longer than the packet",
        "ip6(nh=60) / Raw(b'\\x3a\\x09' + bytes(6))",
        "ip_in_truncated",
        "",
    ),
    row(
        "options for each hop behind others",
        "ip6() / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/1 @40",
    ),
    row(
        "option longer than its header",
        "ip6() / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1e, optlen=99, optdata=b'')]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "",
    ),
    row(
        "option to discard",
        "ip6() / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x5e, optdata=b'xx')]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "",
    ),
    row(
        "option to discard and report",
        "ip6() / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x9e, optdata=b'xx')]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/2 @42",
    ),
    row(
        "option to discard and report to one",
        "ip6() / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0xde, optdata=b'xx')]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/2 @42",
    ),
    row(
        "option to report even to groups",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff02::1') / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x9e, optdata=b'xx')]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/2 @42",
    ),
    row(
        "option not to report to groups",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff02::1') / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0xde, optdata=b'xx')]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "",
    ),
    row(
        "option for each hop to discard and report",
        "ip6() / IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=0x9e, optdata=b'xx')]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/2 @42",
    ),
    row(
        "jumbo option in a short packet",
        "ip6() / IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70000)]) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/2 @42",
    )
    .but_kernel("icmp6 4/0 @42", "it knows jumbograms (RFC 2675); to us the option is unknown"),
    row(
        "jumbo option of a packet that is shorter",
        "ip6(plen=0) / IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=100)]) / ICMPv6EchoRequest()",
        "ip_in_truncated",
        "",
    )
    .but_kernel("icmp6 4/0 @44", "it knows jumbograms (RFC 2675); to us the packet ends before the option"),
    row(
        "routing header with segments left",
        "ip6() / IPv6ExtHdrRouting(type=0, addresses=['fd09::5'], segleft=1) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/0 @42",
    ),
    row(
        "routing header of an unknown type",
        "ip6() / IPv6ExtHdrRouting(type=77, addresses=['fd09::5'], segleft=1) / ICMPv6EchoRequest()",
        "ip_in_header_errors",
        "icmp6 4/0 @42",
    ),
    // Odd, but nothing is wrong with them.
    row(
        "routing header at its end",
        "ip6() / IPv6ExtHdrRouting(type=77, addresses=['fd09::5'], segleft=0) / ICMPv6EchoRequest()",
        "icmp_out_echo_replies",
        "icmp6 129/0",
    ),
    row("hop limit of zero", "ip6(hlim=0) / ICMPv6EchoRequest()", "icmp_out_echo_replies", "icmp6 129/0"),
    row(
        "option to skip",
        "ip6() / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1e, optdata=b'xx')]) / ICMPv6EchoRequest()",
        "icmp_out_echo_replies",
        "icmp6 129/0",
    ),
    row(
        "chain of headers",
        "ip6() / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(type=77, segleft=0) / IPv6ExtHdrDestOpt() / ICMPv6EchoRequest()",
        "icmp_out_echo_replies",
        "icmp6 129/0",
    ),
    row(
        "twenty headers",
        "ip6() / Raw(b'') if False else ip6(nh=60) / Raw((b'\\x3c\\x00\\x01\\x04' + bytes(4)) * 19 + b'\\x3a\\x00\\x01\\x04' + bytes(4) + bytes(IPv6(src=PEER6, dst=US6) / ICMPv6EchoRequest())[40:])",
        "icmp_out_echo_replies",
        "icmp6 129/0",
    ),
];

/// Fragments (RFC 8200 section 4.5, RFC 5722, RFC 6946).
pub(crate) const FRAGMENTS: &[Row] = &[
    row("teardrop", "pieces6(udp_bytes(64), [(0, 40), (24, 32)], last=64)", "ip_reasm_fails", ""),
    row("overlap from the left", "pieces6(udp_bytes(64), [(24, 64), (0, 32)])", "ip_reasm_fails", ""),
    row("overlap from the right", "pieces6(udp_bytes(64), [(0, 32), (24, 64)])", "ip_reasm_fails", ""),
    row("overlap over all", "pieces6(udp_bytes(80), [(16, 32), (0, 64)])", "ip_reasm_fails", ""),
    row(
        "more than 64 KiB",
        "[ip6() / IPv6ExtHdrFragment(nh=58, offset=8189, m=0, id=9) / Raw(b'x' * 1000)]",
        "ip_reasm_fails",
        "icmp6 4/0 @42",
    ),
    row("part of 13 bytes", "pieces6(udp_bytes(64), [(0, 13)])", "ip_reasm_fails", "icmp6 4/0 @4"),
    row("empty part", "[ip6() / IPv6ExtHdrFragment(nh=17, offset=3, m=1, id=9)]", "ip_reasm_fails", ""),
    row("fragment header cut short", "ip6(nh=44) / Raw(b'\\x3a\\x00\\x00')", "ip_in_truncated", "")
        .but_kernel("icmp6 4/0 @40", "RFC 8200 asks for no error"),
    row(
        "two different ends",
        "pieces6(udp_bytes(64), [(48, 64)]) + pieces6(udp_bytes(80), [(64, 80)])",
        "ip_reasm_fails",
        "",
    ),
    row("one part alone", "pieces6(udp_bytes(64), [(0, 32)])", "ip_reasm_requests", ""),
    row("end alone", "pieces6(udp_bytes(64), [(32, 64)])", "ip_reasm_requests", ""),
    row(
        "first part without the whole chain",
        "[ip6() / IPv6ExtHdrFragment(nh=60, offset=0, m=1, id=9) / Raw(b'\\x3a\\x01' + bytes(6))]",
        "ip_in_header_errors",
        "icmp6 4/3 @0",
    ),
    row(
        "first part without the transport's header",
        "[ip6() / IPv6ExtHdrFragment(nh=6, offset=0, m=1, id=9) / Raw(bytes(8))]",
        "ip_in_header_errors",
        "icmp6 4/3 @0",
    ),
    row(
        "fragment in a fragment",
        "[ip6() / IPv6ExtHdrFragment(nh=44, offset=0, m=0, id=9) / IPv6ExtHdrFragment(nh=58, offset=0, m=1, id=9) / Raw(bytes(8))]",
        "ip_reasm_requests",
        "",
    ),
    // Put together, and delivered as what they are.
    row(
        "whole packet with a fragment header",
        "ip6() / IPv6ExtHdrFragment(nh=58) / ICMPv6EchoRequest()",
        "icmp_out_echo_replies",
        "icmp6 129/0",
    ),
    row(
        "parts in reverse",
        "pieces6(bytes(ip6() / UDP(dport=9) / Raw(bytes(56)))[54:], [(32, 64), (16, 32), (0, 16)])",
        "udp_no_ports",
        "icmp6 1/4",
    ),
    row(
        "the same part twice",
        "pieces6(bytes(ip6() / UDP(dport=9) / Raw(bytes(56)))[54:], [(0, 32), (0, 32), (32, 64)])",
        "udp_no_ports",
        "icmp6 1/4",
    ),
];

/// ICMPv6 with neighbour discovery (RFC 4443, RFC 4861), UDP and TCP.
pub(crate) const TRANSPORTS: &[Row] = &[
    row("ICMP of two bytes", "ip6(nh=58) / Raw(b'\\x80\\x00')", "icmp_in_checksum_errors", ""),
    row(
        "ICMP with a wrong checksum",
        "ip6() / ICMPv6EchoRequest(cksum=0x1234)",
        "icmp_in_checksum_errors",
        "",
    ),
    row("unknown error", "ip6() / ICMPv6Unknown(type=99)", "icmp_in_errors", ""),
    row("unknown message", "ip6() / ICMPv6Unknown(type=222)", "icmp_in_errors", ""),
    row("error about nothing", "ip6() / ICMPv6DestUnreach(code=4)", "icmp_in_errors", ""),
    row(
        "error about a flow that is not there",
        "ip6() / ICMPv6DestUnreach(code=4) / IPv6(src=US6, dst=PEER6) / UDP(sport=999, dport=53)",
        "icmp_in_errors",
        "",
    ),
    row("packet too big of nothing", "ip6() / ICMPv6PacketTooBig(mtu=0)", "icmp_in_errors", ""),
    row("solicitation through a router", "ip6(hlim=254) / ICMPv6ND_NS(tgt=US6)", "icmp_in_errors", ""),
    row(
        "solicitation with an option of no length",
        "ip6(hlim=255) / ICMPv6ND_NS(tgt=US6) / Raw(b'\\x01\\x00' + bytes(6))",
        "icmp_in_errors",
        "",
    ),
    row(
        "solicitation with an option past the end",
        "ip6(hlim=255) / ICMPv6ND_NS(tgt=US6) / Raw(b'\\x01\\x05' + bytes(6))",
        "icmp_in_errors",
        "",
    ),
    row("solicitation about a group", "ip6(hlim=255) / ICMPv6ND_NS(tgt='ff02::1')", "icmp_in_errors", ""),
    row(
        "solicitation of nobody with an address",
        "eth(dst='33:33:ff:00:00:01') / IPv6(src='::', dst='ff02::1:ff00:1', hlim=255) / ICMPv6ND_NS(tgt=US6) / ICMPv6NDOptSrcLLAddr(lladdr=PEER_MAC)",
        "icmp_in_errors",
        "",
    ),
    row("advertisement about a group", "ip6(hlim=255) / ICMPv6ND_NA(tgt='ff02::1')", "icmp_in_errors", ""),
    row(
        "solicited advertisement to everybody",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff02::1', hlim=255) / ICMPv6ND_NA(tgt=PEER6, S=1)",
        "icmp_in_errors",
        "",
    ),
    row(
        "router advertisement of a global address",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff02::1', hlim=255) / ICMPv6ND_RA()",
        "icmp_in_errors",
        "",
    ),
    row(
        "router advertisement nobody wants",
        "eth(dst='33:33:00:00:00:01') / IPv6(src='fe80::2', dst='ff02::1', hlim=255) / ICMPv6ND_RA()",
        "router_advertisements_ignored",
        "",
    ),
    row(
        "redirect of a global address",
        "ip6(hlim=255) / ICMPv6ND_Redirect(tgt='fe80::66', dst='2001:db8::1')",
        "icmp_in_errors",
        "",
    ),
    row(
        "redirect nobody waits for",
        "ip6(src='fe80::2', hlim=255) / ICMPv6ND_Redirect(tgt='fe80::66', dst='2001:db8::1')",
        "icmp_in_redirects_ignored",
        "",
    ),
    row(
        "UDP without a checksum",
        "ip6() / UDP(sport=5000, dport=7, chksum=0) / Raw(b'xxxx')",
        "udp_in_checksum_errors",
        "",
    ),
    row(
        "UDP length past the end",
        "ip6() / UDP(sport=5000, dport=7, len=100) / Raw(b'xxxx')",
        "udp_in_errors",
        "",
    ),
    row(
        "UDP to a closed port",
        "ip6() / UDP(sport=5000, dport=9) / Raw(b'xxxx')",
        "udp_no_ports",
        "icmp6 1/4",
    ),
    row(
        "UDP to a closed port of everybody",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff02::1') / UDP(sport=5000, dport=9)",
        "udp_ignored_multi",
        "",
    ),
    row(
        "TCP with a wrong checksum",
        "ip6() / tcp(dport=80, flags='S', chksum=0x1234)",
        "tcp_in_csum_errors",
        "",
    ),
    row("TCP header past the end", "ip6() / tcp(dport=80, flags='S', dataofs=15)", "tcp_in_errs", ""),
    row(
        "SYN to everybody",
        "eth(dst='33:33:00:00:00:01') / IPv6(src=PEER6, dst='ff02::1') / tcp(dport=80, flags='S')",
        "tcp_in_errs",
        "",
    ),
    row("SYN to a closed port", "ip6() / tcp(dport=81, flags='S')", "tcp_no_ports", "tcp rst+ack"),
    row("SYN from nobody", "ip6(src='::') / tcp(dport=80, flags='S')", "tcp_in_errs", "")
        .but_kernel("tcp syn+ack", "it sends that to the unspecified address"),
    row("land attack", "ip6(src=US6) / tcp(sport=80, dport=80, flags='S')", "tcp_drop_listen_unexpected", ""),
    row(
        "Christmas tree to a listener",
        "ip6() / tcp(dport=80, flags='FPU')",
        "tcp_drop_listen_unexpected",
        "",
    ),
];
