/* Groups and their sources: joined, left, and named by interface number or address, over loopback. */
#include "check.h"
#include "netstack.h"

static ns_stack *stack;
static struct sockaddr_in group;

/* How many of three datagrams from `from` arrive. */
static int arrivals(int receiver, const char *from) {
    int sender = ns_socket(stack, AF_INET, SOCK_DGRAM, 0), count = 0;
    struct sockaddr_in local = address4(from, 0);
    CHECK(ns_bind(stack, sender, (struct sockaddr *)&local, sizeof local), 0);
    CHECK(ns_setsockopt(stack, sender, IPPROTO_IP, IP_MULTICAST_IF, &local.sin_addr, sizeof local.sin_addr), 0);
    for (int i = 0; i < 3; i++)
        CHECK(ns_sendto(stack, sender, (const unsigned char *)"x", 1, 0, (struct sockaddr *)&group, sizeof group), 1);
    unsigned char byte;
    while (ns_recv(stack, receiver, &byte, 1, MSG_DONTWAIT) == 1)
        count++;
    CHECK(ns_close(stack, sender), 0);
    return count;
}

int main(void) {
    stack = ns_stack_new(NULL);
    CHECK(ns_address_add(stack, 1, "127.0.0.9/8"), 0);
    CHECK(ns_route_add(stack, 1, "224.0.0.0/4", NULL), 0);
    group = address4("239.1.2.3", 4000);
    int receiver = ns_socket(stack, AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in any = address4("0.0.0.0", 4000);
    CHECK(ns_bind(stack, receiver, (struct sockaddr *)&any, sizeof any), 0);
    CHECK(arrivals(receiver, "127.0.0.1"), 0);

    struct ip_mreqn by_number = {.imr_multiaddr = group.sin_addr, .imr_ifindex = 1};
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_number, sizeof by_number), 0);
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_number, sizeof by_number), -EADDRINUSE);
    CHECK(arrivals(receiver, "127.0.0.1"), 3);
    struct ip_mreq by_address = {.imr_multiaddr = group.sin_addr, .imr_interface = address4("127.0.0.1", 0).sin_addr};
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP, &by_address, sizeof by_address), 0);
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP, &by_address, sizeof by_address), -EADDRNOTAVAIL);
    CHECK(arrivals(receiver, "127.0.0.1"), 0);

    struct ip_mreq_source source = {.imr_multiaddr = group.sin_addr,
                                    .imr_interface = address4("127.0.0.1", 0).sin_addr,
                                    .imr_sourceaddr = address4("127.0.0.9", 0).sin_addr};
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, sizeof source), 0);
    CHECK(arrivals(receiver, "127.0.0.1"), 0);
    CHECK(arrivals(receiver, "127.0.0.9"), 3);
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &source, sizeof source), 0);
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_number, sizeof by_number), 0);
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_BLOCK_SOURCE, &source, sizeof source), 0);
    CHECK(arrivals(receiver, "127.0.0.9"), 0);
    CHECK(arrivals(receiver, "127.0.0.1"), 3);
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_UNBLOCK_SOURCE, &source, sizeof source), 0);
    CHECK(arrivals(receiver, "127.0.0.9"), 3);

    struct ip_mreqn nowhere = {.imr_multiaddr = group.sin_addr, .imr_ifindex = 77};
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &nowhere, sizeof nowhere), -ENODEV);
    CHECK(ns_setsockopt(stack, receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &nowhere, 7), -EINVAL);
    int stream = ns_socket(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(ns_setsockopt(stack, stream, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_number, sizeof by_number), -EPROTO);

    int six = ns_socket(stack, AF_INET6, SOCK_DGRAM, 0);
    struct ipv6_mreq request = {.ipv6mr_interface = 1};
    inet_pton(AF_INET6, "ff15::7", &request.ipv6mr_multiaddr);
    CHECK(ns_setsockopt(stack, six, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request, sizeof request), 0);
    CHECK(ns_setsockopt(stack, six, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request, sizeof request), -EADDRINUSE);
    CHECK(ns_setsockopt(stack, six, IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &request, sizeof request), 0);
    int interface = 1;
    CHECK(ns_setsockopt(stack, six, IPPROTO_IPV6, IPV6_MULTICAST_IF, &interface, sizeof interface), 0);
    interface = 77;
    CHECK(ns_setsockopt(stack, six, IPPROTO_IPV6, IPV6_MULTICAST_IF, &interface, sizeof interface), -ENODEV);
    ns_stack_free(stack);
    return 0;
}
