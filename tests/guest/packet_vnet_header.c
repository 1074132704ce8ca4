// Frames with virtio-net headers on packet sockets (PACKET_VNET_HDR), over the loopback.
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_VNET_HDR_SZ
#define PACKET_VNET_HDR_SZ 24
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#define HEADERS 42
#define PORT 4242
// An address of the loopback device: frames from or for 127.0.0.0/8 that a packet socket sends are not believed.
#define OWN 0x0a090901

static struct sockaddr_ll lo(void) {
    return (struct sockaddr_ll){
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex("lo")};
}

static int set(int fd, int name, int value) {
    return setsockopt(fd, SOL_PACKET, name, &value, sizeof value);
}

static int get(int fd, int name) {
    int value = -7;
    socklen_t size = sizeof value;
    CHECK(getsockopt(fd, SOL_PACKET, name, &value, &size) == 0 && size == sizeof value);
    return value;
}

// A socket for frames of the loopback; protocol 0 receives nothing.
static int packet_socket(int protocol) {
    struct sockaddr_ll on = lo();
    on.sll_protocol = htons(protocol);
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    CHECK(fd >= 0 && bind(fd, (void *)&on, sizeof on) == 0);
    return fd;
}

static unsigned sum(const unsigned char *data, int length, unsigned start) {
    for (int i = 0; i < length; i += 2)
        start += data[i] << 8 | (i + 1 < length ? data[i + 1] : 0);
    while (start >> 16)
        start = (start >> 16) + (start & 0xffff);
    return start;
}

static void put16(unsigned char *at, unsigned value) {
    at[0] = value >> 8, at[1] = value;
}

// A virtio-net header in front of an Ethernet frame with a datagram whose checksum is not finished.
static int datagram(unsigned char *out, int payload) {
    struct virtio_net_hdr header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .hdr_len = HEADERS, .csum_start = 34, .csum_offset = 6};
    memcpy(out, &header, sizeof header);
    unsigned char *frame = out + sizeof header;
    unsigned char head[HEADERS] = {[12] = 8, [14] = 0x45, [20] = 0x40, [22] = 64, [23] = 17,
                                   [26] = 10, [27] = 9, [28] = 9, [29] = 2, [30] = 10, [31] = 9, [32] = 9, [33] = 1};
    put16(head + 16, 28 + payload);
    put16(head + 24, ~sum(head + 14, 20, 0));
    put16(head + 34, PORT + 1);
    put16(head + 36, PORT);
    put16(head + 38, 8 + payload);
    put16(head + 40, sum(head + 26, 8, 17 + 8 + payload));
    memcpy(frame, head, HEADERS);
    for (int i = 0; i < payload; i++)
        frame[HEADERS + i] = i / 100 + i;
    return sizeof header + HEADERS + payload;
}

static void is_payload(const unsigned char *data, int from, int length) {
    for (int i = 0; i < length; i++)
        CHECK(data[i] == (unsigned char)((from + i) / 100 + from + i));
}

static int udp_socket(void) {
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(OWN)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 1 << 20;
    CHECK(bind(fd, (void *)&at, sizeof at) == 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    return fd;
}

static void await(int fd) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK(poll(&wait, 1, 5000) == 1);
}

