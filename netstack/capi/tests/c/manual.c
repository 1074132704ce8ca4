/* Two stacks in virtual time: the program is the wire between them. */
#include "wire.h"

static void connect_hosts(void) {
    for (int side = 0; side < 2; side++) {
        ns_config config = {.manual_clock = true, .deterministic = true, .seed = 7 + (unsigned)side};
        unsigned char mac[6] = {2, 0, 0, 0, 0, (unsigned char)(side + 1)};
        host[side] = ns_stack_new(&config);
        nic[side] = ns_nic_add_channel(host[side], "eth0", mac, 1500, 1024);
        CHECK(nic[side] > 0, 1);
        CHECK(ns_nic_add_channel(host[side], "eth0", mac, 1500, 1024), -EEXIST);
        CHECK(ns_address_add(host[side], (unsigned)nic[side], side ? "10.0.0.2/24" : "10.0.0.1/24"), 0);
        CHECK(ns_address_add(host[side], 99, "10.0.0.3/24"), -ENODEV);
        CHECK(ns_address_add(host[side], (unsigned)nic[side], "10.0.0.300/24"), -EINVAL);
    }
}

static void stream(void) {
    struct sockaddr_in server = address4("10.0.0.2", 80), peer;
    socklen_t len = sizeof peer;
    int listener = ns_socket(host[1], AF_INET, SOCK_STREAM, 0);
    CHECK(ns_bind(host[1], listener, (struct sockaddr *)&server, sizeof server), 0);
    CHECK(ns_listen(host[1], listener, 4), 0);
    CHECK(ns_accept(host[1], listener, NULL, NULL, 0), -EAGAIN);

    int client = ns_socket(host[0], AF_INET, SOCK_STREAM, 0);
    CHECK(ns_connect(host[0], client, (struct sockaddr *)&server, sizeof server), -EINPROGRESS);
    struct pollfd entry = {.fd = client, .events = POLLOUT};
    CHECK(ns_poll(host[0], &entry, 1, -1), 0);
    settle();
    CHECK(ns_poll(host[0], &entry, 1, -1), 1);
    CHECK(entry.revents, POLLOUT);
    int accepted = ns_accept(host[1], listener, (struct sockaddr *)&peer, &len, 0);
    CHECK(accepted, 1);
    CHECK(peer.sin_addr.s_addr, inet_addr("10.0.0.1"));

    /* A byte pattern larger than any buffer, carried in pieces. */
    static unsigned char data[1 << 20], got[1 << 20];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 31 + i / 251);
    size_t sent = 0, received = 0;
    while (received < sizeof data) {
        ssize_t count = ns_send(host[0], client, data + sent, sizeof data - sent, 0);
        if (count > 0)
            sent += (size_t)count;
        settle();
        while ((count = ns_recv(host[1], accepted, got + received, sizeof got - received, 0)) > 0)
            received += (size_t)count;
        settle();
        /* Delayed acknowledgments are due. */
        CHECK(ns_stack_advance_to(host[1], ns_stack_now(host[1]) + 50000000), 0);
        CHECK(ns_stack_advance_to(host[0], ns_stack_now(host[0]) + 50000000), 0);
    }
    settle();
    CHECK(memcmp(data, got, sizeof data), 0);
    ns_tcp_info info;
    CHECK(ns_tcp_get_info(host[0], client, &info), 0);
    CHECK(info.state, 1);
    CHECK(info.bytes_acked, sizeof data);
    CHECK(info.total_retransmits, 0);

    /* Half-close, then the rest. */
    CHECK(ns_shutdown(host[0], client, SHUT_WR), 0);
    settle();
    CHECK(ns_recv(host[1], accepted, got, 1, 0), 0);
    CHECK(ns_send(host[1], accepted, (const unsigned char *)"bye", 3, 0), 3);
    settle();
    CHECK(ns_recv(host[0], client, got, 8, MSG_PEEK), 3);
    CHECK(ns_recv(host[0], client, got, 8, 0), 3);
    CHECK(memcmp(got, "bye", 3), 0);
    CHECK(ns_close(host[1], accepted), 0);
    CHECK(ns_close(host[0], client), 0);
    CHECK(ns_close(host[0], client), -EBADF);
    settle();
}

static void lost_frames(void) {
    struct sockaddr_in server = address4("10.0.0.2", 80);
    int client = ns_socket(host[0], AF_INET, SOCK_STREAM, 0);
    CHECK(ns_connect(host[0], client, (struct sockaddr *)&server, sizeof server), -EINPROGRESS);
    /* The SYN is lost; the timer sends it again one second later (RFC 6298). */
    static unsigned char frame[2048];
    CHECK(ns_take(host[0], (unsigned)nic[0], frame, 10), -EMSGSIZE);
    while (ns_take(host[0], (unsigned)nic[0], frame, sizeof frame) > 0)
        ;
    unsigned long before = frames;
    uint64_t deadline = ns_stack_next_deadline(host[0]);
    CHECK(deadline - ns_stack_now(host[0]) <= 1000000000ull, 1);
    CHECK(ns_stack_advance_to(host[0], ns_stack_now(host[0]) + 1100000000ull), 0);
    settle();
    CHECK(frames > before, 1);
    struct pollfd entry = {.fd = client, .events = POLLOUT};
    CHECK(ns_poll(host[0], &entry, 1, 0), 1);
    CHECK(ns_close(host[0], client), 0);
    settle();
}

static void datagrams(void) {
    struct sockaddr_in server = address4("10.0.0.2", 53), from;
    socklen_t len = sizeof from;
    unsigned char buffer[8];
    int b = ns_socket(host[1], AF_INET, SOCK_DGRAM, 0), a = ns_socket(host[0], AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    CHECK(ns_bind(host[1], b, (struct sockaddr *)&server, sizeof server), 0);
    CHECK(ns_sendto(host[0], a, (const unsigned char *)"datagram!", 9, 0, (struct sockaddr *)&server, sizeof server), 9);
    settle();
    CHECK(ns_recvfrom(host[1], b, buffer, sizeof buffer, MSG_PEEK | MSG_TRUNC, NULL, NULL), 9);
    CHECK(ns_recvfrom(host[1], b, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &len), 8);
    CHECK(len, sizeof from);
    CHECK(from.sin_addr.s_addr, inet_addr("10.0.0.1"));
    CHECK(ns_recv(host[1], b, buffer, sizeof buffer, 0), -EAGAIN);
    CHECK(ns_close(host[0], a), 0);
    CHECK(ns_close(host[1], b), 0);
}

int main(void) {
    connect_hosts();
    stream();
    lost_frames();
    datagrams();
    CHECK(ns_socket(NULL, AF_INET, SOCK_STREAM, 0), -EFAULT);
    CHECK(ns_socket(host[0], AF_UNIX, SOCK_STREAM, 0), -EAFNOSUPPORT);
    ns_stack_free(host[0]);
    ns_stack_free(host[1]);
    ns_stack_free(NULL);
    return 0;
}
