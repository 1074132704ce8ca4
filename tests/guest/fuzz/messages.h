// Netlink messages: well-formed ones with plausible attributes, then broken here and there.
#ifndef MESSAGES_H
#define MESSAGES_H

#include "descriptors.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/inet_diag.h>
#include <linux/neighbour.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>

struct message {
    char data[4096];
    size_t size;
};

static void append(struct message *m, const void *data, size_t size)
{
    size_t padded = (size + 3) & ~3UL;
    if (m->size + padded > sizeof m->data)
        return;
    memset(m->data + m->size, 0, padded);
    memcpy(m->data + m->size, data, size);
    m->size += padded;
}

static void attribute(struct message *m, int type, const void *data, size_t size)
{
    struct nlattr a = {.nla_len = sizeof a + size, .nla_type = type};
    if (one_in(40))
        a.nla_len = PICK(0, 1, 3, 4, 5, 65535, size);
    append(m, &a, sizeof a);
    append(m, data, size);
}

static size_t open_nest(struct message *m, int type)
{
    size_t at = m->size;
    struct nlattr a = {.nla_len = sizeof a, .nla_type = type};
    append(m, &a, sizeof a);
    return at;
}

static void close_nest(struct message *m, size_t at)
{
    unsigned short size = m->size - at;
    if (at + 4 <= sizeof m->data)
        memcpy(m->data + at, &size, sizeof size);
}

static void attribute32(struct message *m, int type, uint32_t value)
{
    attribute(m, type, &value, sizeof value);
}

static void attribute_text(struct message *m, int type, const char *what)
{
    attribute(m, type, what, strlen(what) + 1);
}

static const char *interface_name(void)
{
    static const char *const all[] = {"lo", "eth0", "v0", "v1", "br0", "d0", "vl0", "a-name-with-15", "%d", "sixteen-and-more"};
    return FROM(all);
}

// Attributes of any type, of the sizes that are usual, one level deep or two.
static void any_attributes(struct message *m, int types, int depth)
{
    for (int n = below(6); n > 0; n--) {
        int type = below(types);
        switch (below(depth > 0 ? 8 : 6)) {
        case 0:
            attribute32(m, type, number());
            break;
        case 1: {
            in_addr_t a = address4();
            attribute(m, type, &a, 4);
            break;
        }
        case 2: {
            struct in6_addr a = address6();
            attribute(m, type, &a, 16);
            break;
        }
        case 3:
            attribute_text(m, type, interface_name());
            break;
        case 4: {
            u64 value = number();
            attribute(m, type, &value, PICK(0, 1, 2, 8));
            break;
        }
        case 5:
            attribute32(m, type, htonl(below(4)));
            break;
        default: {
            size_t nest = open_nest(m, type | (one_in(2) ? 0x8000 : 0));
            any_attributes(m, types, depth - 1);
            close_nest(m, nest);
        }
        }
    }
}

static void link_attributes(struct message *m)
{
    static const char *const kinds[] = {"veth", "bridge", "dummy", "vlan", "ifb", "tun", "macvlan", "vrf", "nonsense"};
    if (one_in(2))
        attribute_text(m, IFLA_IFNAME, interface_name());
    if (one_in(4))
        attribute32(m, IFLA_MTU, one_in(2) ? 1500 : number());
    if (one_in(4))
        attribute32(m, IFLA_MASTER, below(8));
    if (one_in(4))
        attribute32(m, IFLA_LINK, below(8));
    if (one_in(8))
        attribute32(m, PICK(IFLA_NET_NS_PID, IFLA_NET_NS_FD, IFLA_TARGET_NETNSID), one_in(2) ? a_process() : any_fd());
    if (one_in(4)) {
        u64 mac = any64();
        attribute(m, IFLA_ADDRESS, &mac, PICK(6, 6, 6, 0, 8));
    }
    if (one_in(2)) {
        size_t info = open_nest(m, IFLA_LINKINFO);
        attribute_text(m, IFLA_INFO_KIND, FROM(kinds));
        size_t data = open_nest(m, IFLA_INFO_DATA);
        if (one_in(2)) {
            // The other end of a pair.
            size_t peer = open_nest(m, 1);
            struct ifinfomsg i = {.ifi_index = one_in(4) ? below(20) : 0};
            append(m, &i, sizeof i);
            if (one_in(2))
                attribute_text(m, IFLA_IFNAME, interface_name());
            close_nest(m, peer);
        } else {
            any_attributes(m, 48, 1);
        }
        close_nest(m, data);
        close_nest(m, info);
    }
    if (one_in(4)) {
        size_t spec = open_nest(m, IFLA_AF_SPEC);
        any_attributes(m, 12, 2);
        close_nest(m, spec);
    }
    any_attributes(m, one_in(4) ? 60 : 2, 2);
}

