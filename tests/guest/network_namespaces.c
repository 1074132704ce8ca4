// Network namespaces (network_namespaces(7)) and pairs of devices between them (veth(4), rtnetlink(7)).
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

static int open_net(const char *whose)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/net", whose);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static ino_t number(int fd)
{
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    return st.st_ino;
}

// Makes a namespace, leaves the caller where it was, and returns a descriptor of the new one.
static int new_net(void)
{
    int old = open_net("self");
    CHECK(unshare(CLONE_NEWNET) == 0);
    int new = open_net("self");
    CHECK(number(old) != number(new));
    CHECK(setns(old, CLONE_NEWNET) == 0);
    close(old);
    return new;
}

static void enter(int net)
{
    CHECK(setns(net, CLONE_NEWNET) == 0);
}

static short flags_of(const char *name)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {0};
    strcpy(request.ifr_name, name);
    int done = ioctl(fd, SIOCGIFFLAGS, &request);
    close(fd);
    return done == 0 ? request.ifr_flags : -1;
}

static void set_flags(const char *name, short flags)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_flags = flags};
    strcpy(request.ifr_name, name);
    CHECK(ioctl(fd, SIOCSIFFLAGS, &request) == 0);
    close(fd);
}

static void set_address(const char *name, const char *address)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {0};
    strcpy(request.ifr_name, name);
    struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
    in->sin_family = AF_INET;
    CHECK(inet_pton(AF_INET, address, &in->sin_addr) == 1);
    CHECK(ioctl(fd, SIOCSIFADDR, &request) == 0);
    close(fd);
}

static struct sockaddr_in at(const char *address, int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, address, &in.sin_addr) == 1);
    return in;
}

// Linux notices a little later that a carrier has come or gone.
static int comes_to(const char *name, int running)
{
    for (int i = 0; i < 5000; i++) {
        if ((flags_of(name) & IFF_RUNNING) == running)
            return 1;
        usleep(1000);
    }
    return 0;
}

static int is_running(const char *name)
{
    return comes_to(name, IFF_RUNNING);
}

static void a_new_one_has_a_loopback_that_is_down(void)
{
    int old = open_net("self");
    enter(new_net());
    CHECK(if_nametoindex("lo") == 1);
    struct if_nameindex *all = if_nameindex();
    CHECK(all && all[0].if_index == 1 && all[1].if_index == 0);
    if_freenameindex(all);
    CHECK((flags_of("lo") & (IFF_UP | IFF_RUNNING)) == 0);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = at("127.0.0.1", 9);
    CHECK_FAILS(connect(fd, (void *)&to, sizeof to), ENETUNREACH);
    set_flags("lo", IFF_UP);
    CHECK(connect(fd, (void *)&to, sizeof to) == 0);
    CHECK(flags_of("lo") & IFF_RUNNING);
    close(fd);
    enter(old);
    close(old);
}

static void sockets_stay_where_they_were_made(void)
{
    enter(new_net());
    set_flags("lo", IFF_UP);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here = at("127.0.0.1", 80);
    CHECK(bind(listener, (void *)&here, sizeof here) == 0 && listen(listener, 1) == 0);
    enter(new_net());
    set_flags("lo", IFF_UP);
    // The port is free here, and nobody listens.
    int other = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_FAILS(connect(other, (void *)&here, sizeof here), ECONNREFUSED);
    close(other);
    other = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(other, (void *)&here, sizeof here) == 0);
    CHECK(connect(client, (void *)&here, sizeof here) == 0);
    int server = accept(listener, NULL, NULL);
    CHECK(server >= 0 && write(client, "x", 1) == 1);
    char byte;
    CHECK(read(server, &byte, 1) == 1 && byte == 'x');
    close(server), close(client), close(listener), close(other);
}

static void abstract_names_are_of_a_namespace(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0network_namespaces"};
    socklen_t len = offsetof(struct sockaddr_un, sun_path) + 19;
    enter(new_net());
    int first = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(bind(first, (void *)&name, len) == 0);
    int again = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_FAILS(bind(again, (void *)&name, len), EADDRINUSE);
    enter(new_net());
    int second = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK_FAILS(connect(second, (void *)&name, len), ECONNREFUSED);
    CHECK(bind(second, (void *)&name, len) == 0);
    close(first), close(again), close(second);
}

static void read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t len = read(fd, text, size - 1);
    CHECK(len >= 0);
    text[len] = 0;
    close(fd);
}