static void options(void) {
    int cooked = socket(AF_PACKET, SOCK_DGRAM, 0), fd = packet_socket(0);
    CHECK_FAILS(set(cooked, PACKET_VNET_HDR, 1), EINVAL);
    CHECK_FAILS(set(cooked, PACKET_VNET_HDR_SZ, 0), EINVAL);
    CHECK(get(cooked, PACKET_VNET_HDR) == 0 && get(cooked, PACKET_VNET_HDR_SZ) == 0);
    CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, "", 1), EINVAL);
    CHECK_FAILS(set(fd, PACKET_VNET_HDR_SZ, 11), EINVAL);
    CHECK(set(fd, PACKET_VNET_HDR, 7) == 0);
    CHECK(get(fd, PACKET_VNET_HDR) == 1 && get(fd, PACKET_VNET_HDR_SZ) == 10);
    CHECK(set(fd, PACKET_VNET_HDR_SZ, 12) == 0);
    CHECK(get(fd, PACKET_VNET_HDR) == 1 && get(fd, PACKET_VNET_HDR_SZ) == 12);
    CHECK(set(fd, PACKET_VNET_HDR_SZ, 0) == 0 && get(fd, PACKET_VNET_HDR) == 0);
    struct tpacket_req ring = {4096, 2, 2048, 4};
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) == 0);
    CHECK_FAILS(set(fd, PACKET_VNET_HDR, 1), EBUSY);
    CHECK_FAILS(set(fd, PACKET_VNET_HDR_SZ, 12), EBUSY);
    close(fd);
    close(cooked);
}

static void unfinished_checksums_are_finished(void) {
    for (int size = 10; size <= 12; size += 2) {
        int fd = packet_socket(0), udp = udp_socket();
        unsigned char frame[2048], got[2048];
        int length = datagram(frame, 100);
        CHECK(set(fd, PACKET_VNET_HDR_SZ, size) == 0);
        memmove(frame + size, frame + 10, length - 10);
        CHECK(send(fd, frame, length - 10 + size, 0) == length - 10 + size);
        await(udp);
        CHECK(recv(udp, got, sizeof got, 0) == 100);
        is_payload(got, 0, 100);
        close(udp);
        close(fd);
    }
}

static void super_segments_are_cut(void) {
    int fd = packet_socket(0), udp = udp_socket();
    static unsigned char frame[65000], got[65000];
    int length = datagram(frame, 9500);
    struct virtio_net_hdr *header = (void *)frame;
    header->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4, header->gso_size = 1000;
    CHECK(set(fd, PACKET_VNET_HDR, 1) == 0);
    CHECK(send(fd, frame, length, 0) == length);
    for (int i = 0; i < 10; i++) {
        int want = i < 9 ? 1000 : 500;
        await(udp);
        CHECK(recv(udp, got, sizeof got, 0) == want);
        is_payload(got, 1000 * i, want);
    }
    int on = 1;
    CHECK(setsockopt(udp, IPPROTO_UDP, UDP_GRO, &on, sizeof on) == 0);
    CHECK(send(fd, frame, length, 0) == length);
    char control[64];
    struct iovec into = {got, sizeof got};
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    await(udp);
    CHECK(recvmsg(udp, &message, 0) == 9500);
    is_payload(got, 0, 9500);
    struct cmsghdr *size = CMSG_FIRSTHDR(&message);
    CHECK(size && size->cmsg_level == IPPROTO_UDP && size->cmsg_type == UDP_GRO);
    CHECK(*(int *)CMSG_DATA(size) == 1000);
    // What fits one segment is none.
    header->gso_size = 9500;
    CHECK(send(fd, frame, length, 0) == length);
    message.msg_controllen = sizeof control;
    await(udp);
    CHECK(recvmsg(udp, &message, 0) == 9500 && message.msg_controllen == 0);
    close(udp);
    close(fd);
}

static void nonsense_is_refused(void) {
    int fd = packet_socket(0);
    static unsigned char frame[140000];
    struct virtio_net_hdr *header = (void *)frame;
    CHECK(set(fd, PACKET_VNET_HDR, 1) == 0);
    int length = datagram(frame, 3000);
    CHECK_FAILS(send(fd, frame, 9, 0), EINVAL);
    CHECK_FAILS(send(fd, frame, 10, 0), EINVAL);
    // The header is to be longer than the frame, by itself or by its checksum.
    header->hdr_len = 4000;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->hdr_len = 0, header->csum_start = 3042;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->csum_start = 65535;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    datagram(frame, 3000);
    header->gso_type = 2, header->gso_size = 1000;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4, header->gso_size = 0;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->gso_size = 65535;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->gso_size = 1000, header->flags = 0;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, header->csum_offset = 16;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->csum_offset = 6, header->gso_size = 20;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    // The sum of TCP is elsewhere.
    header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4, header->gso_size = 1000;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    // No transport header, and a transport header inside that of IP.
    header->csum_start = 3038, header->csum_offset = 2, header->gso_type = 0;
    header->csum_start = 19;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    // Without a checksum the kind must be what the packet is.
    datagram(frame, 3000);
    header->flags = 0, header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4, header->gso_size = 1000;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    header->gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
    CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    // Only super-segments may be longer than the device's frames.
    length = datagram(frame, 65530);
    CHECK_FAILS(send(fd, frame, length, 0), EMSGSIZE);
    CHECK_FAILS(recv(fd, frame, 9, MSG_DONTWAIT), EAGAIN);
    close(fd);
}