static int route_message(struct message *m)
{
    int type = PICK(RTM_NEWLINK, RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR,
                    RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWRULE, RTM_DELRULE,
                    RTM_GETRULE, RTM_NEWQDISC, RTM_GETQDISC, RTM_NEWNEIGHTBL, RTM_GETNEIGHTBL, RTM_NEWNSID, RTM_GETNSID,
                    RTM_GETNETCONF, RTM_GETSTATS, RTM_NEWNEXTHOP, RTM_GETNEXTHOP, RTM_GETMULTICAST, RTM_GETANYCAST);
    int family = PICK(AF_INET, AF_INET, AF_INET6, AF_UNSPEC, AF_BRIDGE, 255, 128, 129);
    switch (type) {
    case RTM_NEWLINK: case RTM_DELLINK: case RTM_GETLINK: case RTM_SETLINK: {
        struct ifinfomsg i = {.ifi_family = one_in(3) ? family : 0, .ifi_index = one_in(2) ? below(9) : 0, .ifi_flags = bits(16),
                              .ifi_change = bits(16)};
        append(m, &i, one_in(20) ? 1 : sizeof i);
        link_attributes(m);
        break;
    }
    case RTM_NEWADDR: case RTM_DELADDR: case RTM_GETADDR: {
        struct ifaddrmsg a = {.ifa_family = family, .ifa_prefixlen = PICK(8, 24, 32, 64, 128, 0, 33, 255), .ifa_flags = bits(8),
                              .ifa_scope = PICK(0, 253, 254, 255), .ifa_index = below(9)};
        append(m, &a, sizeof a);
        if (family == AF_INET6) {
            struct in6_addr a6 = address6();
            attribute(m, PICK(IFA_ADDRESS, IFA_LOCAL), &a6, 16);
        } else {
            in_addr_t a4 = address4();
            attribute(m, IFA_LOCAL, &a4, 4);
            attribute(m, IFA_ADDRESS, &a4, 4);
        }
        any_attributes(m, 12, 1);
        break;
    }
    case RTM_NEWROUTE: case RTM_DELROUTE: case RTM_GETROUTE: case RTM_NEWRULE: case RTM_DELRULE: case RTM_GETRULE: {
        struct rtmsg r = {.rtm_family = family, .rtm_dst_len = PICK(0, 8, 24, 32, 64, 128, 255), .rtm_src_len = PICK(0, 0, 8, 32, 200),
                          .rtm_table = PICK(0, 253, 254, 255, 7), .rtm_protocol = below(5), .rtm_scope = PICK(0, 253, 254, 255),
                          .rtm_type = below(13), .rtm_flags = one_in(3) ? bits(32) : 0};
        append(m, &r, sizeof r);
        struct in6_addr a6 = address6();
        in_addr_t a4 = address4();
        const void *a = family == AF_INET6 ? (void *)&a6 : (void *)&a4;
        size_t size = family == AF_INET6 ? 16 : 4;
        if (one_in(2))
            attribute(m, RTA_DST, a, size);
        if (one_in(2))
            attribute32(m, RTA_OIF, below(5));
        if (one_in(3))
            attribute(m, RTA_GATEWAY, a, size);
        if (one_in(4)) {
            size_t paths = open_nest(m, RTA_MULTIPATH);
            for (int n = below(4); n > 0; n--) {
                struct rtnexthop hop = {.rtnh_len = one_in(8) ? number() : 16, .rtnh_ifindex = below(4), .rtnh_hops = number()};
                append(m, &hop, sizeof hop);
                attribute(m, RTA_GATEWAY, &a4, 4);
            }
            close_nest(m, paths);
        }
        if (one_in(4)) {
            size_t metrics = open_nest(m, RTA_METRICS);
            any_attributes(m, 18, 0);
            close_nest(m, metrics);
        }
        any_attributes(m, 31, 1);
        break;
    }
    case RTM_NEWNEIGH: case RTM_DELNEIGH: case RTM_GETNEIGH: {
        struct ndmsg n = {.ndm_family = family, .ndm_ifindex = below(9), .ndm_state = bits(8), .ndm_flags = bits(8)};
        append(m, &n, sizeof n);
        in_addr_t a4 = address4();
        attribute(m, NDA_DST, &a4, 4);
        u64 mac = any64();
        attribute(m, NDA_LLADDR, &mac, 6);
        any_attributes(m, 16, 1);
        break;
    }
    default: {
        u64 body[4] = {number(), one_in(2) ? 0 : number()};
        append(m, body, PICK(1, 4, 8, 12, 16, 20, 24));
        any_attributes(m, 20, 2);
    }
    }
    return type;
}

