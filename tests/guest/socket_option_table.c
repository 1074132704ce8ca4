// Every option of every level on every kind of internet and local socket: its value, what buffers of other sizes get, and which
// values it takes. The table goes to standard output, where it is compared with that of Linux.
#include "own_network.h"

#include <limits.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct kind {
    const char *name;
    int family, type, protocol;
};

static const struct kind KINDS[] = {
    {"tcp4", AF_INET, SOCK_STREAM, 0},
    {"tcp6", AF_INET6, SOCK_STREAM, 0},
    {"udp4", AF_INET, SOCK_DGRAM, 0},
    {"udp6", AF_INET6, SOCK_DGRAM, 0},
    {"icmp4", AF_INET, SOCK_RAW, IPPROTO_ICMP},
    {"icmp6", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6},
    {"raw4", AF_INET, SOCK_RAW, 253},
    {"raw6", AF_INET6, SOCK_RAW, 253},
    {"unix stream", AF_UNIX, SOCK_STREAM, 0},
    {"unix dgram", AF_UNIX, SOCK_DGRAM, 0},
};

struct level {
    const char *name;
    int number, last;
};

static const struct level LEVELS[] = {
    {"socket", SOL_SOCKET, 90}, {"ip", IPPROTO_IP, 63},         {"ipv6", IPPROTO_IPV6, 83}, {"tcp", IPPROTO_TCP, 47},
    {"udp", IPPROTO_UDP, 110},  {"icmpv6", IPPROTO_ICMPV6, 5}, {"raw", 255, 3},            {"unknown", 77, 2},
};

// What is not compared, and why not.
static const struct exclusion {
    int level, name;
    const char *why;
} EXCLUSIONS[] = {
    {SOL_SOCKET, SO_DONTROUTE, "refused: routes are looked up as always"},
    {SOL_SOCKET, 60 /* SO_ZEROCOPY */, "refused: data is always copied"},
    {SOL_SOCKET, 80 /* SO_DEVMEM_DONTNEED */, "refused: no memory of devices"},
    {IPPROTO_IP, IP_ROUTER_ALERT, "refused: only for multicast routing programs"},
    {IPPROTO_IP, IP_IPSEC_POLICY, "no IPsec; Linux answers by the modules that it has"},
    {IPPROTO_IP, IP_XFRM_POLICY, "the same"},
    {IPPROTO_IP, IP_CHECKSUM, "refused: checksums are not told"},
    {IPPROTO_IP, IP_RECVFRAGSIZE, "refused: sizes of fragments are not told"},
    {IPPROTO_IP, 26 /* IP_RECVERR_RFC4884 */, "refused: errors end before extensions"},
    {IPPROTO_IPV6, 6 /* IPV6_2292PKTOPTIONS */, "refused: the headers are set one by one"},
    {IPPROTO_IPV6, IPV6_MTU, "refused: sockets do not fragment below the path's MTU"},
    {IPPROTO_IPV6, 31 /* IPV6_RECVERR_RFC4884 */, "refused: errors end before extensions"},
    {IPPROTO_IPV6, IPV6_IPSEC_POLICY, "no IPsec; Linux answers by the modules that it has"},
    {IPPROTO_IPV6, IPV6_XFRM_POLICY, "the same"},
    {IPPROTO_IPV6, 36 /* IPV6_HDRINCL */, "refused: only with IPPROTO_RAW"},
    {IPPROTO_IPV6, IPV6_PKTINFO, "refused: only as control data"},
    {IPPROTO_IPV6, IPV6_RECVPATHMTU, "refused: MTUs are not told by control messages"},
    {IPPROTO_IPV6, 64, "ip6tables: Linux answers by the modules that it has"},
    {IPPROTO_IPV6, 65, "the same"},
    {IPPROTO_IPV6, 68, "the same"},
    {IPPROTO_IPV6, 69, "the same"},
    {IPPROTO_IPV6, 80, "the same"},
    {IPPROTO_IPV6, 72 /* IPV6_ADDR_PREFERENCES */, "refused: addresses are chosen as RFC 6724 says"},
    {IPPROTO_IPV6, 77 /* IPV6_RECVFRAGSIZE */, "refused: sizes of fragments are not told"},
    {IPPROTO_TCP, 13 /* TCP_CONGESTION */, "the system's choice"},
    {IPPROTO_TCP, 26 /* TCP_CC_INFO */, "the same"},
    {IPPROTO_UDP, 100 /* UDP_ENCAP */, "refused: no tunnels"},
    {IPPROTO_UDP, 101 /* UDP_NO_CHECK6_TX */, "refused: UDP over IPv6 has checksums"},
    {IPPROTO_UDP, 102 /* UDP_NO_CHECK6_RX */, "the same"},
};

static int is_excluded(int level, int name) {
    for (size_t i = 0; i < sizeof EXCLUSIONS / sizeof *EXCLUSIONS; i++)
        if (EXCLUSIONS[i].level == level && EXCLUSIONS[i].name == name)
            return 1;
    return 0;
}

// Options whose values are numbers of the moment: only their lengths count.
static int is_of_the_moment(int level, int name) {
    if (level == SOL_SOCKET)
        return name == SO_COOKIE || name == SO_PEERCRED || name == SO_PEERGROUPS || name == 71 /* SO_NETNS_COOKIE */;
    return level == IPPROTO_TCP && (name == 11 /* TCP_INFO */ || name == 24 /* TCP_TIMESTAMP */);
}

