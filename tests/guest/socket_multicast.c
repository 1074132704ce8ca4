// Multicast memberships with their sources (RFC 3678), over the loopback.
#include "check.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUP "232.9.8.7"
#define GROUP6 "ff11::9:8:7"

static struct in_addr v4(const char *text) {
    struct in_addr address;
    CHECK(inet_pton(AF_INET, text, &address) == 1);
    return address;
}

static int receiver(unsigned short *port) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), zero = 0;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &zero, sizeof zero) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void send_from(const char *source, unsigned short port) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = v4(source)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = v4(GROUP)};
    struct ip_mreqn on = {.imr_ifindex = if_nametoindex("lo")};
    CHECK(bind(fd, (struct sockaddr *)&from, sizeof from) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &on, sizeof on) == 0);
    CHECK(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1);
    close(fd);
}

static int takes(int fd, const char *source, unsigned short port) {
    char byte;
    send_from(source, port);
    return recv(fd, &byte, 1, 0) == 1;
}

static void sources_are_wanted(void) {
    unsigned short port;
    int fd = receiver(&port);
    struct ip_mreq_source one = {
        .imr_multiaddr = v4(GROUP), .imr_interface = v4("127.0.0.1"), .imr_sourceaddr = v4("127.0.0.2")};
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &one, sizeof one), EINVAL);
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &one, sizeof one - 1), EINVAL);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &one, sizeof one) == 0);
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &one, sizeof one), EADDRNOTAVAIL);
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_BLOCK_SOURCE, &one, sizeof one), EINVAL);
    CHECK(takes(fd, "127.0.0.2", port) && !takes(fd, "127.0.0.3", port));
    one.imr_sourceaddr = v4("127.0.0.3");
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &one, sizeof one), EADDRNOTAVAIL);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &one, sizeof one) == 0);
    CHECK(takes(fd, "127.0.0.2", port) && takes(fd, "127.0.0.3", port) && !takes(fd, "127.0.0.4", port));
    char buffer[IP_MSFILTER_SIZE(4)];
    struct ip_msfilter *filter = (void *)buffer;
    filter->imsf_multiaddr = v4(GROUP);
    filter->imsf_interface = v4("127.0.0.1");
    filter->imsf_numsrc = 1;
    socklen_t length = sizeof buffer;
    CHECK(getsockopt(fd, IPPROTO_IP, IP_MSFILTER, filter, &length) == 0);
    CHECK(length == IP_MSFILTER_SIZE(1) && filter->imsf_fmode == MCAST_INCLUDE && filter->imsf_numsrc == 2);
    close(fd);
}

static void sources_are_blocked(void) {
    unsigned short port;
    int fd = receiver(&port);
    struct ip_mreqn join = {.imr_multiaddr = v4(GROUP), .imr_ifindex = if_nametoindex("lo")};
    struct ip_mreq_source one = {
        .imr_multiaddr = v4(GROUP), .imr_interface = v4("127.0.0.1"), .imr_sourceaddr = v4("127.0.0.2")};
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_BLOCK_SOURCE, &one, sizeof one), EINVAL);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == 0);
    // With the interface by address it is the same membership.
    CHECK(setsockopt(fd, IPPROTO_IP, IP_BLOCK_SOURCE, &one, sizeof one) == 0);
    CHECK(!takes(fd, "127.0.0.2", port) && takes(fd, "127.0.0.3", port));
    CHECK(setsockopt(fd, IPPROTO_IP, IP_UNBLOCK_SOURCE, &one, sizeof one) == 0);
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_UNBLOCK_SOURCE, &one, sizeof one), EADDRNOTAVAIL);
    CHECK(takes(fd, "127.0.0.2", port));
    char buffer[IP_MSFILTER_SIZE(11)];
    struct ip_msfilter *filter = (void *)buffer;
    memset(buffer, 0, sizeof buffer);
    filter->imsf_multiaddr = v4(GROUP);
    filter->imsf_interface = v4("127.0.0.1");
    filter->imsf_fmode = MCAST_EXCLUDE;
    filter->imsf_numsrc = 1;
    filter->imsf_slist[0].s_addr = v4("127.0.0.3").s_addr;
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_MSFILTER, filter, IP_MSFILTER_SIZE(0)), EINVAL);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_MSFILTER, filter, IP_MSFILTER_SIZE(1)) == 0);
    CHECK(takes(fd, "127.0.0.2", port) && !takes(fd, "127.0.0.3", port));
    filter->imsf_numsrc = 11;
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_MSFILTER, filter, IP_MSFILTER_SIZE(11)), ENOBUFS);
    filter->imsf_multiaddr = v4("232.1.1.1");
    filter->imsf_numsrc = 1;
    CHECK_FAILS(setsockopt(fd, IPPROTO_IP, IP_MSFILTER, filter, IP_MSFILTER_SIZE(1)), EINVAL);
    close(fd);
}

