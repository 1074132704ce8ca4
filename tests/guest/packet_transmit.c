// Frames sent through a ring (PACKET_TX_RING), over the loopback.
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOT 2048
#define SLOTS 4
#define SIZE (SLOT * SLOTS)

static int listener;

static struct sockaddr_ll lo(void) {
    return (struct sockaddr_ll){
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex("lo")};
}

// An Ethernet frame with an IPv4 packet that nobody answers: of IGMP, but nonsense.
static int frame(unsigned char *out, int payload, int mark) {
    unsigned char head[34] = {[12] = 8, [14] = 0x45, [22] = 64, [23] = 2, [26] = 127, [29] = 1, [30] = 127, [33] = 1};
    unsigned total = 20 + payload, sum = 0;
    head[16] = total >> 8, head[17] = total;
    for (int i = 14; i < 34; i += 2)
        sum += head[i] << 8 | head[i + 1];
    sum = (sum >> 16) + (sum & 0xffff);
    sum = ~sum & 0xffff;
    head[24] = sum >> 8, head[25] = sum;
    memcpy(out, head, sizeof head);
    memset(out + 34, mark, payload);
    return 34 + payload;
}

// The next frame on the wire has that mark and length.
static void expect(int payload, int mark) {
    unsigned char got[4096];
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    CHECK(poll(&wait, 1, 5000) == 1);
    ssize_t length = recv(listener, got, sizeof got, 0);
    CHECK(length == 34 + payload && got[34] == mark && got[length - 1] == mark);
}

static void nothing_more(void) {
    unsigned char got[4096];
    CHECK_FAILS(recv(listener, got, sizeof got, MSG_DONTWAIT), EAGAIN);
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

static struct tpacket_req3 sizes(void) {
    return (struct tpacket_req3){
        .tp_block_size = 4096, .tp_block_nr = 2, .tp_frame_size = SLOT, .tp_frame_nr = SLOTS};
}

static int ring(int fd, int version) {
    struct tpacket_req3 request = sizes();
    socklen_t size = version == TPACKET_V3 ? sizeof request : sizeof(struct tpacket_req);
    return setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request, size);
}

static int header_length(int version) {
    return version == TPACKET_V3 ? 48 : 32;
}

static volatile unsigned *status_of(unsigned char *slot, int version) {
    return (volatile unsigned *)(slot + (version == TPACKET_V3 ? 20 : 0));
}

static void set_length(unsigned char *slot, int version, unsigned length) {
    int at[] = {8, 4, 16};
    memcpy(slot + at[version], &length, sizeof length);
}

static void set_offset(unsigned char *slot, int version, unsigned short mac, unsigned short net) {
    int at[] = {16, 12, 24};
    memcpy(slot + at[version], &mac, sizeof mac);
    memcpy(slot + at[version] + 2, &net, sizeof net);
}

static void mark(unsigned char *slot, int version) {
    __atomic_store_n(status_of(slot, version), TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
}

static void every_version_sends(void) {
    for (int version = TPACKET_V1; version <= TPACKET_V3; version++) {
        int fd = socket(AF_PACKET, SOCK_RAW, 0), head = header_length(version);
        struct sockaddr_ll to = lo();
        CHECK(set(fd, PACKET_VERSION, version) == 0 && ring(fd, version) == 0);
        CHECK_FAILS(ring(fd, version), EBUSY);
        CHECK_FAILS(set(fd, PACKET_VERSION, TPACKET_V1), EBUSY);
        CHECK_FAILS(set(fd, PACKET_LOSS, 1), EBUSY);
        CHECK_FAILS(send(fd, NULL, 0, 0), ENXIO);
        CHECK(bind(fd, (void *)&to, sizeof to) == 0);
        unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED);
        struct tpacket_req3 none = {0};
        CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &none, sizeof none), EBUSY);
        CHECK(send(fd, NULL, 0, 0) == 0);
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        CHECK(poll(&ready, 1, 0) == 1 && ready.revents == POLLOUT);
        // Around the ring, two and three at a time.
        int next = 0;
        for (int round = 0; round < 6; round++) {
            int count = 2 + round % 2, sum = 0;
            for (int i = 0; i < count; i++) {
                unsigned char *slot = map + (next + i) % SLOTS * SLOT;
                int length = frame(slot + head, 100 + round, 10 * round + i);
                set_length(slot, version, length);
                mark(slot, version);
                sum += length;
            }
            CHECK(send(fd, NULL, 0, 0) == sum);
            for (int i = 0; i < count; i++) {
                expect(100 + round, 10 * round + i);
                CHECK(*status_of(map + (next + i) % SLOTS * SLOT, version) == TP_STATUS_AVAILABLE);
            }
            next = (next + count) % SLOTS;
        }
        nothing_more();
        // One that is too long stays, until it is put right.
        unsigned char *slot = map + next * SLOT;
        int length = frame(slot + head, 50, 0x77);
        set_length(slot, version, SLOT);
        mark(slot, version);
        CHECK_FAILS(send(fd, NULL, 0, 0), EMSGSIZE);
        CHECK(*status_of(slot, version) == TP_STATUS_WRONG_FORMAT);
        CHECK(send(fd, NULL, 0, 0) == 0);
        set_length(slot, version, length);
        mark(slot, version);
        CHECK(send(fd, "ignored", 7, 0) == length);
        expect(50, 0x77);
        munmap(map, SIZE);
        CHECK(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &none, sizeof none) == 0);
        close(fd);
    }
}