static int is_an_interface(int level, int name) {
    return (level == SOL_SOCKET && name == 62 /* SO_BINDTOIFINDEX */) ||
           (level == IPPROTO_IPV6 && name == IPV6_MULTICAST_IF);
}

static int open_kind(const struct kind *kind) {
    int fd = socket(kind->family, kind->type, kind->protocol);
    CHECK(fd >= 0);
    return fd;
}

static void print_bytes(const unsigned char *bytes, int len) {
    // Long values are told by their ends.
    for (int i = 0; i < len; i++)
        if (len <= 24 || i < 12 || i >= len - 8)
            printf("%02x", bytes[i]);
}

static void get(int fd, int level, int name, int room) {
    unsigned char value[512];
    socklen_t len = room;
    memset(value, 0xaa, sizeof value);
    printf(" %d:", room);
    if (getsockopt(fd, level, name, value, &len) != 0) {
        printf("%s", strerrorname_np(errno));
        return;
    }
    printf("%d=", (int)len);
    if (!is_of_the_moment(level, name))
        print_bytes(value, (int)len < (int)sizeof value ? (int)len : (int)sizeof value);
}

// Whether the value was taken.
static int set(int fd, int level, int name, const char *label, const void *value, int len) {
    printf(" %s:", label);
    if (setsockopt(fd, level, name, value, len) != 0) {
        printf("%s", strerrorname_np(errno));
        return 0;
    }
    socklen_t size = 4;
    unsigned now = 0xaaaaaaaa;
    if (getsockopt(fd, level, name, &now, &size) != 0)
        printf("set");
    else if (is_of_the_moment(level, name))
        printf("ok");
    else
        printf("%x", now);
    return 1;
}

struct errors {
    int get, set;
};

static struct errors probe(int fd, int level, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    struct errors errors;
    errors.get = getsockopt(fd, level, name, &value, &size) == 0 ? 0 : errno;
    errors.set = setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : errno;
    return errors;
}

// Whether it answers otherwise than a number that no option has.
static int is_there(const struct kind *kind, const struct level *level, int name) {
    int fd = open_kind(kind);
    struct errors none = probe(fd, level->number, 9999), errors = probe(fd, level->number, name);
    close(fd);
    return none.get != errors.get || none.set != errors.set;
}

static void row(const struct kind *kind, const struct level *level, int name) {
    static const int ROOMS[] = {0, 1, 2, 3, 4, 5, 8, 12, 16, 40, 300, -1, INT_MIN};
    static const int VALUES[] = {-2,  -1,  0,    1,     2,     3,     4,       7,       8,      32, 63,
                                 64,  255, 256,  1000,  4096,  32767, 32768,   65535,   65536,  1 << 20, INT_MAX, INT_MIN};
    static const int LENS[] = {0, 1, 2, 3, 5, 8, 12, 16, 20, 32, 136, 264, -1};
    if (is_excluded(level->number, name) || !is_there(kind, level, name))
        return;
    int fd = open_kind(kind);
    printf("%s %s %d get", kind->name, level->name, name);
    for (size_t i = 0; i < sizeof ROOMS / sizeof *ROOMS; i++)
        get(fd, level->number, name, ROOMS[i]);
    printf("\n%s %s %d set", kind->name, level->name, name);
    int takes_numbers = 0;
    for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
        char label[16];
        // Which interfaces there are is no matter of options.
        if (is_an_interface(level->number, name) && VALUES[i] > 1 && VALUES[i] < 8)
            continue;
        snprintf(label, sizeof label, "%d", VALUES[i]);
        takes_numbers |= set(fd, level->number, name, label, &VALUES[i], sizeof VALUES[i]);
    }
    close(fd);
    printf("\n%s %s %d len", kind->name, level->name, name);
    for (int byte = 0; byte <= 1; byte++) {
        unsigned char value[512];
        fd = open_kind(kind);
        memset(value, byte, sizeof value);
        for (size_t i = 0; i < sizeof LENS / sizeof *LENS; i++) {
            char label[16];
            snprintf(label, sizeof label, "%dx%d", LENS[i], byte);
            set(fd, level->number, name, label, value, LENS[i]);
        }
        close(fd);
    }
    fd = open_kind(kind);
    set(fd, level->number, name, "null", NULL, 0);
    // Structures are looked at in an order of their own.
    if (takes_numbers) {
        set(fd, level->number, name, "fault", (void *)8, 4);
        set(fd, level->number, name, "null4", NULL, 4);
    }
    close(fd);
    printf("\n");
}

static void level(const struct kind *kind, const struct level *level) {
    int fd = open_kind(kind);
    struct errors none = probe(fd, level->number, 9999);
    close(fd);
    printf("%s %s none get:%s set:%s\n", kind->name, level->name, none.get ? strerrorname_np(none.get) : "0",
           none.set ? strerrorname_np(none.set) : "0");
    for (int name = 0; name <= level->last; name++)
        row(kind, level, name);
}

int main(void) {
    own_network();
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
        for (size_t l = 0; l < sizeof LEVELS / sizeof *LEVELS; l++)
            level(&KINDS[k], &LEVELS[l]);
    return 0;
}
