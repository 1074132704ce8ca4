// Routes for groups over netlink, and tables of them beside the default one (MRT_TABLE), over the loopback.
#include "own_network.h"

#include <arpa/inet.h>
#include <linux/mroute.h>
#include <linux/mroute6.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int on = 1, events;

static int option(int fd, int name, const void *value, socklen_t size) {
    return setsockopt(fd, IPPROTO_IP, name, value, size);
}

static int table(int fd, unsigned number) {
    return option(fd, MRT_TABLE, &number, sizeof number);
}

static int router(void) {
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_IGMP);
    CHECK(fd >= 0);
    return fd;
}

// Two virtual interfaces of the loopback.
static void add_vifs(int fd) {
    struct vifctl vif = {.vifc_flags = VIFF_USE_IFINDEX, .vifc_threshold = 1, .vifc_lcl_ifindex = 1};
    for (vif.vifc_vifi = 0; vif.vifc_vifi < 2; vif.vifc_vifi++)
        CHECK(option(fd, MRT_ADD_VIF, &vif, sizeof vif) == 0);
}

static struct mfcctl route(const char *source, const char *group) {
    struct mfcctl made = {.mfcc_parent = 0, .mfcc_ttls = {0, 3}};
    CHECK(inet_pton(AF_INET, source, &made.mfcc_origin) == 1);
    CHECK(inet_pton(AF_INET, group, &made.mfcc_mcastgrp) == 1);
    return made;
}

// Prints messages without what differs: sequence, port, how many packets there were, and how long ago.
static void print(const char *what, unsigned char *bytes, int length) {
    for (struct nlmsghdr *head = (void *)bytes; NLMSG_OK(head, (unsigned)length); head = NLMSG_NEXT(head, length)) {
        struct rtmsg *fixed = NLMSG_DATA(head);
        printf("%s %u flags %x", what, head->nlmsg_type, head->nlmsg_flags);
        if (head->nlmsg_type == NLMSG_ERROR)
            printf(" error %d", ((struct nlmsgerr *)fixed)->error);
        if (head->nlmsg_type < NLMSG_MIN_TYPE) {
            printf("\n");
            continue;
        }
        printf(": family %u %u %u table %u protocol %u type %u flags %x", fixed->rtm_family,
               fixed->rtm_dst_len, fixed->rtm_src_len, fixed->rtm_table, fixed->rtm_protocol, fixed->rtm_type,
               fixed->rtm_flags);
        int left = RTM_PAYLOAD(head);
        for (struct rtattr *at = RTM_RTA(fixed); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
            printf(" %u=", at->rta_type);
            // Linux's loopback may have a packet twice: as a copy for us, and from the device.
            if (at->rta_type == RTA_MFC_STATS) {
                struct rta_mfc_stats *stats = RTA_DATA(at);
                CHECK(RTA_PAYLOAD(at) == sizeof *stats && stats->mfcs_bytes == 31 * stats->mfcs_packets);
                printf("%s", stats->mfcs_packets > 0 ? "some" : "none");
                continue;
            }
            for (unsigned i = 0; i < RTA_PAYLOAD(at) && at->rta_type != RTA_EXPIRES; i++)
                printf("%02x", ((unsigned char *)RTA_DATA(at))[i]);
        }
        printf("\n");
    }
}

#ifndef RTM_NEWCACHEREPORT
#define RTM_NEWCACHEREPORT 96
#endif
#ifndef RTNLGRP_IPV4_MROUTE_R
#define RTNLGRP_IPV4_MROUTE_R 30
#endif

// What routing programs are told, shown to whoever subscribes.
static void show_report(int fd) {
    unsigned char bytes[8192];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK(poll(&wait, 1, 5000) == 1);
    int length = recv(fd, bytes, sizeof bytes, 0);
    struct nlmsghdr *head = (void *)bytes;
    CHECK(NLMSG_OK(head, (unsigned)length) && head->nlmsg_type == RTM_NEWCACHEREPORT);
    struct rtgenmsg *fixed = NLMSG_DATA(head);
    printf("report flags %x family %u", head->nlmsg_flags, fixed->rtgen_family);
    struct rtattr *at = (void *)((char *)fixed + NLMSG_ALIGN(sizeof *fixed));
    int left = head->nlmsg_len - NLMSG_LENGTH(sizeof *fixed);
    for (; RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        printf(" %u=", at->rta_type);
        for (unsigned i = 0; i < RTA_PAYLOAD(at); i++)
            printf("%02x", ((unsigned char *)RTA_DATA(at))[i]);
    }
    printf("\n");
}

static int reports(int group) {
    struct sockaddr_nl here = {.nl_family = AF_NETLINK};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    CHECK(bind(fd, (void *)&here, sizeof here) == 0);
    CHECK(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) == 0);
    return fd;
}