static void nonsense_is_passed_over_if_wanted(void) {
    int fd = socket(AF_PACKET, SOCK_RAW, 0), head = header_length(TPACKET_V2);
    struct sockaddr_ll to = lo();
    CHECK(set(fd, PACKET_VERSION, TPACKET_V2) == 0 && set(fd, PACKET_LOSS, 1) == 0 && get(fd, PACKET_LOSS) == 1);
    CHECK(ring(fd, TPACKET_V2) == 0 && bind(fd, (void *)&to, sizeof to) == 0);
    unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    set_length(map, TPACKET_V2, SLOT);
    mark(map, TPACKET_V2);
    int length = frame(map + SLOT + head, 60, 0x33);
    set_length(map + SLOT, TPACKET_V2, length);
    mark(map + SLOT, TPACKET_V2);
    CHECK(send(fd, NULL, 0, 0) == length);
    CHECK(*status_of(map, TPACKET_V2) == TP_STATUS_AVAILABLE);
    expect(60, 0x33);
    munmap(map, SIZE);
    close(fd);
}

static void slots_may_say_where_frames_are(void) {
    for (int version = TPACKET_V1; version <= TPACKET_V3; version++) {
        int fd = socket(AF_PACKET, SOCK_RAW, 0), head = header_length(version);
        struct sockaddr_ll to = lo();
        CHECK(set(fd, PACKET_VERSION, version) == 0 && set(fd, PACKET_TX_HAS_OFF, 1) == 0);
        CHECK(get(fd, PACKET_TX_HAS_OFF) == 1);
        CHECK(ring(fd, version) == 0 && bind(fd, (void *)&to, sizeof to) == 0);
        unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        int length = frame(map + 500, 70, 0x44);
        set_length(map, version, length);
        set_offset(map, version, 500, 0);
        mark(map, version);
        CHECK(send(fd, NULL, 0, 0) == length);
        expect(70, 0x44);
        for (int bad = 0; bad < 2; bad++) {
            set_length(map + SLOT, version, length);
            set_offset(map + SLOT, version, bad ? SLOT - length + 1 : head - 1, 0);
            mark(map + SLOT, version);
            CHECK_FAILS(send(fd, NULL, 0, 0), EINVAL);
            CHECK(*status_of(map + SLOT, version) == TP_STATUS_WRONG_FORMAT);
        }
        nothing_more();
        munmap(map, SIZE);
        close(fd);
    }
}

static void version_three_is_plain(void) {
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct tpacket_req3 request = sizes();
    struct sockaddr_ll to = lo();
    CHECK(set(fd, PACKET_VERSION, TPACKET_V3) == 0);
    request.tp_retire_blk_tov = 10;
    CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof request), EINVAL);
    CHECK(ring(fd, TPACKET_V3) == 0 && bind(fd, (void *)&to, sizeof to) == 0);
    unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned next = SLOT;
    memcpy(map, &next, sizeof next);
    set_length(map, TPACKET_V3, frame(map + 48, 60, 1));
    mark(map, TPACKET_V3);
    CHECK_FAILS(send(fd, NULL, 0, 0), EINVAL);
    munmap(map, SIZE);
    close(fd);
}

// Both rings are one mapping, that for receiving first; a cooked socket makes the link's header.
static void both_rings_and_addresses(void) {
    int fd = socket(AF_PACKET, SOCK_DGRAM, 0);
    unsigned char bytes[200];
    struct tpacket_req3 request = sizes();
    struct sockaddr_ll to = lo();
    CHECK(set(fd, PACKET_VERSION, TPACKET_V2) == 0);
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(struct tpacket_req)) == 0);
    CHECK(ring(fd, TPACKET_V2) == 0);
    unsigned char *map = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    int length = frame(bytes, 80, 0x55) - 14;
    memcpy(map + SIZE + 32, bytes + 14, length);
    set_length(map + SIZE, TPACKET_V2, length);
    mark(map + SIZE, TPACKET_V2);
    to.sll_halen = 6;
    CHECK(sendto(fd, NULL, 0, 0, (void *)&to, sizeof to) == length);
    expect(80, 0x55);
    munmap(map, 2 * SIZE);
    close(fd);
}

static void values_are_kept(void) {
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    int names[] = {PACKET_TIMESTAMP, PACKET_ORIGDEV, PACKET_QDISC_BYPASS, PACKET_COPY_THRESH};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(get(fd, names[i]) == 0 && set(fd, names[i], 1) == 0 && get(fd, names[i]) == 1);
    // The type of a control message only.
    CHECK_FAILS(set(fd, PACKET_TX_TIMESTAMP, 1), ENOPROTOOPT);
    close(fd);
}

int main(void) {
    own_network();
    struct sockaddr_ll on = lo();
    listener = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP));
    CHECK(bind(listener, (void *)&on, sizeof on) == 0);
    PART(every_version_sends);
    PART(nonsense_is_passed_over_if_wanted);
    PART(slots_may_say_where_frames_are);
    PART(version_three_is_plain);
    PART(both_rings_and_addresses);
    PART(values_are_kept);
    return 0;
}
