// Rings of blocks (TPACKET_V3): frames that are longer than a block, and what may be mapped; over the loopback.
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

#define BLOCK 4096
#define BLOCKS 4
#define SIZE (BLOCK * BLOCKS)

static struct sockaddr_ll on;

static int ring_socket(int private) {
    int fd = socket(AF_PACKET, SOCK_RAW, 0), version = TPACKET_V3;
    struct tpacket_req3 request = {.tp_block_size = BLOCK,
                                   .tp_block_nr = BLOCKS,
                                   .tp_frame_size = 2048,
                                   .tp_frame_nr = 2 * BLOCKS,
                                   .tp_retire_blk_tov = 100,
                                   .tp_sizeof_priv = private};
    CHECK(bind(fd, (void *)&on, sizeof on) == 0);
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0);
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0);
    return fd;
}

static void a_ring_is_mapped_as_a_whole(void) {
    int fd = ring_socket(0), access = PROT_READ | PROT_WRITE;
    CHECK_FAILS(mmap(NULL, SIZE / 2, access, MAP_SHARED, fd, 0), EINVAL);
    CHECK_FAILS(mmap(NULL, SIZE / 2, access, MAP_SHARED, fd, SIZE / 2), EINVAL);
    CHECK_FAILS(mmap(NULL, 2 * SIZE, access, MAP_SHARED, fd, 0), EINVAL);
    CHECK_FAILS(mmap(NULL, SIZE, access, MAP_SHARED, fd, BLOCK), EINVAL);
    // The end of the last page goes with it.
    void *map = mmap(NULL, SIZE - 100, access, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK(munmap(map, SIZE) == 0);
    close(fd);
}

// A frame that nobody answers.
static void send_frame(int length, int mark) {
    static unsigned char frame[8192] = {[12] = 8, [14] = 0x45, [22] = 64, [23] = 2};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    memset(frame + 34, mark, sizeof frame - 34);
    CHECK(sendto(fd, frame, length, 0, (void *)&on, sizeof on) == length);
    close(fd);
}

static struct tpacket_block_desc *block(unsigned char *map, int number) {
    return (void *)(map + BLOCK * number);
}

static void show(unsigned char *map) {
    for (int i = 0; i < BLOCKS; i++) {
        struct tpacket_hdr_v1 *head = &block(map, i)->hdr.bh1;
        printf("block %d: user %u, %u frames, first at %u, length %u\n", i, head->block_status & TP_STATUS_USER,
               head->num_pkts, head->offset_to_first_pkt, head->blk_len);
        unsigned char *at = (void *)block(map, i);
        at += head->offset_to_first_pkt;
        for (unsigned frame = 0; frame < head->num_pkts; frame++) {
            struct tpacket3_hdr *one = (void *)at;
            unsigned last = one->tp_mac + one->tp_snaplen - 1;
            printf("  %u of %u bytes, link header at %u, mark %u to %u, next %u\n", one->tp_snaplen, one->tp_len,
                   one->tp_mac, at[one->tp_mac + 34], at[last], one->tp_next_offset);
            at += one->tp_next_offset;
        }
    }
}

static void await(struct tpacket_block_desc *given) {
    for (int i = 0; i < 500 && !(__atomic_load_n(&given->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER); i++)
        usleep(10000);
    CHECK(given->hdr.bh1.block_status & TP_STATUS_USER);
}

// They are cut to a block of their own, and the one that was open is handed over whatever is in it.
static void frames_longer_than_blocks_are_cut(int private) {
    int fd = ring_socket(private);
    unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    send_frame(6000, 1);
    send_frame(100, 2);
    await(block(map, 2));
    // The last block is open, and the first one not given back.
    for (int mark = 3; mark < 6; mark++)
        send_frame(6000, mark);
    await(block(map, 3));
    show(map);
    struct tpacket_stats_v3 stats;
    socklen_t size = sizeof stats;
    CHECK(getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0);
    printf("%u frames, %u lost, stopped %u times\n", stats.tp_packets, stats.tp_drops, stats.tp_freeze_q_cnt);
    munmap(map, SIZE);
    close(fd);
}

static void long_frames(void) {
    frames_longer_than_blocks_are_cut(0);
}

static void long_frames_behind_bytes_of_ours(void) {
    frames_longer_than_blocks_are_cut(13);
}

int main(void) {
    own_network();
    on = (struct sockaddr_ll){.sll_family = AF_PACKET,
                              .sll_protocol = htons(ETH_P_IP),
                              .sll_ifindex = if_nametoindex("lo"),
                              .sll_halen = 6};
    PART(a_ring_is_mapped_as_a_whole);
    PART(long_frames);
    PART(long_frames_behind_bytes_of_ours);
    return 0;
}