static struct sockaddr_storage storage(const char *text) {
    struct sockaddr_storage all = {0};
    struct sockaddr_in6 *v6 = (void *)&all;
    struct sockaddr_in *v4 = (void *)&all;
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        return all;
    }
    memset(&all, 0, sizeof all);
    v4->sin_family = AF_INET;
    CHECK(inet_pton(AF_INET, text, &v4->sin_addr) == 1);
    return all;
}

static void sources_of_either_family(void) {
    const char *groups[] = {GROUP, GROUP6}, *sources[] = {"192.0.2.1", "2001:db8::1"};
    for (int v6 = 0; v6 < 2; v6++) {
        int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP, fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
        struct group_source_req one = {.gsr_interface = if_nametoindex("lo")};
        one.gsr_group = storage(groups[v6]);
        one.gsr_source = storage(sources[v6]);
        CHECK_FAILS(setsockopt(fd, level, MCAST_BLOCK_SOURCE, &one, sizeof one), EINVAL);
        CHECK(setsockopt(fd, level, MCAST_JOIN_SOURCE_GROUP, &one, sizeof one) == 0);
        char buffer[GROUP_FILTER_SIZE(2)];
        struct group_filter *filter = (void *)buffer;
        memset(buffer, 0, sizeof buffer);
        filter->gf_interface = one.gsr_interface;
        filter->gf_group = one.gsr_group;
        filter->gf_numsrc = 2;
        socklen_t length = sizeof buffer;
        CHECK(getsockopt(fd, level, MCAST_MSFILTER, filter, &length) == 0);
        CHECK(length == GROUP_FILTER_SIZE(1) && filter->gf_fmode == MCAST_INCLUDE && filter->gf_numsrc == 1);
        CHECK(filter->gf_slist[0].ss_family == one.gsr_source.ss_family);
        filter->gf_fmode = MCAST_EXCLUDE;
        filter->gf_numsrc = 0;
        CHECK(setsockopt(fd, level, MCAST_MSFILTER, filter, GROUP_FILTER_SIZE(0)) == 0);
        CHECK(setsockopt(fd, level, MCAST_BLOCK_SOURCE, &one, sizeof one) == 0);
        CHECK(setsockopt(fd, level, MCAST_UNBLOCK_SOURCE, &one, sizeof one) == 0);
        one.gsr_interface = 77777;
        CHECK_FAILS(setsockopt(fd, level, MCAST_UNBLOCK_SOURCE, &one, sizeof one), ENODEV);
        close(fd);
    }
}

static void everybodys_groups(void) {
    int fd = socket(AF_INET6, SOCK_DGRAM, 0), on = -1, zero = 0;
    socklen_t length = sizeof on;
    CHECK(getsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, &on, &length) == 0 && on == 1);
    CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, &zero, sizeof zero) == 0);
    CHECK(getsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, &on, &length) == 0 && on == 0);
    close(fd);
}

int main(void) {
    PART(sources_are_wanted);
    PART(sources_are_blocked);
    PART(sources_of_either_family);
    PART(everybodys_groups);
}