static void show_events(void) {
    unsigned char bytes[8192];
    int length;
    while ((length = recv(events, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        print("event", bytes, length);
}

static void ask(int family, int flags, const char *source, const char *group) {
    struct {
        struct nlmsghdr head;
        struct rtmsg fixed;
        unsigned char attributes[64];
    } request = {.head = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST | flags},
                 .fixed = {.rtm_family = family}};
    int size = NLMSG_LENGTH(sizeof request.fixed), address = family == RTNL_FAMILY_IP6MR ? AF_INET6 : AF_INET;
    int width = address == AF_INET ? 4 : 16;
    const char *texts[] = {source, group};
    request.fixed.rtm_src_len = request.fixed.rtm_dst_len = source ? 8 * width : 0;
    for (int i = 0; i < 2 && source; i++) {
        struct rtattr *at = (void *)((char *)&request + size);
        *at = (struct rtattr){.rta_type = i ? RTA_DST : RTA_SRC, .rta_len = RTA_LENGTH(width)};
        CHECK(inet_pton(address, texts[i], RTA_DATA(at)) == 1);
        size += RTA_LENGTH(width);
    }
    request.head.nlmsg_len = size;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), is_over = 0;
    CHECK(send(fd, &request, size, 0) == size);
    while (!is_over) {
        unsigned char bytes[8192];
        int length = recv(fd, bytes, sizeof bytes, 0), left = length;
        CHECK(length > 0);
        print("answer", bytes, length);
        for (struct nlmsghdr *head = (void *)bytes; NLMSG_OK(head, (unsigned)left); head = NLMSG_NEXT(head, left))
            is_over |= !(head->nlmsg_flags & NLM_F_MULTI) || head->nlmsg_type == NLMSG_DONE;
    }
    close(fd);
}

static void tables_are_chosen_first(void) {
    int udp = socket(AF_INET, SOCK_DGRAM, 0), fd = router(), other = router(), six = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
    int value;
    socklen_t size = sizeof value;
    CHECK_FAILS(table(udp, 5), EOPNOTSUPP);
    CHECK_FAILS(option(fd, MRT_TABLE, &on, 1), EINVAL);
    CHECK_FAILS(table(fd, 1000000000), EINVAL);
    CHECK(table(fd, 0) == 0 && table(other, 500) == 0);
    CHECK_FAILS(getsockopt(other, IPPROTO_IP, MRT_TABLE, &value, &size), ENOPROTOOPT);
    CHECK(option(fd, MRT_INIT, &on, sizeof on) == 0 && option(other, MRT_INIT, &on, sizeof on) == 0);
    CHECK_FAILS(table(fd, 501), EBUSY);
    CHECK_FAILS(table(other, 500), EBUSY);
    int third = router();
    CHECK(table(third, 500) == 0);
    CHECK_FAILS(option(third, MRT_INIT, &on, sizeof on), EADDRINUSE);
    close(other);
    CHECK(option(third, MRT_INIT, &on, sizeof on) == 0);
    CHECK(option(third, MRT_DONE, &on, sizeof on) == 0 && option(third, MRT_INIT, &on, sizeof on) == 0);
    CHECK(setsockopt(six, IPPROTO_IPV6, MRT6_TABLE, &(unsigned){77}, 4) == 0);
    CHECK(setsockopt(six, IPPROTO_IPV6, MRT6_INIT, &on, sizeof on) == 0);
    CHECK_FAILS(setsockopt(six, IPPROTO_IPV6, MRT6_TABLE, &on, 4), EBUSY);
    close(third), close(fd), close(udp), close(six);
}

static void routes_are_listed_and_announced(void) {
    int fd = router(), other = router(), udp = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(option(fd, MRT_INIT, &on, sizeof on) == 0);
    CHECK(table(other, 500) == 0 && option(other, MRT_INIT, &on, sizeof on) == 0);
    add_vifs(fd);
    struct mfcctl made = route("10.1.0.9", "239.1.1.1");
    CHECK(option(fd, MRT_ADD_MFC, &made, sizeof made) == 0);
    // No virtual interfaces there.
    CHECK(option(other, MRT_ADD_MFC, &made, sizeof made) == 0);
    show_events();
    ask(RTNL_FAMILY_IPMR, NLM_F_DUMP, NULL, NULL);
    ask(RTNL_FAMILY_IPMR, 0, "10.1.0.9", "239.1.1.1");
    ask(RTNL_FAMILY_IPMR, 0, "10.1.0.8", "239.1.1.1");
    made.mfcc_ttls[1] = 9;
    CHECK(option(fd, MRT_ADD_MFC, &made, sizeof made) == 0);
    CHECK(option(fd, MRT_DEL_MFC, &made, sizeof made) == 0);
    show_events();
    // Packets that wait for a route are shown with it.
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct ip_mreqn lo = {.imr_ifindex = 1};
    inet_pton(AF_INET, "239.9.9.9", &to.sin_addr);
    CHECK(bind(udp, (void *)&from, sizeof from) == 0);
    CHECK(option(udp, IP_MULTICAST_IF, &lo, sizeof lo) == 0);
    CHECK(option(udp, IP_MULTICAST_TTL, &(int){5}, sizeof(int)) == 0);
    CHECK(sendto(udp, "one", 3, 0, (void *)&to, sizeof to) == 3);
    struct pollfd wait = {.fd = events, .events = POLLIN};
    CHECK(poll(&wait, 1, 5000) == 1);
    show_events();
    ask(RTNL_FAMILY_IPMR, NLM_F_DUMP, NULL, NULL);
    // It arrives once more where it is sent to, so it is not.
    made = route("127.0.0.1", "239.9.9.9");
    made.mfcc_ttls[1] = 9;
    CHECK(option(fd, MRT_ADD_MFC, &made, sizeof made) == 0);
    show_events();
    ask(RTNL_FAMILY_IPMR, NLM_F_DUMP, NULL, NULL);
    CHECK(option(fd, MRT_FLUSH, &(int){MRT_FLUSH_MFC}, sizeof(int)) == 0);
    show_events();
    made = route("0.0.0.0", "239.2.2.2");
    CHECK(option(fd, MRT_ADD_MFC_PROXY, &made, sizeof made) == 0);
    CHECK(option(fd, MRT_DONE, &on, sizeof on) == 0);
    show_events();
    close(other);
    show_events();
    close(fd), close(udp);
}

static void routes_of_ipv6_are_listed(void) {
    int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), group = RTNLGRP_IPV6_MROUTE;
    CHECK(setsockopt(events, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) == 0);
    CHECK(setsockopt(fd, IPPROTO_IPV6, MRT6_INIT, &on, sizeof on) == 0);
    struct mif6ctl mif = {.vifc_threshold = 1, .mif6c_pifi = 1};
    for (mif.mif6c_mifi = 0; mif.mif6c_mifi < 2; mif.mif6c_mifi++)
        CHECK(setsockopt(fd, IPPROTO_IPV6, MRT6_ADD_MIF, &mif, sizeof mif) == 0);
    struct mf6cctl made = {.mf6cc_parent = 0};
    inet_pton(AF_INET6, "fd00::1", &made.mf6cc_origin.sin6_addr);
    inet_pton(AF_INET6, "ff05::1", &made.mf6cc_mcastgrp.sin6_addr);
    made.mf6cc_ifset.ifs_bits[0] = 2;
    CHECK(setsockopt(fd, IPPROTO_IPV6, MRT6_ADD_MFC, &made, sizeof made) == 0);
    show_events();
    ask(RTNL_FAMILY_IP6MR, NLM_F_DUMP, NULL, NULL);
    ask(RTNL_FAMILY_IP6MR, 0, "fd00::1", "ff05::1");
    ask(RTNL_FAMILY_IP6MR, 0, "fd00::2", "ff05::1");
    close(fd);
    show_events();
}