// Two ends of a connection over the loopback.
static void connection(int ends[2]) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(OWN)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listener, (void *)&at, sizeof at) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (void *)&at, &size) == 0);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    int least = 1000;
    CHECK(setsockopt(ends[0], IPPROTO_TCP, TCP_MAXSEG, &least, sizeof least) == 0);
    CHECK(connect(ends[0], (void *)&at, size) == 0);
    ends[1] = accept(listener, NULL, NULL);
    close(listener);
}

// A super-segment of a connection: what the header says fits the frame.
static void is_super_segment(const struct virtio_net_hdr *header, const unsigned char *frame, int length) {
    CHECK(header->flags == VIRTIO_NET_HDR_F_NEEDS_CSUM);
    CHECK(header->csum_start == 34 && header->csum_offset == 16);
    CHECK((header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4);
    CHECK(header->gso_size > 500 && header->gso_size <= 1000);
    CHECK(header->hdr_len >= 54 && header->hdr_len <= length);
    int total = frame[16] << 8 | frame[17];
    CHECK(frame[12] == 8 && frame[14] == 0x45 && total == length - 14 && frame[23] == 6);
}

static void super_segments_are_received(void) {
    for (int size = 10; size <= 12; size += 2) {
        int fd = packet_socket(ETH_P_IP), ends[2];
        static unsigned char got[70000], data[5000];
        CHECK(set(fd, PACKET_VNET_HDR_SZ, size) == 0);
        connection(ends);
        CHECK(send(ends[0], data, sizeof data, 0) == sizeof data);
        for (;;) {
            await(fd);
            int peeked = recv(fd, got, size + 60, MSG_PEEK | MSG_TRUNC);
            CHECK_FAILS(recv(fd, got, 9, MSG_PEEK), EINVAL);
            int length = recv(fd, got, sizeof got, 0);
            CHECK(length > size && peeked == length);
            if (length > 5000) {
                CHECK(size == 10 || (got[10] == 0 && got[11] == 0));
                is_super_segment((void *)got, got + size, length - size);
                break;
            }
        }
        // Sent again by hand, it is what it was; the connection has it already.
        int other = packet_socket(ETH_P_IP), kept = size + (got[size + 16] << 8 | got[size + 17]) + 14;
        static unsigned char again[70000];
        CHECK(set(other, PACKET_VNET_HDR_SZ, size) == 0);
        CHECK(send(fd, got, kept, 0) == kept);
        await(other);
        CHECK(recv(other, again, sizeof again, 0) == kept);
        is_super_segment((void *)again, again + size, kept - size);
        CHECK(memcmp(got + size, again + size, kept - size) == 0);
        // Without the checksum it is found again.
        ((struct virtio_net_hdr *)got)->flags = 0;
        CHECK(send(fd, got, kept, 0) == kept);
        // A buffer that is too small for the header loses the frame.
        close(other);
        close(ends[0]);
        close(ends[1]);
        close(fd);
    }
}

static void short_buffers_lose_frames(void) {
    int fd = packet_socket(0), listener = packet_socket(ETH_P_IP), udp = udp_socket();
    unsigned char frame[2048], got[2048];
    int length = datagram(frame, 100);
    CHECK(set(fd, PACKET_VNET_HDR, 1) == 0 && set(listener, PACKET_VNET_HDR, 1) == 0);
    CHECK(send(fd, frame, length, 0) == length);
    await(listener);
    CHECK_FAILS(recv(listener, got, 9, 0), EINVAL);
    CHECK_FAILS(recv(listener, got, sizeof got, MSG_DONTWAIT), EAGAIN);
    CHECK(send(fd, frame, length, 0) == length);
    await(listener);
    struct iovec into = {got, 30};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1};
    CHECK(recvmsg(listener, &message, 0) == 30 && message.msg_flags == MSG_TRUNC);
    CHECK(memcmp(got + 10, frame + 10, 20) == 0);
    close(udp);
    close(listener);
    close(fd);
}

