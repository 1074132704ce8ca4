// Interfaces as programs find them: ioctl, netlink dumps, the C library on top of them.
#include "check.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void the_loopback_by_ioctl(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {0};
    strcpy(request.ifr_name, "lo");
    CHECK(ioctl(fd, SIOCGIFFLAGS, &request) == 0);
    CHECK((request.ifr_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING)) == (IFF_UP | IFF_LOOPBACK | IFF_RUNNING));
    CHECK(ioctl(fd, SIOCGIFADDR, &request) == 0);
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
    CHECK(address->sin_family == AF_INET && address->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(ioctl(fd, SIOCGIFNETMASK, &request) == 0 && address->sin_addr.s_addr == htonl(0xff000000));
    CHECK(ioctl(fd, SIOCGIFMTU, &request) == 0 && request.ifr_mtu == 65536);
    CHECK(ioctl(fd, SIOCGIFINDEX, &request) == 0 && request.ifr_ifindex == 1);
    CHECK(ioctl(fd, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family == 772);
    strcpy(request.ifr_name, "nothing0");
    CHECK_FAILS(ioctl(fd, SIOCGIFFLAGS, &request), ENODEV);
    struct ifreq list[16];
    struct ifconf conf = {.ifc_len = sizeof list, .ifc_req = list};
    CHECK(ioctl(fd, SIOCGIFCONF, &conf) == 0 && conf.ifc_len >= (int)sizeof *list);
    CHECK(strcmp(list[0].ifr_name, "lo") == 0);
    close(fd);
}

static void the_loopback_by_library(void) {
    CHECK(if_nametoindex("lo") == 1);
    char name[IF_NAMESIZE];
    CHECK(if_indextoname(1, name) && strcmp(name, "lo") == 0);
    struct if_nameindex *names = if_nameindex();
    CHECK(names && names[0].if_index == 1);
    if_freenameindex(names);
    struct ifaddrs *all;
    CHECK(getifaddrs(&all) == 0);
    int found = 0;
    for (struct ifaddrs *at = all; at; at = at->ifa_next)
        if (at->ifa_addr && at->ifa_addr->sa_family == AF_INET && strcmp(at->ifa_name, "lo") == 0)
            found++;
    CHECK(found == 1);
    freeifaddrs(all);
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *result;
    CHECK(getaddrinfo("127.0.0.1", "80", &hints, &result) == 0);
    freeaddrinfo(result);
}

static void netlink_answers_in_parts(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    socklen_t length = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &length) == 0 && address.nl_pid != 0);
    struct {
        struct nlmsghdr header;
        struct rtgenmsg body;
    } request = {{sizeof request, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 77, 0}, {AF_UNSPEC}};
    CHECK(send(fd, &request, sizeof request, 0) == sizeof request);
    int links = 0, done = 0;
    while (!done) {
        static char buffer[32768];
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        CHECK(received > 0);
        for (struct nlmsghdr *at = (void *)buffer; NLMSG_OK(at, received); at = NLMSG_NEXT(at, received)) {
            CHECK(at->nlmsg_seq == 77 && at->nlmsg_pid == address.nl_pid && (at->nlmsg_flags & NLM_F_MULTI));
            if (at->nlmsg_type == NLMSG_DONE) {
                done = 1;
            } else {
                links++;
                CHECK(at->nlmsg_type == RTM_NEWLINK);
            }
        }
    }
    CHECK(links >= 1);
    struct {
        struct nlmsghdr header;
        struct ifinfomsg body;
    } single = {{sizeof single, RTM_GETLINK, NLM_F_REQUEST, 78, 0}, {.ifi_index = 9999}};
    CHECK(send(fd, &single, sizeof single, 0) == sizeof single);
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[256];
    } answer;
    CHECK(recv(fd, &answer, sizeof answer, 0) >= (ssize_t)(sizeof answer.header + sizeof answer.error));
    CHECK(answer.header.nlmsg_type == NLMSG_ERROR && answer.error.error == -ENODEV);
    CHECK(answer.error.msg.nlmsg_seq == 78);
    close(fd);
}

int main(void) {
    PART(the_loopback_by_ioctl);
    PART(the_loopback_by_library);
    PART(netlink_answers_in_parts);
}
