// Classic BPF programs at sockets, and rings of packet sockets.
#include "check.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int attach(int fd, struct sock_filter *code, unsigned short count) {
    struct sock_fprog program = {.len = count, .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

// A UDP socket on the loopback; its port goes to `port`.
static int udp(unsigned short *port) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void send_to(int fd, unsigned short port, const char *text) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, sizeof address) ==
          (ssize_t)strlen(text));
}

static void programs_are_checked(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sock_filter endless[] = {BPF_STMT(BPF_LD | BPF_IMM, 1)};
    struct sock_filter outside[] = {BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 9, 0), BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_filter unknown[] = {{.code = 0xffff}, BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_filter fine[] = {BPF_STMT(BPF_RET | BPF_K, 7)};
    CHECK_FAILS(attach(fd, endless, COUNT(endless)), EINVAL);
    CHECK_FAILS(attach(fd, outside, COUNT(outside)), EINVAL);
    CHECK_FAILS(attach(fd, unknown, COUNT(unknown)), EINVAL);
    CHECK_FAILS(attach(fd, NULL, 1), EINVAL);
    CHECK_FAILS(attach(fd, fine, 0), EINVAL);
    CHECK_FAILS(attach(fd, (struct sock_filter *)8, 1), EFAULT);
    int zero = 0, one = 1;
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, NULL, 0), EINVAL);
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof zero), ENOENT);
    CHECK(attach(fd, fine, COUNT(fine)) == 0);
    struct sock_filter back[4];
    socklen_t count = 0;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &count) == 0 && count == 1);
    count = COUNT(back);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, back, &count) == 0 && count == 1);
    CHECK(memcmp(back, fine, sizeof fine) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof zero) == 0);
    CHECK(attach(fd, fine, COUNT(fine)) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one) == 0);
    CHECK_FAILS(attach(fd, fine, COUNT(fine)), EPERM);
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &zero, sizeof zero), EPERM);
    CHECK_FAILS(setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof zero), EPERM);
    close(fd);
}

static void datagrams_are_filtered(void) {
    unsigned short port, other;
    int receiver = udp(&port), sender = udp(&other);
    // Datagrams that begin with an x, at most four bytes of them behind the header.
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'x', 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 12),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    CHECK(attach(receiver, code, COUNT(code)) == 0);
    send_to(sender, port, "abc");
    send_to(sender, port, "xyzzy");
    char buffer[16];
    CHECK(recv(receiver, buffer, sizeof buffer, 0) == 4 && memcmp(buffer, "xyzz", 4) == 0);
    CHECK_FAILS(recv(receiver, buffer, sizeof buffer, 0), EAGAIN);
    close(receiver);
    close(sender);
}

static void a_program_picks_the_member(void) {
    int members[3], one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, '0'),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog program = {.len = COUNT(code), .filter = code};
    for (int i = 0; i < 3; i++) {
        members[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        CHECK_FAILS(setsockopt(members[i], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program), EINVAL);
        CHECK(setsockopt(members[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
        CHECK(bind(members[i], (struct sockaddr *)&address, sizeof address) == 0);
        socklen_t length = sizeof address;
        CHECK(getsockname(members[i], (struct sockaddr *)&address, &length) == 0);
    }
    CHECK(setsockopt(members[1], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0);
    unsigned short other;
    int sender = udp(&other);
    const char *texts[] = {"2", "0", "1", "2"};
    for (unsigned i = 0; i < COUNT(texts); i++)
        send_to(sender, ntohs(address.sin_port), texts[i]);
    char got[4];
    CHECK(recv(members[0], got, 4, 0) == 1 && got[0] == '0');
    CHECK(recv(members[1], got, 4, 0) == 1 && got[0] == '1');
    CHECK(recv(members[2], got, 4, 0) == 1 && recv(members[2], got, 4, 0) == 1 && got[0] == '2');
    CHECK(setsockopt(members[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &one, sizeof one) == 0);
    CHECK_FAILS(setsockopt(members[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &one, sizeof one), ENOENT);
    for (int i = 0; i < 3; i++)
        close(members[i]);
    close(sender);
}

// A capture of what goes to a UDP port over the loopback.
static int capture(unsigned short port) {
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    CHECK(fd >= 0);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 8),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 44),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    CHECK(attach(fd, code, COUNT(code)) == 0);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex("lo")};
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void frames_are_captured(void) {
    unsigned short port, other;
    int receiver = udp(&port), sender = udp(&other), fd = capture(port), one = 1;
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) == 0);
    send_to(sender, port, "hello");
    send_to(receiver, other, "not me");
    unsigned char frame[100];
    char control[100];
    struct iovec part = {frame, sizeof frame};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    // An Ethernet header of zeros, IPv4, UDP, and two bytes.
    CHECK(recvmsg(fd, &message, 0) == 44);
    CHECK(frame[0] == 0 && frame[12] == 8 && frame[14] == 0x45 && memcmp(frame + 42, "he", 2) == 0);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header && header->cmsg_level == SOL_PACKET && header->cmsg_type == PACKET_AUXDATA);
    struct tpacket_auxdata aux;
    memcpy(&aux, CMSG_DATA(header), sizeof aux);
    CHECK(aux.tp_len == 47 && aux.tp_snaplen == 44 && aux.tp_mac == 0 && aux.tp_net == 14);
    CHECK_FAILS(recvmsg(fd, &message, 0), EAGAIN);
    struct tpacket_stats stats;
    socklen_t length = sizeof stats;
    CHECK(getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0);
    CHECK(stats.tp_packets == 1 && stats.tp_drops == 0);
    close(fd);
    close(receiver);
    close(sender);
}

static void memberships_are_counted(void) {
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct packet_mreq wanted = {.mr_ifindex = if_nametoindex("lo"), .mr_type = PACKET_MR_PROMISC};
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &wanted, sizeof wanted) == 0);
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &wanted, sizeof wanted) == 0);
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &wanted, sizeof wanted) == 0);
    wanted.mr_ifindex = 77777;
    CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &wanted, sizeof wanted), ENODEV);
    CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &wanted, 15), EINVAL);
    close(fd);
}

