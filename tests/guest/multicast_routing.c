// A multicast routing program (MRT_*, MRT6_*), over the loopback: what its own packets bring it.
#include "check.h"

#include <arpa/inet.h>
#include <linux/mroute.h>
#include <linux/mroute6.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUP "239.1.2.3"
#define GROUP6 "ff1e::77"

static int on = 1, off = 0;
// Where packets of IPv6 go.
static const char *device = "lo";

static int option(int fd, int name, const void *value, socklen_t size) {
    return setsockopt(fd, IPPROTO_IP, name, value, size);
}

static int option6(int fd, int name, const void *value, socklen_t size) {
    return setsockopt(fd, IPPROTO_IPV6, name, value, size);
}

static void show(const char *path) {
    char line[200];
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (fgets(line, sizeof line, file))
        fputs(line, stdout);
    fclose(file);
}

static struct sockaddr_in v4(const char *text, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, text, &address.sin_addr) == 1);
    return address;
}

static struct sockaddr_in6 v6(const char *text, int port) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    CHECK(inet_pton(AF_INET6, text, &address.sin6_addr) == 1);
    return address;
}

static void send_v4(const char *data) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), ttl = 5;
    struct sockaddr_in from = v4("127.0.0.1", 0), to = v4(GROUP, 9);
    struct ip_mreqn lo = {.imr_ifindex = if_nametoindex("lo")};
    CHECK(bind(fd, (void *)&from, sizeof from) == 0);
    CHECK(option(fd, IP_MULTICAST_IF, &lo, sizeof lo) == 0);
    CHECK(option(fd, IP_MULTICAST_TTL, &ttl, sizeof ttl) == 0);
    CHECK(sendto(fd, data, strlen(data), 0, (void *)&to, sizeof to) == (ssize_t)strlen(data));
    close(fd);
}

static void send_v6(const char *data) {
    int fd = socket(AF_INET6, SOCK_DGRAM, 0), hops = 5, out = if_nametoindex(device);
    struct sockaddr_in6 from = v6("fd00::1", 0), to = v6(GROUP6, 9);
    CHECK(bind(fd, (void *)&from, sizeof from) == 0);
    CHECK(option6(fd, IPV6_MULTICAST_IF, &out, sizeof out) == 0);
    CHECK(option6(fd, IPV6_MULTICAST_HOPS, &hops, sizeof hops) == 0);
    CHECK(sendto(fd, data, strlen(data), 0, (void *)&to, sizeof to) == (ssize_t)strlen(data));
    close(fd);
}

static void only_one_program_routes(void) {
    int udp = socket(AF_INET, SOCK_DGRAM, 0), raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_IGMP), other = socket(AF_INET, SOCK_RAW, IPPROTO_IGMP);
    int value = 7;
    socklen_t size = sizeof value;
    CHECK_FAILS(option(udp, MRT_INIT, &on, sizeof on), EOPNOTSUPP);
    CHECK_FAILS(option(raw, MRT_INIT, &on, sizeof on), EOPNOTSUPP);
    CHECK_FAILS(getsockopt(udp, IPPROTO_IP, MRT_VERSION, &value, &size), EOPNOTSUPP);
    CHECK_FAILS(option(fd, MRT_INIT, &on, 2), EINVAL);
    CHECK_FAILS(option(fd, MRT_DONE, &on, sizeof on), EACCES);
    CHECK(getsockopt(fd, IPPROTO_IP, MRT_VERSION, &value, &size) == 0 && value == 0x305 && size == 4);
    CHECK(getsockopt(fd, IPPROTO_IP, MRT_PIM, &value, &size) == 0 && value == 0);
    CHECK(getsockopt(fd, IPPROTO_IP, MRT_ASSERT, &value, &size) == 0 && value == 0);
    CHECK_FAILS(getsockopt(fd, IPPROTO_IP, MRT_INIT, &value, &size), ENOPROTOOPT);
    CHECK(option(fd, MRT_INIT, &on, sizeof on) == 0);
    CHECK_FAILS(option(other, MRT_INIT, &on, sizeof on), EADDRINUSE);
    CHECK_FAILS(option(other, MRT_DONE, &on, sizeof on), EACCES);
    CHECK(option(fd, MRT_ASSERT, &on, sizeof on) == 0);
    CHECK(getsockopt(fd, IPPROTO_IP, MRT_ASSERT, &value, &size) == 0 && value == 1);
    CHECK(option(fd, MRT_PIM, &on, sizeof on) == 0);
    CHECK(getsockopt(fd, IPPROTO_IP, MRT_PIM, &value, &size) == 0 && value == 1);
    CHECK(option(fd, MRT_DONE, &on, sizeof on) == 0);
    CHECK(option(other, MRT_INIT, &on, sizeof on) == 0);
    close(other);
    CHECK(option(fd, MRT_INIT, &on, sizeof on) == 0);
    close(fd), close(udp), close(raw);
}