static void files_of_proc_are_of_the_readers(void)
{
    char text[256];
    int one = new_net(), two = new_net();
    enter(one);
    int fd = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_RDWR);
    CHECK(fd >= 0 && write(fd, "77", 2) == 2);
    enter(two);
    read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof text);
    CHECK(strcmp(text, "1024\n") == 0);
    // What is open stays with its namespace.
    CHECK(pread(fd, text, sizeof text, 0) == 3 && memcmp(text, "77\n", 3) == 0);
    close(fd);
    int socket_here = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0only_here"};
    CHECK(bind(socket_here, (void *)&name, offsetof(struct sockaddr_un, sun_path) + 10) == 0);
    char all[4096];
    read_file("/proc/net/unix", all, sizeof all);
    CHECK(strstr(all, "@only_here"));
    enter(one);
    read_file("/proc/net/unix", all, sizeof all);
    CHECK(!strstr(all, "@only_here"));
    close(socket_here), close(one), close(two);
}

static void a_file_keeps_a_namespace(void)
{
    int ready[2], go[2];
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(unshare(CLONE_NEWNET) == 0);
        set_flags("lo", IFF_UP);
        CHECK(write(ready[1], "x", 1) == 1);
        char byte;
        CHECK(read(go[0], &byte, 1) == 1);
        _exit(0);
    }
    char byte, whose[16];
    CHECK(read(ready[0], &byte, 1) == 1);
    snprintf(whose, sizeof whose, "%d", child);
    int old = open_net("self"), theirs = open_net(whose);
    int pidfd = syscall(SYS_pidfd_open, child, 0);
    CHECK(pidfd >= 0 && setns(pidfd, CLONE_NEWNET) == 0);
    int here = open_net("self");
    CHECK(number(here) == number(theirs));
    close(here);
    enter(old);
    CHECK_FAILS(setns(theirs, CLONE_NEWUTS), EINVAL);
    CHECK(write(go[1], "x", 1) == 1 && waitpid(child, NULL, 0) == child);
    enter(theirs);
    CHECK(flags_of("lo") & IFF_UP);
    enter(old);
    close(old), close(theirs), close(pidfd);
}

struct message {
    struct nlmsghdr header;
    struct ifinfomsg info;
    char rest[512];
};