static void filter_expression(struct message *m)
{
    static const char *const names[] = {"payload", "cmp", "meta", "immediate", "bitwise", "counter", "nat", "masq", "ct", "lookup",
                                        "log", "limit", "reject", "range", "redir", "notrack", "byteorder", "exthdr", "hash",
                                        "numgen", "rt", "fib", "quota", "connlimit", "dynset", "objref", "socket", "tproxy", "dup"};
    size_t element = open_nest(m, NFTA_LIST_ELEM);
    attribute_text(m, NFTA_EXPR_NAME, FROM(names));
    size_t data = open_nest(m, NFTA_EXPR_DATA);
    for (int type = 1; type < 8; type++) {
        if (one_in(5))
            continue;
        if (one_in(4)) {
            size_t value = open_nest(m, type);
            u64 bytes[2] = {any64(), any64()};
            if (one_in(3)) {
                size_t verdict = open_nest(m, NFTA_DATA_VERDICT);
                attribute32(m, NFTA_VERDICT_CODE, htonl(PICK(0, 1, -1, -3, -4, -5, 77)));
                attribute_text(m, NFTA_VERDICT_CHAIN, one_in(2) ? "c" : "d");
                close_nest(m, verdict);
            } else {
                attribute(m, NFTA_DATA_VALUE, bytes, PICK(1, 2, 4, 8, 16, 0));
            }
            close_nest(m, value);
        } else {
            attribute32(m, type, htonl(one_in(6) ? number() : (s64)below(20)));
        }
    }
    close_nest(m, data);
    close_nest(m, element);
}

static int filter_message(struct message *m)
{
    static const char *const chain_types[] = {"filter", "nat", "route", "x"};
    int type = PICK(NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWRULE, NFT_MSG_NEWSET,
                    NFT_MSG_NEWSETELEM, below(32), below(32));
    struct nfgenmsg g = {.nfgen_family = PICK(NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET, NFPROTO_ARP, NFPROTO_BRIDGE, 0, 255)};
    if (one_in(2))
        g.nfgen_family = NFPROTO_IPV4;
    append(m, &g, sizeof g);
    if (!one_in(12))
        attribute_text(m, 1, one_in(5) ? "u" : "t");
    if (type == NFT_MSG_NEWCHAIN) {
        attribute_text(m, NFTA_CHAIN_NAME, one_in(2) ? "c" : "d");
        if (one_in(2)) {
            size_t hook = open_nest(m, NFTA_CHAIN_HOOK);
            attribute32(m, NFTA_HOOK_HOOKNUM, htonl(below(6)));
            attribute32(m, NFTA_HOOK_PRIORITY, htonl(number()));
            close_nest(m, hook);
            attribute_text(m, NFTA_CHAIN_TYPE, one_in(3) ? FROM(chain_types) : "filter");
            attribute32(m, NFTA_CHAIN_POLICY, htonl(1));
        }
    } else if (type == NFT_MSG_NEWRULE) {
        attribute_text(m, NFTA_RULE_CHAIN, one_in(2) ? "c" : "d");
        size_t list = open_nest(m, NFTA_RULE_EXPRESSIONS);
        for (int n = below(6); n > 0; n--)
            filter_expression(m);
        close_nest(m, list);
    } else if (type == NFT_MSG_NEWSET) {
        attribute_text(m, NFTA_SET_NAME, "s");
        attribute32(m, NFTA_SET_ID, htonl(below(3)));
        attribute32(m, NFTA_SET_KEY_TYPE, htonl(7));
        attribute32(m, NFTA_SET_KEY_LEN, htonl(PICK(4, 4, 2, 16, 0, 64, 65)));
        attribute32(m, NFTA_SET_FLAGS, htonl(bits(7)));
    } else if (type == NFT_MSG_NEWSETELEM) {
        attribute_text(m, 2, "s");
        size_t list = open_nest(m, NFTA_SET_ELEM_LIST_ELEMENTS);
        for (int n = below(5); n > 0; n--) {
            size_t element = open_nest(m, NFTA_LIST_ELEM), key = open_nest(m, NFTA_SET_ELEM_KEY);
            u64 value = below(9);
            attribute(m, NFTA_DATA_VALUE, &value, PICK(4, 4, 4, 2, 8));
            close_nest(m, key);
            if (one_in(3))
                attribute32(m, NFTA_SET_ELEM_FLAGS, htonl(1));
            close_nest(m, element);
        }
        close_nest(m, list);
    } else {
        any_attributes(m, 14, 2);
    }
    return NFNL_SUBSYS_NFTABLES << 8 | type;
}