static void virtual_interfaces(void) {
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_IGMP);
    struct vifctl vif = {.vifc_flags = VIFF_USE_IFINDEX, .vifc_threshold = 1};
    struct sioc_vif_req counts = {.vifi = 3};
    vif.vifc_lcl_ifindex = if_nametoindex("lo");
    CHECK(option(fd, MRT_INIT, &on, sizeof on) == 0);
    CHECK_FAILS(option(fd, MRT_ADD_VIF, &vif, sizeof vif - 1), EINVAL);
    CHECK(option(fd, MRT_ADD_VIF, &vif, sizeof vif) == 0);
    CHECK_FAILS(option(fd, MRT_ADD_VIF, &vif, sizeof vif), EADDRINUSE);
    vif.vifc_vifi = 3;
    vif.vifc_flags = 0;
    inet_pton(AF_INET, "127.0.0.1", &vif.vifc_lcl_addr);
    CHECK(option(fd, MRT_ADD_VIF, &vif, sizeof vif) == 0);
    vif.vifc_vifi = 2;
    inet_pton(AF_INET, "192.0.2.1", &vif.vifc_lcl_addr);
    CHECK_FAILS(option(fd, MRT_ADD_VIF, &vif, sizeof vif), EADDRNOTAVAIL);
    vif.vifc_flags = VIFF_USE_IFINDEX;
    vif.vifc_lcl_ifindex = 12345;
    CHECK_FAILS(option(fd, MRT_ADD_VIF, &vif, sizeof vif), EADDRNOTAVAIL);
    vif.vifc_flags = 0x40;
    CHECK_FAILS(option(fd, MRT_ADD_VIF, &vif, sizeof vif), EINVAL);
    vif.vifc_flags = VIFF_REGISTER;
    // It is a device.
    for (int round = 0; round < 2; round++) {
        CHECK(if_nametoindex("pimreg") == 0);
        CHECK(option(fd, MRT_ADD_VIF, &vif, sizeof vif) == 0);
        CHECK(if_nametoindex("pimreg") > 0);
        if (round == 0)
            CHECK(option(fd, MRT_DEL_VIF, &vif, sizeof vif) == 0);
    }
    vif.vifc_vifi = 5;
    CHECK_FAILS(option(fd, MRT_ADD_VIF, &vif, sizeof vif), EADDRINUSE);
    vif.vifc_vifi = MAXVIFS;
    CHECK_FAILS(option(fd, MRT_ADD_VIF, &vif, sizeof vif), ENFILE);
    vif.vifc_vifi = 9;
    CHECK_FAILS(option(fd, MRT_DEL_VIF, &vif, sizeof vif), EADDRNOTAVAIL);
    show("/proc/net/ip_mr_vif");
    CHECK(ioctl(fd, SIOCGETVIFCNT, &counts) == 0 && counts.icount == 0);
    counts.vifi = 1;
    CHECK_FAILS(ioctl(fd, SIOCGETVIFCNT, &counts), EADDRNOTAVAIL);
    counts.vifi = 4;
    CHECK_FAILS(ioctl(fd, SIOCGETVIFCNT, &counts), EINVAL);
    vif.vifc_vifi = 3;
    CHECK(option(fd, MRT_DEL_VIF, &vif, sizeof vif) == 0);
    show("/proc/net/ip_mr_vif");
    close(fd);
    show("/proc/net/ip_mr_vif");
}

// The upcall, once the packet that caused it has come round.
static ssize_t upcall(int fd, void *into, size_t size, const char *from_text) {
    struct sockaddr_storage from;
    socklen_t from_size = sizeof from;
    char text[INET6_ADDRSTRLEN];
    ssize_t length = recvfrom(fd, into, size, 0, (void *)&from, &from_size);
    if (from.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&from)->sin_addr, text, sizeof text);
    else
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&from)->sin6_addr, text, sizeof text);
    CHECK(strcmp(text, from_text) == 0);
    return length;
}

