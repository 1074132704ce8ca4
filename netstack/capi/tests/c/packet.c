/* Packet sockets: frames between two stacks, with and without their headers. */
#include "wire.h"

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>

#define EXPERIMENTAL 0x88b5

static void connect_hosts(void) {
    for (int side = 0; side < 2; side++) {
        ns_config config = {.manual_clock = true, .deterministic = true, .seed = 7 + (unsigned)side};
        unsigned char mac[6] = {2, 0, 0, 0, 0, (unsigned char)(side + 1)};
        host[side] = ns_stack_new(&config);
        nic[side] = ns_nic_add_channel(host[side], "eth0", mac, 1500, 1024);
        CHECK(nic[side] > 0, 1);
    }
}

static struct sockaddr_ll station(int side, unsigned short protocol, unsigned char last) {
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol)};
    address.sll_ifindex = nic[side];
    address.sll_halen = 6;
    unsigned char mac[6] = {2, 0, 0, 0, 0, last};
    memcpy(address.sll_addr, mac, 6);
    return address;
}

static int bound(int side, int type, unsigned short protocol) {
    struct sockaddr_ll address = station(side, protocol, 0);
    int fd = ns_socket(host[side], AF_PACKET, type, 0);
    CHECK(fd >= 0, 1);
    CHECK(ns_bind(host[side], fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void frames_arrive(void) {
    static const unsigned char frame[18] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 0x88, 0xb5, 'd', 'a', 't', 'a'};
    unsigned char got[100];
    struct sockaddr_ll from, to = station(0, EXPERIMENTAL, 2);
    socklen_t len = sizeof from;
    int raw = bound(1, SOCK_RAW, EXPERIMENTAL), cooked = bound(1, SOCK_DGRAM, ETH_P_ALL);
    int sender = bound(0, SOCK_RAW, 0), cooked_sender = ns_socket(host[0], AF_PACKET, SOCK_DGRAM, 0);
    struct pollfd entry = {.fd = raw, .events = POLLIN};
    CHECK(ns_poll(host[1], &entry, 1, 0), 0);
    CHECK(ns_recv(host[1], raw, got, sizeof got, 0), -EAGAIN);

    CHECK(ns_send(host[0], sender, frame, sizeof frame, 0), 18);
    settle();
    CHECK(ns_poll(host[1], &entry, 1, 0), 1);
    CHECK(entry.revents, POLLIN);
    CHECK(ns_recvfrom(host[1], raw, got, sizeof got, MSG_PEEK, (struct sockaddr *)&from, &len), 18);
    CHECK(memcmp(got, frame, sizeof frame), 0);
    CHECK(len, sizeof from);
    CHECK(from.sll_family, AF_PACKET);
    CHECK(from.sll_protocol, htons(EXPERIMENTAL));
    CHECK(from.sll_ifindex, nic[1]);
    CHECK(from.sll_hatype, 1);
    CHECK(from.sll_pkttype, PACKET_HOST);
    CHECK(from.sll_halen, 6);
    CHECK(memcmp(from.sll_addr, frame + 6, 6), 0);
    CHECK(ns_recv(host[1], raw, got, 5, MSG_TRUNC), 18);
    CHECK(ns_recv(host[1], raw, got, 5, 0), -EAGAIN);
    CHECK(ns_recv(host[1], cooked, got, sizeof got, 0), 4);
    CHECK(memcmp(got, "data", 4), 0);

    /* A header of the stack's own. */
    CHECK(ns_sendto(host[0], cooked_sender, frame, 4, 0, (struct sockaddr *)&to, sizeof to), 4);
    settle();
    CHECK(ns_recv(host[1], raw, got, sizeof got, 0), 18);
    static const unsigned char header[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
    CHECK(memcmp(got, header, 14), 0);
    CHECK(memcmp(got + 14, frame, 4), 0);

    CHECK(ns_close(host[0], sender), 0);
    CHECK(ns_send(host[0], sender, frame, sizeof frame, 0), -EBADF);
    CHECK(ns_close(host[1], raw), 0);
    CHECK(ns_close(host[1], cooked), 0);
    CHECK(ns_close(host[0], cooked_sender), 0);
}

static void names_and_refusals(void) {
    struct sockaddr_ll name, address = station(0, 0, 0);
    struct sockaddr_in other = {.sin_family = AF_INET};
    socklen_t len = sizeof name;
    unsigned char frame[2000] = {0};
    int value = 1, fd = ns_socket(host[0], AF_PACKET, SOCK_RAW, htons(EXPERIMENTAL));
    CHECK(ns_socket(host[0], AF_PACKET, SOCK_STREAM, 0), -ESOCKTNOSUPPORT);
    /* Nobody said through what. */
    CHECK(ns_send(host[0], fd, frame, 100, 0), -ENXIO);
    CHECK(ns_bind(host[0], fd, (struct sockaddr *)&other, sizeof other), -EINVAL);
    CHECK(ns_bind(host[0], fd, (struct sockaddr *)&address, sizeof address - 1), -EINVAL);
    address.sll_ifindex = 99;
    CHECK(ns_bind(host[0], fd, (struct sockaddr *)&address, sizeof address), -ENODEV);
    address.sll_ifindex = nic[0];
    CHECK(ns_bind(host[0], fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK(ns_getsockname(host[0], fd, (struct sockaddr *)&name, &len), 0);
    CHECK(len, sizeof name);
    CHECK(name.sll_protocol, htons(EXPERIMENTAL));
    CHECK(name.sll_ifindex, nic[0]);
    CHECK(name.sll_addr[5], 1);
    CHECK(ns_send(host[0], fd, frame, 1515, 0), -EMSGSIZE);
    CHECK(ns_send(host[0], fd, frame, 13, 0), -EINVAL);
    CHECK(ns_send(host[0], fd, frame, 100, MSG_OOB), -EINVAL);
    CHECK(ns_listen(host[0], fd, 1), -EOPNOTSUPP);
    CHECK(ns_setsockopt(host[0], fd, IPPROTO_TCP, 1, &value, sizeof value), -ENOPROTOOPT);
    CHECK(ns_setsockopt(host[0], fd, SOL_PACKET, PACKET_RX_RING, &value, sizeof value), -ENOPROTOOPT);
    CHECK(ns_set_nonblocking(host[0], fd, 1), 0);
    CHECK(ns_recv(host[0], fd, frame, sizeof frame, 0), -EAGAIN);
    CHECK(ns_close(host[0], fd), 0);
}

static const unsigned char frame[18] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 0x88, 0xb5, 'd', 'a', 't', 'a'};

static int set(int fd, int level, int name, int value) {
    return ns_setsockopt(host[1], fd, level, name, &value, sizeof value);
}

static int get(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    CHECK(ns_getsockopt(host[1], fd, level, name, &value, &len), 0);
    CHECK(len, sizeof value);
    return value;
}

static void messages_carry_auxiliary_data(void) {
    char head[14], rest[100];
    union {
        struct cmsghdr header;
        char room[200];
    } control;
    struct sockaddr_ll from;
    int raw = bound(1, SOCK_RAW, EXPERIMENTAL), sender = bound(0, SOCK_RAW, 0);
    CHECK(get(raw, SOL_PACKET, PACKET_AUXDATA), 0);
    CHECK(set(raw, SOL_PACKET, PACKET_AUXDATA, 1), 0);
    CHECK(get(raw, SOL_PACKET, PACKET_AUXDATA), 1);
    CHECK(set(raw, SOL_SOCKET, SO_TIMESTAMPNS, 1), 0);

    struct iovec pieces[2] = {{(void *)frame, 10}, {(void *)(frame + 10), 8}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    CHECK(ns_sendmsg(host[0], sender, &message, 0), 18);
    settle();
    struct iovec rooms[2] = {{head, 14}, {rest, 2}};
    message = (struct msghdr){.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = rooms, .msg_iovlen = 2};
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    CHECK(ns_recvmsg(host[1], raw, &message, 0), 16);
    CHECK(message.msg_flags, MSG_TRUNC);
    CHECK(memcmp(head, frame, 14) || memcmp(rest, "da", 2), 0);
    CHECK(message.msg_namelen, sizeof from);
    CHECK(from.sll_addr[5], 9);
    struct cmsghdr *time = CMSG_FIRSTHDR(&message), *data = CMSG_NXTHDR(&message, time);
    CHECK(time->cmsg_level == SOL_SOCKET && time->cmsg_type == SCM_TIMESTAMPNS, 1);
    CHECK(data->cmsg_level == SOL_PACKET && data->cmsg_type == PACKET_AUXDATA, 1);
    CHECK(data->cmsg_len, CMSG_LEN(sizeof(struct tpacket_auxdata)));
    struct tpacket_auxdata told;
    memcpy(&told, CMSG_DATA(data), sizeof told);
    CHECK(told.tp_status, TP_STATUS_USER);
    CHECK(told.tp_len, 18);
    CHECK(told.tp_snaplen, 18);
    CHECK(told.tp_mac, 0);
    CHECK(told.tp_net, 14);
    CHECK(ns_recvmsg(host[1], raw, &message, 0), -EAGAIN);

    /* Several at once. */
    struct mmsghdr many[3] = {0};
    struct iovec parts[3];
    for (int i = 0; i < 3; i++) {
        parts[i] = (struct iovec){(void *)frame, 15 + (size_t)i};
        many[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    CHECK(ns_sendmmsg(host[0], sender, many, 3, 0), 3);
    settle();
    for (int i = 0; i < 3; i++)
        parts[i] = (struct iovec){rest, sizeof rest};
    CHECK(ns_recvmmsg(host[1], raw, many, 3, MSG_DONTWAIT), 3);
    CHECK(many[2].msg_len, 17);
    CHECK(ns_close(host[0], sender), 0);
    CHECK(ns_close(host[1], raw), 0);
}

static void statistics_and_filters(void) {
    struct tpacket_stats stats;
    socklen_t len = sizeof stats;
    unsigned char got[100];
    int raw = bound(1, SOCK_RAW, EXPERIMENTAL), sender = bound(0, SOCK_RAW, 0);
    struct sock_filter only_d[] = {{BPF_LD | BPF_B | BPF_ABS, 0, 0, 14}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 'd'},
                                   {BPF_RET | BPF_K, 0, 0, 16}, {BPF_RET | BPF_K, 0, 0, 0}};
    struct sock_fprog program = {4, only_d}, none = {0, only_d}, nowhere = {4, NULL};
    unsigned char other[18];
    memcpy(other, frame, sizeof other);
    other[14] = 'e';
    CHECK(set(raw, SOL_SOCKET, SO_DETACH_FILTER, 0), -ENOENT);
    CHECK(ns_setsockopt(host[1], raw, SOL_SOCKET, SO_ATTACH_FILTER, &none, sizeof none), -EINVAL);
    CHECK(ns_setsockopt(host[1], raw, SOL_SOCKET, SO_ATTACH_FILTER, &nowhere, sizeof nowhere), -EINVAL);
    CHECK(ns_setsockopt(host[1], raw, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
    CHECK(ns_send(host[0], sender, other, sizeof other, 0), 18);
    CHECK(ns_send(host[0], sender, frame, sizeof frame, 0), 18);
    settle();
    CHECK(ns_recv(host[1], raw, got, sizeof got, 0), 16);
    CHECK(got[14], 'd');
    CHECK(ns_recv(host[1], raw, got, sizeof got, 0), -EAGAIN);
    CHECK(ns_getsockopt(host[1], raw, SOL_PACKET, PACKET_STATISTICS, &stats, &len), 0);
    CHECK(len, sizeof stats);
    CHECK(stats.tp_packets, 1);
    CHECK(stats.tp_drops, 0);
    CHECK(ns_getsockopt(host[1], raw, SOL_PACKET, PACKET_STATISTICS, &stats, &len), 0);
    CHECK(stats.tp_packets, 0);

    CHECK(set(raw, SOL_SOCKET, SO_LOCK_FILTER, 1), 0);
    CHECK(get(raw, SOL_SOCKET, SO_LOCK_FILTER), 1);
    CHECK(set(raw, SOL_SOCKET, SO_DETACH_FILTER, 0), -EPERM);
    CHECK(set(raw, SOL_SOCKET, SO_LOCK_FILTER, 0), -EPERM);
    CHECK(ns_setsockopt(host[1], raw, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), -EPERM);
    CHECK(get(raw, SOL_SOCKET, SO_TYPE), SOCK_RAW);
    CHECK(get(raw, SOL_SOCKET, SO_DOMAIN), AF_PACKET);
    CHECK(get(raw, SOL_SOCKET, SO_PROTOCOL), 0);
    CHECK(ns_close(host[0], sender), 0);
    CHECK(ns_close(host[1], raw), 0);
}

static void members_and_groups(void) {
    unsigned char got[100];
    int one = bound(1, SOCK_RAW, EXPERIMENTAL), two = bound(1, SOCK_RAW, EXPERIMENTAL);
    int sender = bound(0, SOCK_RAW, 0), nothing = ns_socket(host[1], AF_PACKET, SOCK_RAW, 0);
    struct packet_mreq wanted = {.mr_ifindex = nic[1], .mr_type = PACKET_MR_PROMISC};
#define JOIN ns_setsockopt(host[1], one, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &wanted, sizeof wanted)
    CHECK(JOIN, 0);
    wanted.mr_type = PACKET_MR_MULTICAST;
    wanted.mr_alen = 5;
    CHECK(JOIN, -EINVAL);
    wanted.mr_alen = 6;
    CHECK(JOIN, 0);
    wanted.mr_alen = 8;
    CHECK(JOIN, -EINVAL);
    wanted.mr_ifindex = 99;
    CHECK(JOIN, -ENODEV);
    CHECK(ns_setsockopt(host[1], one, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &wanted, sizeof wanted), 0);
    CHECK(set(one, SOL_PACKET, PACKET_DROP_MEMBERSHIP, 1), -EINVAL);

    /* One frame each, in turn. */
    int group = 5 | PACKET_FANOUT_LB << 16;
    CHECK(set(nothing, SOL_PACKET, PACKET_FANOUT, group), -EINVAL);
    CHECK(set(one, SOL_PACKET, PACKET_FANOUT, group | PACKET_FANOUT_FLAG_UNIQUEID << 16), -EINVAL);
    CHECK(set(one, SOL_PACKET, PACKET_FANOUT, group), 0);
    CHECK(set(one, SOL_PACKET, PACKET_FANOUT, group), -EALREADY);
    CHECK(set(two, SOL_PACKET, PACKET_FANOUT, 5), -EINVAL);
    CHECK(set(two, SOL_PACKET, PACKET_FANOUT, group), 0);
    CHECK(get(two, SOL_PACKET, PACKET_FANOUT), group);
    struct sock_filter second[] = {{BPF_RET | BPF_K, 0, 0, 1}};
    struct sock_fprog program = {1, second};
    CHECK(ns_setsockopt(host[1], one, SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof program), -EINVAL);
    for (int i = 0; i < 4; i++)
        CHECK(ns_send(host[0], sender, frame, sizeof frame, 0), 18);
    settle();
    for (int i = 0; i < 2; i++) {
        CHECK(ns_recv(host[1], one, got, sizeof got, 0), 18);
        CHECK(ns_recv(host[1], two, got, sizeof got, 0), 18);
    }
    CHECK(ns_recv(host[1], one, got, sizeof got, 0), -EAGAIN);

    /* What the stack itself sends. */
    int all = ns_socket(host[1], AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    int own = bound(1, SOCK_RAW, 0);
    CHECK(set(all, SOL_PACKET, PACKET_IGNORE_OUTGOING, 2), -EINVAL);
    CHECK(ns_send(host[1], own, frame, sizeof frame, 0), 18);
    CHECK(ns_recv(host[1], all, got, sizeof got, 0), 18);
    CHECK(set(all, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1), 0);
    CHECK(ns_send(host[1], own, frame, sizeof frame, 0), 18);
    CHECK(ns_recv(host[1], all, got, sizeof got, 0), -EAGAIN);
    settle();
    int open[] = {one, two, nothing, all, own};
    for (int i = 0; i < 5; i++)
        CHECK(ns_close(host[1], open[i]), 0);
    CHECK(ns_close(host[0], sender), 0);
}

int main(void) {
    connect_hosts();
    frames_arrive();
    messages_carry_auxiliary_data();
    statistics_and_filters();
    members_and_groups();
    names_and_refusals();
    ns_stack_free(host[0]);
    ns_stack_free(host[1]);
    return 0;
}
