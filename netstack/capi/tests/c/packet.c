/* Packet sockets: frames between two stacks, with and without their headers. */
#include "wire.h"

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
    CHECK(ns_setsockopt(host[0], fd, SOL_SOCKET, SO_BROADCAST, &value, sizeof value), -EOPNOTSUPP);
    CHECK(ns_set_nonblocking(host[0], fd, 1), 0);
    CHECK(ns_recv(host[0], fd, frame, sizeof frame, 0), -EAGAIN);
    CHECK(ns_close(host[0], fd), 0);
}

int main(void) {
    connect_hosts();
    frames_arrive();
    names_and_refusals();
    ns_stack_free(host[0]);
    ns_stack_free(host[1]);
    return 0;
}