static void routes_and_upcalls(void) {
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_IGMP);
    unsigned char bytes[2000];
    struct igmpmsg *message = (void *)bytes;
    struct vifctl vif = {.vifc_flags = VIFF_USE_IFINDEX, .vifc_threshold = 1};
    struct mfcctl route = {.mfcc_parent = 0, .mfcc_ttls = {[1] = 1, [7] = 1, [0] = 255}};
    struct sioc_sg_req counts = {0};
    struct sioc_vif_req vif_counts = {.vifi = 1};
    struct timeval limit = {.tv_sec = 5};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    vif.vifc_lcl_ifindex = if_nametoindex("lo");
    CHECK(option(fd, MRT_INIT, &on, sizeof on) == 0);
    CHECK(option(fd, MRT_ADD_VIF, &vif, sizeof vif) == 0);
    vif.vifc_vifi = 1;
    vif.vifc_flags = VIFF_REGISTER;
    CHECK(option(fd, MRT_ADD_VIF, &vif, sizeof vif) == 0);
    send_v4("one");
    send_v4("second");
    CHECK(upcall(fd, bytes, sizeof bytes, "127.0.0.1") == 28);
    CHECK(bytes[0] == 0x45 && bytes[3] == 28);
    CHECK(message->im_msgtype == IGMPMSG_NOCACHE && message->im_mbz == 0 && message->im_vif == 0);
    CHECK(message->im_src.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(message->im_dst.s_addr == v4(GROUP, 0).sin_addr.s_addr);
    CHECK(bytes[20] == IGMPMSG_NOCACHE && bytes[21] == 0);
    show("/proc/net/ip_mr_cache");
    route.mfcc_mcastgrp.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_FAILS(option(fd, MRT_ADD_MFC, &route, sizeof route), EINVAL);
    route.mfcc_origin = message->im_src;
    route.mfcc_mcastgrp = message->im_dst;
    route.mfcc_parent = MAXVIFS;
    CHECK_FAILS(option(fd, MRT_ADD_MFC, &route, sizeof route), ENFILE);
    route.mfcc_parent = 0;
    CHECK_FAILS(option(fd, MRT_ADD_MFC, &route, sizeof route - 1), EINVAL);
    CHECK_FAILS(option(fd, MRT_DEL_MFC, &route, sizeof route), ENOENT);
    CHECK(option(fd, MRT_ADD_MFC, &route, sizeof route) == 0);
    // What waited leaves through the register interface: to the program. Linux's loopback brings each packet for a group
    // twice, as its loop and as its device.
    long packets = 0, length = 0, limit_bytes = 0;
    int last = 0;
    send_v4("x");
    while (last != 'x') {
        CHECK((length = upcall(fd, bytes, sizeof bytes, "127.0.0.1")) > 48);
        CHECK(message->im_msgtype == IGMPMSG_WHOLEPKT && message->im_vif == 1 && bytes[0] == 0x45);
        CHECK(bytes[20] == 0x45 && bytes[3] == length && bytes[23] == length - 20);
        packets++, limit_bytes += length - 20;
        last = bytes[48];
        if (packets == 1)
            CHECK(length == 51 && memcmp(bytes + 48, "one", 3) == 0);
    }
    while ((length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        packets++, limit_bytes += length - 20;
    counts.src = route.mfcc_origin;
    counts.grp = route.mfcc_mcastgrp;
    CHECK(ioctl(fd, SIOCGETSGCNT, &counts) == 0);
    CHECK((long)counts.pktcnt == packets && (long)counts.bytecnt == limit_bytes && counts.wrong_if == 0);
    CHECK(ioctl(fd, SIOCGETVIFCNT, &vif_counts) == 0);
    CHECK((long)vif_counts.ocount == packets && (long)vif_counts.obytes == limit_bytes);
    CHECK(vif_counts.icount == 0);
    counts.src.s_addr = 0;
    CHECK_FAILS(ioctl(fd, SIOCGETSGCNT, &counts), EADDRNOTAVAIL);
    CHECK(option(fd, MRT_DEL_MFC, &route, sizeof route) == 0);
    // All sources of the group, unless they came in where it leads.
    route.mfcc_origin.s_addr = 0;
    CHECK(option(fd, MRT_ADD_MFC, &route, sizeof route) == 0);
    show("/proc/net/ip_mr_cache");
    int flush = MRT_FLUSH_MFC | MRT_FLUSH_MFC_STATIC;
    CHECK(option(fd, MRT_FLUSH, &flush, sizeof flush) == 0);
    show("/proc/net/ip_mr_cache");
    close(fd);
}

static void routes_and_upcalls_of_ipv6(void) {
    int udp = socket(AF_INET6, SOCK_DGRAM, 0);
    int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), other = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
    unsigned char bytes[2000];
    struct mrt6msg *message = (void *)bytes;
    struct mif6ctl mif = {.vifc_threshold = 1};
    struct mf6cctl route = {.mf6cc_origin = v6("fd00::1", 0), .mf6cc_parent = 0};
    struct sioc_sg_req6 counts = {0};
    struct sioc_mif_req6 mif_counts = {.mifi = 1};
    struct timeval limit = {.tv_sec = 5};
    struct icmp6_filter { unsigned int words[8]; } none;
    int value = 7;
    socklen_t size = sizeof value;
    mifi_t mifi = 9;
    memset(&none, 0xff, sizeof none);
    CHECK(setsockopt(fd, IPPROTO_ICMPV6, 1, &none, sizeof none) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK_FAILS(option6(udp, MRT6_INIT, &on, sizeof on), EOPNOTSUPP);
    CHECK(getsockopt(fd, IPPROTO_IPV6, MRT6_VERSION, &value, &size) == 0 && value == 0x305);
    CHECK(option6(fd, MRT6_INIT, &on, sizeof on) == 0);
    CHECK_FAILS(option6(other, MRT6_INIT, &on, sizeof on), EADDRINUSE);
    CHECK_FAILS(option6(other, MRT6_DONE, &on, sizeof on), EACCES);
    mif.mif6c_pifi = 12345;
    CHECK_FAILS(option6(fd, MRT6_ADD_MIF, &mif, sizeof mif), EADDRNOTAVAIL);
    mif.mif6c_pifi = if_nametoindex(device);
    CHECK(option6(fd, MRT6_ADD_MIF, &mif, sizeof mif) == 0);
    CHECK_FAILS(option6(fd, MRT6_ADD_MIF, &mif, sizeof mif), EADDRINUSE);
    mif.mif6c_mifi = MAXMIFS;
    CHECK_FAILS(option6(fd, MRT6_ADD_MIF, &mif, sizeof mif), ENFILE);
    mif.mif6c_mifi = 1;
    mif.mif6c_flags = MIFF_REGISTER;
    CHECK(option6(fd, MRT6_ADD_MIF, &mif, sizeof mif) == 0);
    CHECK_FAILS(option6(fd, MRT6_DEL_MIF, &mifi, sizeof mifi), EADDRNOTAVAIL);
    send_v6("one");
    ssize_t length = upcall(fd, bytes, sizeof bytes, "fd00::1");
    printf("upcall of %zd bytes\n", length);
    CHECK(message->im6_mbz == 0 && message->im6_msgtype == MRT6MSG_NOCACHE && message->im6_mif == 0);
    CHECK(memcmp(&message->im6_src, &route.mf6cc_origin.sin6_addr, 16) == 0);
    show("/proc/net/ip6_mr_cache");
    route.mf6cc_mcastgrp = v6("::1", 0);
    CHECK_FAILS(option6(fd, MRT6_ADD_MFC, &route, sizeof route), EINVAL);
    route.mf6cc_mcastgrp = v6(GROUP6, 0);
    IF_SET(1, &route.mf6cc_ifset);
    IF_SET(7, &route.mf6cc_ifset);
    CHECK_FAILS(option6(fd, MRT6_DEL_MFC, &route, sizeof route), ENOENT);
    CHECK(option6(fd, MRT6_ADD_MFC, &route, sizeof route) == 0);
    CHECK(upcall(fd, bytes, sizeof bytes, "fd00::1") == 40 + 40 + 8 + 3);
    CHECK(message->im6_mbz == 0 && message->im6_msgtype == MRT6MSG_WHOLEPKT && message->im6_mif == 1);
    CHECK(bytes[40] >> 4 == 6 && memcmp(bytes + 88, "one", 3) == 0);
    counts.src = route.mf6cc_origin;
    counts.grp = route.mf6cc_mcastgrp;
    CHECK(ioctl(fd, SIOCGETSGCNT_IN6, &counts) == 0 && counts.pktcnt == 1 && counts.bytecnt == 51);
    CHECK(ioctl(fd, SIOCGETMIFCNT_IN6, &mif_counts) == 0 && mif_counts.ocount == counts.pktcnt);
    CHECK(option6(fd, MRT6_DEL_MFC, &route, sizeof route) == 0);
    CHECK(option6(fd, MRT6_ADD_MFC, &route, sizeof route) == 0);
    show("/proc/net/ip6_mr_cache");
    mifi = 1;
    CHECK(option6(fd, MRT6_DEL_MIF, &mifi, sizeof mifi) == 0);
    CHECK(option6(fd, MRT6_ASSERT, &on, sizeof on) == 0);
    CHECK(option6(fd, MRT6_PIM, &off, sizeof off) == 0);
    CHECK(option6(fd, MRT6_DONE, &on, sizeof on) == 0);
    show("/proc/net/ip6_mr_vif");
    close(fd), close(other), close(udp);
}

int main(void) {
    // A network of its own, where there are such: others may route in this one.
    if (unshare(CLONE_NEWNET) == 0) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
        CHECK(ioctl(fd, SIOCSIFFLAGS, &lo) == 0);
        close(fd);
        // Linux sends nothing of IPv6 for groups through its loopback.
        device = "ours";
        CHECK(system("ip link add name ours type veth peer name theirs && ip link set ours up && ip link set theirs up") == 0);
    }
    char command[99];
    snprintf(command, sizeof command, "ip address add fd00::1/64 dev %s nodad", device);
    CHECK(system(command) == 0);
    PART(only_one_program_routes);
    PART(virtual_interfaces);
    PART(routes_and_upcalls);
    PART(routes_and_upcalls_of_ipv6);
    return 0;
}