static void a_ring_of_slots(void) {
    for (int version = TPACKET_V1; version <= TPACKET_V2; version++) {
        unsigned short port, other;
        int receiver = udp(&port), sender = udp(&other), fd = capture(port), size = version;
        socklen_t length = sizeof size;
        CHECK(getsockopt(fd, SOL_PACKET, PACKET_HDRLEN, &size, &length) == 0 && size == 32);
        CHECK(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0);
        struct tpacket_req request = {.tp_block_size = 4096, .tp_block_nr = 2, .tp_frame_size = 2048, .tp_frame_nr = 4};
        request.tp_frame_nr = 5;
        CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request), EINVAL);
        request.tp_frame_nr = 4;
        CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0);
        CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version), EBUSY);
        char *ring = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(ring != MAP_FAILED);
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        CHECK(poll(&waiting, 1, 0) == 0);
        for (int i = 0; i < 6; i++)
            send_to(sender, port, "hello");
        CHECK(poll(&waiting, 1, 1000) == 1 && waiting.revents & POLLIN);
        for (int slot = 0; slot < 4; slot++) {
            char *at = ring + 2048 * slot, *data;
            if (version == TPACKET_V1) {
                struct tpacket_hdr *header = (void *)at;
                CHECK(header->tp_status & TP_STATUS_USER);
                CHECK(header->tp_len == 47 && header->tp_snaplen == 44 && header->tp_mac == 66);
                CHECK(header->tp_sec > 1000000000);
                data = at + header->tp_mac;
            } else {
                struct tpacket2_hdr *header = (void *)at;
                CHECK(header->tp_status & TP_STATUS_USER);
                CHECK(header->tp_len == 47 && header->tp_snaplen == 44 && header->tp_net == header->tp_mac + 14);
                data = at + header->tp_mac;
            }
            struct sockaddr_ll *from = (void *)(at + 32);
            CHECK(from->sll_pkttype == PACKET_HOST && from->sll_ifindex == (int)if_nametoindex("lo"));
            CHECK(memcmp(data + 42, "he", 2) == 0);
        }
        struct tpacket_stats stats;
        length = sizeof stats;
        CHECK(getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0);
        CHECK(stats.tp_packets == 6 && stats.tp_drops == 2);
        memset(&request, 0, sizeof request);
        CHECK_FAILS(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request), EBUSY);
        CHECK(munmap(ring, 8192) == 0);
        CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0);
        close(fd);
        close(receiver);
        close(sender);
    }
}

static void a_ring_of_blocks(void) {
    unsigned short port, other;
    int receiver = udp(&port), sender = udp(&other), fd = capture(port), version = TPACKET_V3;
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0);
    struct tpacket_req3 request = {
        .tp_block_size = 4096, .tp_block_nr = 2, .tp_frame_size = 2048, .tp_frame_nr = 4, .tp_retire_blk_tov = 20};
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0);
    char *ring = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(ring != MAP_FAILED);
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    for (int round = 0; round < 4; round++) {
        struct tpacket_block_desc *block = (void *)(ring + 4096 * (round % 2));
        CHECK(block->hdr.bh1.block_status == TP_STATUS_KERNEL);
        for (int i = 0; i < 3; i++)
            send_to(sender, port, "hello");
        CHECK(poll(&waiting, 1, 2000) == 1);
        CHECK(block->version == TPACKET_V3 && block->hdr.bh1.block_status & TP_STATUS_USER);
        CHECK(block->hdr.bh1.block_status & TP_STATUS_BLK_TMO);
        CHECK(block->hdr.bh1.num_pkts == 3 && block->hdr.bh1.seq_num == (unsigned)round + 1);
        struct tpacket3_hdr *header = (void *)((char *)block + block->hdr.bh1.offset_to_first_pkt);
        for (int i = 0; i < 3; i++) {
            CHECK(header->tp_len == 47 && header->tp_snaplen == 44 && header->tp_net == header->tp_mac + 14);
            CHECK(memcmp((char *)header + header->tp_mac + 42, "he", 2) == 0);
            CHECK((header->tp_next_offset == 0) == (i == 2));
            header = (void *)((char *)header + header->tp_next_offset);
        }
        __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    }
    struct tpacket_stats_v3 stats;
    socklen_t length = sizeof stats;
    CHECK(getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0 && length == sizeof stats);
    CHECK(stats.tp_packets == 12 && stats.tp_drops == 0);
    close(fd);
    munmap(ring, 8192);
    close(receiver);
    close(sender);
}

int main(void) {
    PART(programs_are_checked);
    PART(datagrams_are_filtered);
    PART(a_program_picks_the_member);
    PART(frames_are_captured);
    PART(memberships_are_counted);
    PART(a_ring_of_slots);
    PART(a_ring_of_blocks);
}