static int diag_message(struct message *m)
{
    if (one_in(3)) {
        u64 request[3] = {AF_UNIX, (u64)number() << 32 | bits(32), number()};
        append(m, request, sizeof request);
    } else {
        struct inet_diag_req_v2 r = {.sdiag_family = PICK(AF_INET, AF_INET6, AF_PACKET, AF_NETLINK),
                                     .sdiag_protocol = PICK(6, 6, 17, 1, 255, 0), .idiag_ext = any64(),
                                     .idiag_states = one_in(2) ? ~0ULL : bits(14)};
        append(m, &r, sizeof r);
        if (one_in(2)) {
            struct inet_diag_bc_op ops[4];
            for (size_t i = 0; i < COUNT(ops); i++)
                ops[i] = (struct inet_diag_bc_op){below(14), PICK(4, 8, 16, 0, 255), PICK(4, 8, 12, 16, 20, 0, 65535)};
            attribute(m, INET_DIAG_REQ_BYTECODE, ops, PICK(4, 8, 12, 16));
        }
    }
    return one_in(8) ? (int)below(64) : one_in(8) ? SOCK_DESTROY : SOCK_DIAG_BY_FAMILY;
}

static void one_message(struct message *m, int (*make)(struct message *))
{
    size_t start = m->size;
    struct nlmsghdr h = {.nlmsg_seq = any64(), .nlmsg_flags = NLM_F_REQUEST | (one_in(2) ? NLM_F_ACK : 0)};
    h.nlmsg_flags |= one_in(2) ? NLM_F_CREATE : one_in(2) ? NLM_F_DUMP : bits(12);
    append(m, &h, sizeof h);
    h.nlmsg_type = make ? (u64)make(m) : below(64) | (one_in(2) ? below(16) << 8 : 0);
    if (!make)
        any_attributes(m, 32, 2);
    h.nlmsg_len = m->size - start;
    if (one_in(24))
        h.nlmsg_len = PICK(0, 15, 16, 17, 0xffffffff, h.nlmsg_len + 1, h.nlmsg_len - 1);
    if (start + sizeof h <= sizeof m->data)
        memcpy(m->data + start, &h, sizeof h);
}

static void batch_edge(struct message *m, int type)
{
    struct { struct nlmsghdr h; struct nfgenmsg g; } edge = {
        {.nlmsg_len = sizeof edge, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST}, {.res_id = htons(NFNL_SUBSYS_NFTABLES)}};
    append(m, &edge, sizeof edge);
}

// Sends one message or a batch through a netlink socket of the pool and reads some of the answer.
static void talk_netlink(void)
{
    struct message m = {.size = 0};
    switch (below(8)) {
    case 0: case 1: case 2:
        for (int n = one_in(4) ? 3 : 1; n > 0; n--)
            one_message(&m, route_message);
        break;
    case 3: case 4: case 5:
        batch_edge(&m, NFNL_MSG_BATCH_BEGIN);
        for (int n = below(6); n > 0; n--)
            one_message(&m, filter_message);
        if (!one_in(10))
            batch_edge(&m, NFNL_MSG_BATCH_END);
        break;
    case 6:
        one_message(&m, diag_message);
        break;
    default:
        one_message(&m, NULL);
    }
    for (int n = one_in(4) ? below(5) : 0; n > 0; n--)
        m.data[below(m.size)] = any64();
    // Three times, in the hope of the protocol that understands it.
    for (int n = 0; n < 3; n++) {
        int fd = of_kind(A_NETLINK);
        struct sockaddr_nl to = {.nl_family = AF_NETLINK};
        syscall(SYS_sendto, fd, copy_of(m.data, m.size), m.size, MSG_DONTWAIT, &to, sizeof to);
        syscall(SYS_recvfrom, fd, buffer(8192), below(8192), MSG_DONTWAIT | (one_in(8) ? MSG_TRUNC | MSG_PEEK : 0), 0, 0);
    }
}

#endif