static struct rtattr *put(struct message *message, int kind, const void *data, size_t len)
{
    struct rtattr *attribute = (void *)((char *)message + NLMSG_ALIGN(message->header.nlmsg_len));
    attribute->rta_type = kind;
    attribute->rta_len = RTA_LENGTH(len);
    if (len)
        memcpy(RTA_DATA(attribute), data, len);
    message->header.nlmsg_len = NLMSG_ALIGN(message->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
    return attribute;
}

static void end(struct message *message, struct rtattr *nest)
{
    nest->rta_len = (char *)message + NLMSG_ALIGN(message->header.nlmsg_len) - (char *)nest;
}

// Sends a request and returns the errno of the answer.
static int request(int fd, struct message *message)
{
    message->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    CHECK(sendto(fd, message, message->header.nlmsg_len, 0, (void *)&kernel, sizeof kernel) > 0);
    char answer[4096];
    for (;;) {
        CHECK(recv(fd, answer, sizeof answer, 0) > 0);
        struct nlmsghdr *header = (void *)answer;
        if (header->nlmsg_type == NLMSG_ERROR)
            return -((struct nlmsgerr *)NLMSG_DATA(header))->error;
    }
}

static struct message link_message(int type, int flags)
{
    struct message message = {.header = {.nlmsg_type = type, .nlmsg_flags = flags}};
    message.header.nlmsg_len = NLMSG_LENGTH(sizeof message.info);
    return message;
}

// A pair with one end here and the other in `there`.
static int make_pair(int fd, const char *near, const char *far, int there)
{
    struct message message = link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    put(&message, IFLA_IFNAME, near, strlen(near) + 1);
    struct rtattr *info = put(&message, IFLA_LINKINFO, NULL, 0);
    put(&message, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = put(&message, IFLA_INFO_DATA, NULL, 0);
    struct ifinfomsg nothing = {0};
    struct rtattr *peer = put(&message, VETH_INFO_PEER, &nothing, sizeof nothing);
    put(&message, IFLA_IFNAME, far, strlen(far) + 1);
    put(&message, IFLA_NET_NS_FD, &there, sizeof there);
    end(&message, peer), end(&message, data), end(&message, info);
    return request(fd, &message);
}

static void a_pair_connects_two_namespaces(void)
{
    int one = new_net(), two = new_net();
    enter(one);
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    CHECK(make_pair(fd, "near", "far", two) == 0);
    CHECK(make_pair(fd, "near", "far2", two) == EEXIST);
    CHECK(make_pair(fd, "near2", "far", two) == EEXIST);
    CHECK(if_nametoindex("near2") == 0);
    CHECK(make_pair(fd, "a/b", "far2", two) == EINVAL);
    set_address("near", "10.9.0.1");
    set_flags("near", IFF_UP);
    CHECK(comes_to("near", 0) && flags_of("near") & IFF_UP);
    int receiver = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = at("10.9.0.1", 9);
    CHECK(bind(receiver, (void *)&here, sizeof here) == 0);
    enter(two);
    CHECK(if_nametoindex("near") == 0 && if_nametoindex("far") != 0);
    // Who listens is told of the end.
    int watcher = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct sockaddr_nl groups = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    set_address("far", "10.9.0.2");
    set_flags("far", IFF_UP);
    CHECK(is_running("far"));
    CHECK(bind(watcher, (void *)&groups, sizeof groups) == 0);
    int sender = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(sendto(sender, "hello", 5, 0, (void *)&here, sizeof here) == 5);
    char text[8];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    CHECK(recvfrom(receiver, text, sizeof text, 0, (void *)&from, &len) == 5);
    CHECK(from.sin_addr.s_addr == at("10.9.0.2", 0).sin_addr.s_addr);
    enter(one);
    CHECK(is_running("near"));
    struct message message = link_message(RTM_DELLINK, 0);
    message.info.ifi_index = if_nametoindex("near");
    CHECK(request(fd, &message) == 0);
    CHECK(request(fd, &message) == ENODEV);
    enter(two);
    CHECK(if_nametoindex("far") == 0);
    char told[4096];
    do
        CHECK(recv(watcher, told, sizeof told, 0) > 0);
    while (((struct nlmsghdr *)told)->nlmsg_type != RTM_DELLINK);
    close(one), close(two), close(fd), close(receiver), close(sender), close(watcher);
}

static void an_end_moves_and_is_renamed(void)
{
    int one = new_net(), two = new_net();
    enter(one);
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    CHECK(make_pair(fd, "near", "far", one) == 0);
    int index = if_nametoindex("far");
    set_flags("far", IFF_UP);
    struct message message = link_message(RTM_SETLINK, 0);
    message.info.ifi_index = index;
    put(&message, IFLA_NET_NS_FD, &two, sizeof two);
    put(&message, IFLA_IFNAME, "eth0", 5);
    CHECK(request(fd, &message) == 0);
    CHECK(if_nametoindex("far") == 0);
    enter(two);
    // It keeps its number where that is free, and is down.
    CHECK((int)if_nametoindex("eth0") == index);
    CHECK((flags_of("eth0") & IFF_UP) == 0);
    int other = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    message = link_message(RTM_SETLINK, 0);
    message.info.ifi_index = index;
    put(&message, IFLA_IFNAME, "lo", 3);
    CHECK(request(other, &message) == EEXIST);
    message = link_message(RTM_SETLINK, 0);
    message.info.ifi_index = index;
    put(&message, IFLA_IFNAME, "renamed", 8);
    unsigned char mac[6] = {2, 0, 0, 0, 0, 7};
    put(&message, IFLA_ADDRESS, mac, sizeof mac);
    int mtu = 1400;
    put(&message, IFLA_MTU, &mtu, sizeof mtu);
    CHECK(request(other, &message) == 0);
    struct ifreq shown = {.ifr_name = "renamed"};
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(ioctl(any, SIOCGIFHWADDR, &shown) == 0 && memcmp(shown.ifr_hwaddr.sa_data, mac, 6) == 0);
    CHECK(ioctl(any, SIOCGIFMTU, &shown) == 0 && shown.ifr_mtu == 1400);
    // The loopback stays.
    message = link_message(RTM_SETLINK, 0);
    message.info.ifi_index = 1;
    put(&message, IFLA_NET_NS_FD, &one, sizeof one);
    CHECK(request(other, &message) == EINVAL);
    message = link_message(RTM_DELLINK, 0);
    message.info.ifi_index = 1;
    CHECK(request(other, &message) == EOPNOTSUPP);
    close(one), close(two), close(fd), close(other), close(any);
}

static void without_privilege_there_is_none(void)
{
    pid_t child = fork();
    if (child == 0) {
        int other = new_net();
        CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
        CHECK_FAILS(unshare(CLONE_NEWNET), EPERM);
        CHECK_FAILS(setns(other, CLONE_NEWNET), EPERM);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void)
{
    PART(a_new_one_has_a_loopback_that_is_down);
    PART(sockets_stay_where_they_were_made);
    PART(abstract_names_are_of_a_namespace);
    PART(files_of_proc_are_of_the_readers);
    PART(a_file_keeps_a_namespace);
    PART(a_pair_connects_two_namespaces);
    PART(an_end_moves_and_is_renamed);
    PART(without_privilege_there_is_none);
    return 0;
}