static void rings_have_headers(void) {
    for (int version = TPACKET_V1; version <= TPACKET_V3; version++) {
        int fd = packet_socket(ETH_P_IP), sender = packet_socket(0), udp = udp_socket();
        struct tpacket_req3 request = {
            .tp_block_size = 16384, .tp_block_nr = 4, .tp_frame_size = 8192, .tp_frame_nr = 8};
        request.tp_retire_blk_tov = version == TPACKET_V3 ? 10 : 0;
        socklen_t size = version == TPACKET_V3 ? sizeof request : sizeof(struct tpacket_req);
        CHECK(set(fd, PACKET_VERSION, version) == 0 && set(fd, PACKET_VNET_HDR, 1) == 0);
        CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, size) == 0);
        unsigned char *map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED);
        unsigned char frame[4096];
        int length = datagram(frame, 3000);
        struct virtio_net_hdr *header = (void *)frame;
        header->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4, header->gso_size = 1000;
        CHECK(set(sender, PACKET_VNET_HDR, 1) == 0);
        CHECK(send(sender, frame, length, 0) == length);
        await(fd);
        unsigned char *at = map;
        unsigned mac, net, seen;
        if (version == TPACKET_V1) {
            struct tpacket_hdr *slot = (void *)at;
            CHECK(slot->tp_status & TP_STATUS_USER);
            mac = slot->tp_mac, net = slot->tp_net, seen = slot->tp_snaplen;
        } else if (version == TPACKET_V2) {
            struct tpacket2_hdr *slot = (void *)at;
            CHECK(slot->tp_status & TP_STATUS_USER);
            mac = slot->tp_mac, net = slot->tp_net, seen = slot->tp_snaplen;
        } else {
            struct tpacket_block_desc *block = (void *)at;
            CHECK(block->hdr.bh1.block_status & TP_STATUS_USER && block->hdr.bh1.num_pkts >= 1);
            at += block->hdr.bh1.offset_to_first_pkt;
            struct tpacket3_hdr *slot = (void *)at;
            mac = slot->tp_mac, net = slot->tp_net, seen = slot->tp_snaplen;
        }
        printf("version %d: link header at %u, network header at %u\n", version + 1, mac, net);
        CHECK(seen == 3000 + HEADERS);
        struct virtio_net_hdr *got = (void *)(at + mac - sizeof *got);
        CHECK(got->flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && got->gso_type == VIRTIO_NET_HDR_GSO_UDP_L4);
        CHECK(got->gso_size == 1000 && got->csum_start == 34 && got->csum_offset == 6);
        is_payload(at + mac + HEADERS, 0, 3000);
        munmap(map, 65536);
        close(udp);
        close(sender);
        close(fd);
    }
}