static void reports_are_told_over_netlink(void) {
    int fd = router(), told = reports(RTNLGRP_IPV4_MROUTE_R), udp = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(option(fd, MRT_INIT, &on, sizeof on) == 0);
    add_vifs(fd);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    struct ip_mreqn lo = {.imr_ifindex = 1};
    inet_pton(AF_INET, "239.9.9.8", &to.sin_addr);
    CHECK(bind(udp, (void *)&from, sizeof from) == 0);
    CHECK(option(udp, IP_MULTICAST_IF, &lo, sizeof lo) == 0);
    CHECK(option(udp, IP_MULTICAST_TTL, &(int){5}, sizeof(int)) == 0);
    CHECK(sendto(udp, "one", 3, 0, (void *)&to, sizeof to) == 3);
    show_report(told);
    close(told), close(udp), close(fd);
}

int main(void) {
    own_network();
    struct sockaddr_nl here = {.nl_family = AF_NETLINK};
    int group = RTNLGRP_IPV4_MROUTE;
    events = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    CHECK(bind(events, (void *)&here, sizeof here) == 0);
    CHECK(setsockopt(events, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) == 0);
    PART(tables_are_chosen_first);
    PART(routes_are_listed_and_announced);
    PART(routes_of_ipv6_are_listed);
    PART(reports_are_told_over_netlink);
    return 0;
}