static void rings_send_super_segments(void) {
    int fd = packet_socket(0), udp = udp_socket();
    struct tpacket_req request = {16384, 1, 8192, 2};
    CHECK(set(fd, PACKET_VERSION, TPACKET_V2) == 0 && set(fd, PACKET_VNET_HDR, 1) == 0);
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof request) == 0);
    unsigned char *map = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    unsigned char got[4096];
    struct tpacket2_hdr *slot = (void *)map;
    struct virtio_net_hdr *header = (void *)(map + 32);
    slot->tp_len = datagram(map + 32, 3000);
    header->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4, header->gso_size = 1000;
    slot->tp_status = TP_STATUS_SEND_REQUEST;
    int sent = send(fd, NULL, 0, 0);
    printf("sent %d\n", sent);
    CHECK(slot->tp_status == TP_STATUS_AVAILABLE);
    for (int i = 0; i < 3; i++) {
        await(udp);
        CHECK(recv(udp, got, sizeof got, 0) == 1000);
        is_payload(got, 1000 * i, 1000);
    }
    slot = (void *)(map + 8192);
    slot->tp_len = 9;
    slot->tp_status = TP_STATUS_SEND_REQUEST;
    CHECK_FAILS(send(fd, NULL, 0, 0), EINVAL);
    CHECK(slot->tp_status == TP_STATUS_WRONG_FORMAT);
    slot->tp_len = datagram(map + 8192 + 32, 3000);
    header = (void *)(map + 8192 + 32);
    header->gso_type = 77;
    slot->tp_status = TP_STATUS_SEND_REQUEST;
    CHECK_FAILS(send(fd, NULL, 0, 0), EINVAL);
    CHECK(slot->tp_status == TP_STATUS_WRONG_FORMAT);
    munmap(map, 16384);
    close(udp);
    close(fd);
}

// Nothing is received for a while; what was sent behind it is.
static void is_dropped(int fd, int udp, const unsigned char *frame, int length) {
    unsigned char good[256], got[4096];
    CHECK(send(fd, frame, length, 0) == length);
    int other = datagram(good, 60) - 10;
    good[10 + 40] = good[10 + 41] = 0;
    CHECK(send(fd, good + 10, other, 0) == other);
    await(udp);
    CHECK(recv(udp, got, sizeof got, 0) == 60);
    CHECK_FAILS(recv(udp, got, sizeof got, MSG_DONTWAIT), EAGAIN);
}

// The loopback vouches for nothing that a packet socket has written.
static void plain_frames_are_looked_at(void) {
    int fd = packet_socket(0), udp = udp_socket();
    unsigned char frame[2048], got[2048];
    int length = datagram(frame, 100) - 10;
    unsigned char *ip = frame + 10 + 14, *field = ip + 26;
    // Only the sum of the pseudo-header.
    is_dropped(fd, udp, frame + 10, length);
    put16(field, 0);
    put16(field, ~sum(ip + 12, 8, 17 + 108 + sum(ip + 20, 108, 0)));
    CHECK(send(fd, frame + 10, length, 0) == length);
    await(udp);
    CHECK(recv(udp, got, sizeof got, 0) == 100);
    ip[10] ^= 1;
    is_dropped(fd, udp, frame + 10, length);
    ip[10] ^= 1;
    frame[10 + HEADERS + 7] ^= 1;
    is_dropped(fd, udp, frame + 10, length);
    close(udp);
    close(fd);
}

// What hardware once did: one datagram, in fragments of IP that share its checksum.
static void fragments(unsigned char *frame, int length, int size, const char *name) {
    int fd = packet_socket(0), listener = packet_socket(ETH_P_IP), udp = udp_socket();
    static unsigned char got[70000];
    struct virtio_net_hdr *header = (void *)frame;
    header->gso_type = 3, header->gso_size = size;
    CHECK(set(fd, PACKET_VNET_HDR, 1) == 0 && set(listener, PACKET_VNET_HDR, 1) == 0);
    CHECK(send(fd, frame, length, 0) == length);
    await(udp);
    int payload = length - 10 - HEADERS;
    CHECK(recv(udp, got, sizeof got, 0) == payload);
    is_payload(got, 0, payload);
    for (int seen = 0; seen < payload + 8;) {
        await(listener);
        int part = recv(listener, got, sizeof got, 0);
        struct virtio_net_hdr *of = (void *)got;
        if (got[10 + 6] == 0 && got[10 + 13] == 0 && got[10 + 23] == 17) {
            unsigned total = got[26] << 8 | got[27], field = got[30] << 8 | got[31];
            printf("%s: flags %d, kind %d, size %d, %u bytes at %x\n", name, of->flags & 1, of->gso_type, of->gso_size, total, field);
            CHECK(part == (int)total + 24 && sum(got + 24, 20, 0) == 0xffff);
            seen += total - 20;
        }
    }
    close(udp);
    close(listener);
    close(fd);
}

static void datagrams_are_fragmented(void) {
    static unsigned char frame[65000];
    fragments(frame, datagram(frame, 3000), 1000, "three");
    fragments(frame, datagram(frame, 3000), 1480, "two and a bit");
    fragments(frame, datagram(frame, 992), 1000, "just one");
    fragments(frame, datagram(frame, 996), 1000, "header too many");
    fragments(frame, datagram(frame, 60000), 8000, "many");
    int length = datagram(frame, 3000);
    ((struct virtio_net_hdr *)frame)->flags = 0;
    fragments(frame, length, 1000, "no checksum asked for");
    // It has to be UDP, its checksum where that of UDP is.
    int fd = packet_socket(0);
    CHECK(set(fd, PACKET_VNET_HDR, 1) == 0);
    struct virtio_net_hdr *header = (void *)frame;
    for (int wrong = 0; wrong < 4; wrong++) {
        length = datagram(frame, 3000);
        header->gso_type = 3, header->gso_size = 1000;
        if (wrong == 0)
            header->gso_size = 0;
        if (wrong == 1)
            header->flags = 0, frame[10 + 23] = 6;
        if (wrong == 2)
            header->csum_start = 3041;
        if (wrong == 3)
            header->gso_size = 65535;
        CHECK_FAILS(send(fd, frame, length, 0), EINVAL);
    }
    close(fd);
}

// A super-segment whose first segment says that its sender has slowed down (RFC 3168 section 6.1.2).
static void congestion_window_reduced_is_told(void) {
    int fd = packet_socket(0), listener = packet_socket(ETH_P_IP);
    static unsigned char frame[4096], got[8192];
    int length = datagram(frame, 3000);
    struct virtio_net_hdr *header = (void *)frame;
    header->csum_offset = 16, header->gso_size = 1000;
    frame[10 + 23] = 6, frame[10 + 34 + 12] = 0x50;
    put16(frame + 10 + 24, 0);
    put16(frame + 10 + 24, ~sum(frame + 24, 20, 0));
    CHECK(set(fd, PACKET_VNET_HDR, 1) == 0 && set(listener, PACKET_VNET_HDR, 1) == 0);
    for (int reduced = 0; reduced < 2; reduced++) {
        header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | (reduced ? VIRTIO_NET_HDR_GSO_ECN : 0);
        frame[10 + 34 + 13] = 0x10 | (reduced ? 0x80 : 0);
        CHECK(send(fd, frame, length, 0) == length);
        int got_length;
        do {
            await(listener);
            CHECK((got_length = recv(listener, got, sizeof got, 0)) > 0);
        } while (got_length < 3000);
        CHECK(((struct virtio_net_hdr *)got)->gso_type == header->gso_type);
    }
    close(listener);
    close(fd);
}

int main(void) {
    own_network();
    struct ifreq own = {.ifr_name = "lo:1"};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(OWN)};
    memcpy(&own.ifr_addr, &address, sizeof address);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(ioctl(fd, SIOCSIFADDR, &own) == 0);
    close(fd);
    PART(options);
    PART(unfinished_checksums_are_finished);
    PART(super_segments_are_cut);
    PART(nonsense_is_refused);
    PART(super_segments_are_received);
    PART(short_buffers_lose_frames);
    PART(plain_frames_are_looked_at);
    PART(datagrams_are_fragmented);
    PART(congestion_window_reduced_is_told);
    PART(rings_have_headers);
    PART(rings_send_super_segments);
    return 0;
}
