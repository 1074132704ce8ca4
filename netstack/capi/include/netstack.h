/*
 * netstack: a TCP/IP stack as a library. Generated from the Rust sources (tests/header.rs says how); do not edit.
 *
 * Functions answer what the system call of the same name answers, but instead of setting errno they return its
 * negative value. All may be called from any thread.
 */

#ifndef NETSTACK_H
#define NETSTACK_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/socket.h>
#include <poll.h>

// Complete with _GNU_SOURCE.
struct mmsghdr;

// Somebody opens a TCP connection.
#define NS_FORWARD_TCP 1

// Somebody sent a UDP datagram.
#define NS_FORWARD_UDP 2

// Somebody sent an echo request (ping) to an address that the stack does not have.
#define NS_FORWARD_ECHO 4

// A TCP/IP stack with its sockets.
//
// Made by `ns_stack_new`, ended by `ns_stack_free`.
typedef struct ns_stack ns_stack;

// How to make a stack. All zeros is a stack with a real clock and loopback.
typedef struct ns_config {
  // Time moves by `ns_stack_advance_to` only, and no call waits.
  bool manual_clock;
  // Secrets (initial sequence numbers, ports) follow from `seed`: for tests that must repeat.
  bool deterministic;
  // See `deterministic`.
  uint64_t seed;
  // No loopback interface.
  bool without_loopback;
} ns_config;

// The figures of a connection. Times are in microseconds, the rest in bytes or segments.
typedef struct ns_tcp_info {
  // The state, by Linux's number (`TCP_ESTABLISHED` is 1).
  uint8_t state;
  // The retransmission timeout.
  uint64_t rto_us;
  // The smoothed round-trip time; zero before the first measurement.
  uint64_t srtt_us;
  // Its variation.
  uint64_t rttvar_us;
  // The least round-trip time seen.
  uint64_t min_rtt_us;
  // The segment size that is sent.
  uint32_t snd_mss;
  // The segment size that is seen.
  uint32_t rcv_mss;
  // The congestion window in bytes.
  uint32_t cwnd;
  // The slow-start threshold in bytes; `UINT32_MAX` before the first loss.
  uint32_t ssthresh;
  // The window that the peer offers.
  uint32_t snd_wnd;
  // The window that this side offers.
  uint32_t rcv_wnd;
  // Bytes sent and not acknowledged.
  uint32_t unacked;
  // Bytes that were never sent.
  uint32_t not_sent;
  // Bytes acknowledged so far.
  uint64_t bytes_acked;
  // Payload bytes received in order so far.
  uint64_t bytes_received;
  // Segments sent.
  uint64_t segments_out;
  // Segments received.
  uint64_t segments_in;
  // Segments retransmitted.
  uint64_t total_retransmits;
} ns_tcp_info;

// What somebody wants from somebody else.
typedef struct ns_request {
  // `NS_FORWARD_TCP`, `NS_FORWARD_UDP` or `NS_FORWARD_ECHO`.
  unsigned int kind;
  // Who asks.
  struct sockaddr_storage from;
  // Whom it is meant for. Echo requests have no ports.
  struct sockaddr_storage to;
  // How many bytes of data there are, for `ns_request_data`; zero for TCP.
  size_t len;
  // The time to live or hop limit that it arrived with; zero for TCP.
  uint8_t ttl;
  // The identifier of an echo request.
  uint16_t ident;
  // The sequence number of an echo request.
  uint16_t sequence;
} ns_request;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Makes a stack; `config` may be null. Null if the operating system gives no thread for the timers.
//
// # Safety
// `config` is null or points to a configuration.
struct ns_stack *ns_stack_new(const struct ns_config *config);

// Ends a stack: closes its sockets, stops its threads and frees it. Null is ignored.
//
// # Safety
// `stack` came from `ns_stack_new`, was not freed yet, and no other call on it is under way or follows.
void ns_stack_free(struct ns_stack *stack);

// The stack's time in nanoseconds since an origin of its own; zero when a stack with a manual clock is made.
//
// # Safety
// `stack` is a valid stack.
uint64_t ns_stack_now(const struct ns_stack *stack);

// When the next timer is due, on the scale of `ns_stack_now`; `UINT64_MAX` if none is set.
//
// # Safety
// `stack` is a valid stack.
uint64_t ns_stack_next_deadline(const struct ns_stack *stack);

// Moves a manual clock forward, running each timer on the way. `-EINVAL` if the clock is real; earlier times are ignored.
//
// # Safety
// `stack` is a valid stack.
int ns_stack_advance_to(const struct ns_stack *stack,
                        uint64_t nanoseconds);

// Adds an interface whose frames the program carries by hand (`ns_inject`, `ns_take`).
//
// `mac` points to six bytes for an Ethernet interface; null makes one that carries IP packets. `queue_len` frames wait
// to be taken, more are dropped. Returns the interface's number (1 or more), `-EEXIST` if the name is taken, `-EINVAL` if
// the name or the MTU makes no sense.
//
// # Safety
// `stack` is a valid stack, `name` a string that ends with a zero, `mac` null or six readable bytes.
int ns_nic_add_channel(const struct ns_stack *stack,
                       const char *name,
                       const uint8_t *mac,
                       size_t mtu,
                       size_t queue_len);

// Adds an interface on one of the host's: `link` is `tap:NAME` (the user-space end of a tap device, made if it does not
// exist), `tun:NAME`, or `packet:NAME` (a packet socket on an existing interface). A thread of the stack reads it.
//
// `mac` is for taps: the stack's own address, which must differ from the host's end. Returns the interface's number,
// `-EPERM` or the host's own error if the interface cannot be opened, `-EINVAL` for a stack with a manual clock.
//
// # Safety
// `stack` is a valid stack, `name` and `link` strings that end with a zero, `mac` null or six readable bytes.
int ns_nic_open(const struct ns_stack *stack,
                const char *name,
                const char *link,
                const uint8_t *mac);

// Gives an interface an address, as `10.0.0.1/24` or `fd00::1/64`, and the route to its network.
//
// # Safety
// `stack` is a valid stack and `address` a string that ends with a zero.
int ns_address_add(const struct ns_stack *stack, unsigned int nic, const char *address);

// Adds a route to a network (`0.0.0.0/0` is everything) through a router, or, if `gateway` is null, over the link itself.
//
// # Safety
// `stack` is a valid stack, `network` a string that ends with a zero, `gateway` null or another one.
int ns_route_add(const struct ns_stack *stack,
                 unsigned int nic,
                 const char *network,
                 const char *gateway);

// Tells the link-layer address of a neighbour, so that it is not asked for.
//
// # Safety
// `stack` is a valid stack, `address` a string that ends with a zero, `mac` six readable bytes.
int ns_neighbour_add(const struct ns_stack *stack, unsigned int nic, const char *address, const uint8_t *mac);

// Gives a channel interface a frame to receive: an Ethernet frame or an IP packet, as the interface was made. The
// stack processes it, and answers it, before this returns. The frame is copied.
//
// Returns 0, or `-ENODEV` if there is no such interface.
//
// # Safety
// `stack` is a valid stack and `frame` points to `len` readable bytes.
int ns_inject(const struct ns_stack *stack,
              unsigned int nic,
              const uint8_t *frame,
              size_t len);

// Takes the oldest frame that a channel interface has sent. Returns its length, `-EAGAIN` if there is none, `-EMSGSIZE`
// if `buffer` is too small (the frame stays), `-ENODEV` if there is no such channel.
//
// # Safety
// `stack` is a valid stack and `buffer` points to `capacity` writable bytes.
ssize_t ns_take(const struct ns_stack *stack,
                unsigned int nic,
                uint8_t *buffer,
                size_t capacity);

// Makes a socket, as `socket(2)`: `AF_INET` or `AF_INET6`; `SOCK_STREAM`, `SOCK_DGRAM` (UDP, or echo requests with
// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`) or `SOCK_RAW`, with `SOCK_NONBLOCK` or not. `AF_PACKET`, with `SOCK_RAW` or `SOCK_DGRAM` and
// a protocol in network order, sends and receives frames; it has no rings. Returns its number.
//
// # Safety
// `stack` is a valid stack.
int ns_socket(const struct ns_stack *stack,
              int domain,
              int kind,
              int protocol);

// Gives a socket a local address, as `bind(2)`.
//
// # Safety
// `stack` is a valid stack and `address` points to `len` readable bytes.
int ns_bind(const struct ns_stack *stack, int socket, const struct sockaddr *address, socklen_t len);

// Starts to listen, or changes the backlog, as `listen(2)`.
//
// # Safety
// `stack` is a valid stack.
int ns_listen(const struct ns_stack *stack, int socket, int backlog);

// Takes an established connection, waiting for one, as `accept4(2)`: `flags` is 0 or `SOCK_NONBLOCK`. The peer's address
// goes to `address`, unless that is null. Returns the new socket's number.
//
// # Safety
// `stack` is a valid stack; `address` is null, or `len` points to its size.
int ns_accept(const struct ns_stack *stack,
              int socket,
              struct sockaddr *address,
              socklen_t *len,
              int flags);

// Connects a socket, as `connect(2)`. A stream waits for the handshake; without waiting the answer is `-EINPROGRESS`, and
// `ns_poll` and `SO_ERROR` tell the outcome. A datagram socket gets a default destination, or loses it with `AF_UNSPEC`.
//
// # Safety
// `stack` is a valid stack and `address` points to `len` readable bytes.
int ns_connect(const struct ns_stack *stack,
               int socket,
               const struct sockaddr *address,
               socklen_t len);

// Writes a socket's local address, as `getsockname(2)`.
//
// # Safety
// `stack` is a valid stack, `len` points to the size of `address`.
int ns_getsockname(const struct ns_stack *stack, int socket, struct sockaddr *address, socklen_t *len);

// Writes the address of a socket's peer, as `getpeername(2)`.
//
// # Safety
// `stack` is a valid stack, `len` points to the size of `address`.
int ns_getpeername(const struct ns_stack *stack, int socket, struct sockaddr *address, socklen_t *len);

// Ends one direction (`SHUT_RD`, `SHUT_WR`) or both (`SHUT_RDWR`), as `shutdown(2)`.
//
// # Safety
// `stack` is a valid stack.
int ns_shutdown(const struct ns_stack *stack, int socket, int how);

// Closes a socket, as `close(2)`: what was written is delivered in the background, and waited for if `SO_LINGER` says
// so; with a linger time of zero the connection is reset. Calls of other threads on the socket still end as they would.
// Closing a forwarder makes its interface that of an ordinary host again; closing a request ignores what it asks for.
//
// # Safety
// `stack` is a valid stack.
int ns_close(const struct ns_stack *stack,
             int socket);

// Whether calls on a socket or forwarder wait (0) or answer `-EAGAIN` (anything else).
//
// # Safety
// `stack` is a valid stack.
int ns_set_nonblocking(const struct ns_stack *stack, int socket, int is_nonblocking);

// Sends, as `send(2)`: `flags` may have `MSG_DONTWAIT`, `MSG_NOSIGNAL` (there never is a signal) and, for streams, `MSG_MORE` and
// `MSG_OOB`. Returns how many bytes were queued; a stream may take fewer than given.
//
// # Safety
// `stack` is a valid stack and `data` points to `len` readable bytes.
ssize_t ns_send(const struct ns_stack *stack,
                int socket,
                const uint8_t *data,
                size_t len,
                int flags);

// Sends to an address, as `sendto(2)`; `address` may be null. Flags as for `ns_send`.
//
// # Safety
// `stack` is a valid stack, `data` points to `len` readable bytes, `address` is null or points to `address_len` of them.
ssize_t ns_sendto(const struct ns_stack *stack,
                  int socket,
                  const uint8_t *data,
                  size_t len,
                  int flags,
                  const struct sockaddr *address,
                  socklen_t address_len);

// Receives, as `recv(2)`: `flags` may have `MSG_DONTWAIT`, `MSG_PEEK`, `MSG_ERRQUEUE` (what an error of `IP_RECVERR` quotes of the
// datagram that caused it; never waits); for datagrams `MSG_TRUNC` (the answer is the datagram's full length); for streams `MSG_OOB` (the urgent byte) and `MSG_WAITALL` (all of `len`, unless the stream or the time ends
// first). Zero is the end of a stream.
//
// # Safety
// `stack` is a valid stack and `buffer` points to `len` writable bytes.
ssize_t ns_recv(const struct ns_stack *stack,
                int socket,
                uint8_t *buffer,
                size_t len,
                int flags);

// Receives and writes the sender's address to `address` unless that is null, as `recvfrom(2)`. Flags as for `ns_recv`.
//
// # Safety
// `stack` is a valid stack, `buffer` points to `len` writable bytes; `address` is null, or `address_len` points to its size.
ssize_t ns_recvfrom(const struct ns_stack *stack,
                    int socket,
                    uint8_t *buffer,
                    size_t len,
                    int flags,
                    struct sockaddr *address,
                    socklen_t *address_len);

// Sends, as `sendmsg(2)`: the buffers of `message` are one datagram, or follow one another on a stream. Flags as for `ns_send`.
//
// Control messages, for datagrams: `IP_PKTINFO` and `IPV6_PKTINFO` (source address and interface), `IP_TTL`, `IP_TOS`,
// `IPV6_HOPLIMIT`, `IPV6_TCLASS`, `UDP_SEGMENT`. Others of these levels and of `SOL_SOCKET` are `-EINVAL`, those of other levels
// and those of streams are not looked at.
//
// # Safety
// `stack` is a valid stack, and `message` points to a structure whose pointers are null or point to as much readable memory
// as it says.
ssize_t ns_sendmsg(const struct ns_stack *stack,
                   int socket,
                   const struct msghdr *message,
                   int flags);

// Receives, as `recvmsg(2)`, into the buffers of `message` one after the other. Flags as for `ns_recv`. Writes `msg_namelen`,
// `msg_controllen` and `msg_flags` (`MSG_TRUNC`, `MSG_CTRUNC`, `MSG_OOB`, `MSG_ERRQUEUE`).
//
// Control messages come with datagrams as the options `IP_PKTINFO`, `IP_RECVTTL`, `IP_RECVTOS`, `IP_RECVORIGDSTADDR`,
// `IPV6_RECVPKTINFO`, `IPV6_RECVHOPLIMIT`, `IPV6_RECVTCLASS`, `IPV6_RECVORIGDSTADDR`, `UDP_GRO`, `SO_TIMESTAMP` and
// `SO_TIMESTAMPNS` say, and with frames as those two and `PACKET_AUXDATA` say; with `MSG_ERRQUEUE` it is `IP_RECVERR` or `IPV6_RECVERR` (`struct sock_extended_err` and the address of
// who reported the error), and the address is where the datagram was going. Times are the host's, or with a manual clock the stack's.
//
// # Safety
// `stack` is a valid stack, and `message` points to a structure whose pointers are null or point to as much writable memory
// as it says, which does not overlap.
ssize_t ns_recvmsg(const struct ns_stack *stack,
                   int socket,
                   struct msghdr *message,
                   int flags);

// Sends messages one after the other, as `sendmmsg(2)`: at most 1024, each as with `ns_sendmsg`, whose lengths go to `msg_len`. The
// link gets datagrams in batches unless the call may wait. Returns how many were sent; an error only of the first.
//
// # Safety
// `stack` is a valid stack, and `messages` points to `count` structures as for `ns_sendmsg`.
ssize_t ns_sendmmsg(const struct ns_stack *stack,
                    int socket,
                    struct mmsghdr *messages,
                    unsigned int count,
                    int flags);

// Receives messages one after the other, as `recvmmsg(2)` without a limit of time: at most 1024, each as with `ns_recvmsg`, whose
// lengths go to `msg_len`. With `MSG_WAITFORONE`, only the first is waited for. Returns how many came; an error only if none did.
//
// # Safety
// `stack` is a valid stack, and `messages` points to `count` structures as for `ns_recvmsg`.
ssize_t ns_recvmmsg(const struct ns_stack *stack,
                    int socket,
                    struct mmsghdr *messages,
                    unsigned int count,
                    int flags);

// Waits until a socket is ready, as `poll(2)`: each entry's `fd` is a socket of this stack, a forwarder (readable while there
// is a request), or negative to be ignored. Returns how many entries have something in `revents`; zero when `timeout_ms` is over
// first (negative: never; a stack with a manual clock never waits).
//
// # Safety
// `stack` is a valid stack and `entries` points to `count` entries that nobody else uses meanwhile.
int ns_poll(const struct ns_stack *stack,
            struct pollfd *entries,
            unsigned long count,
            int timeout_ms);

// Sets an option, as `setsockopt(2)`. `-ENOPROTOOPT` for what this stack does not have: nothing is ignored silently.
//
// # Safety
// `stack` is a valid stack and `value` points to `len` readable bytes; a program in them (`SO_ATTACH_FILTER`,
// `PACKET_FANOUT_DATA`) is as long as they say.
int ns_setsockopt(const struct ns_stack *stack,
                  int socket,
                  int level,
                  int name,
                  const void *value,
                  socklen_t len);

// Reads an option, as `getsockopt(2)`: the value is cut to `*len` bytes, and `*len` says how many were written.
//
// # Safety
// `stack` is a valid stack, `len` points to a length and `value` to that many writable bytes.
int ns_getsockopt(const struct ns_stack *stack,
                  int socket,
                  int level,
                  int name,
                  void *value,
                  socklen_t *len);

// Reads the figures of a connection. `-ENOTCONN` if the socket has none, `-EOPNOTSUPP` if it is not a stream.
//
// # Safety
// `stack` is a valid stack and `out` points to the room for the figures.
int ns_tcp_get_info(const struct ns_stack *stack, int socket, struct ns_tcp_info *out);

// Takes what no socket wants from an interface, for any unicast destination, and lets the program decide about each flow.
//
// `kinds` says what about (`NS_FORWARD_TCP` and so on, added up). At most `max_pending` requests wait; zero is 1024. What comes
// beyond that is dropped: whoever it came from sends it again. Returns the forwarder's number, for `ns_forwarder_next`, `ns_poll`,
// `ns_set_nonblocking` and `ns_close`; `-EEXIST` if the interface has a forwarder, `-EINVAL` for unknown kinds or none.
//
// # Safety
// `stack` is a valid stack.
int ns_forwarder_new(const struct ns_stack *stack,
                     unsigned int nic,
                     unsigned int kinds,
                     size_t max_pending);

// Takes a forwarder's oldest request, waiting for one, and describes it in `out`. Returns the request's number.
//
// Nothing is answered until `ns_request_accept`, `ns_request_refuse` or `ns_request_reject` decides; `ns_close` ignores it.
//
// # Safety
// `stack` is a valid stack and `out` points to the room for the description.
int ns_forwarder_next(const struct ns_stack *stack,
                      int forwarder,
                      struct ns_request *out);

// Copies a request's data: the datagram, or what is to be echoed. Returns how many bytes were copied.
//
// # Safety
// `stack` is a valid stack and `buffer` points to `len` writable bytes.
ssize_t ns_request_data(const struct ns_stack *stack, int request, uint8_t *buffer, size_t len);

// Accepts a request. `flags` is 0 or `SOCK_NONBLOCK`.
//
// A connection or a flow of datagrams becomes a socket, whose number is returned: its own address is the one that was asked for.
// A stream's handshake goes on in the background (`ns_poll` tells when it is writable); the first datagram of a flow is the one
// that was asked about. An echo request is answered, and 0 returned. The request's number is free afterwards, unless the answer
// is `-EINVAL`; `-ENETUNREACH` if there is no route back, `-EADDRINUSE` if the flow has a socket.
//
// # Safety
// `stack` is a valid stack.
int ns_request_accept(const struct ns_stack *stack,
                      int request,
                      int flags);

// Refuses a request as a host without a listener does: a connection with a reset, a datagram with "port unreachable". An echo
// request is rejected as administratively prohibited. The request's number is free afterwards.
//
// # Safety
// `stack` is a valid stack.
int ns_request_refuse(const struct ns_stack *stack,
                      int request);

// Rejects a request with an ICMP error, by the error number that the sender's calls will give: `ECONNREFUSED` (port
// unreachable), `EHOSTUNREACH`, `ENETUNREACH` or `EACCES` (administratively prohibited); a proxy passes on what its own `connect`
// said. `-EINVAL` for other numbers, and the request stays.
//
// # Safety
// `stack` is a valid stack.
int ns_request_reject(const struct ns_stack *stack,
                      int request,
                      int error);

// Sends a datagram on a forwarder's interface from any address: the answer to a request goes from its `to` to its `from`. For
// programs that keep a table of flows of their own; a socket of `ns_request_accept` does this by itself.
//
// # Safety
// `stack` is a valid stack, `data` points to `len` readable bytes, `from` and `to` to `address_len` of them each.
ssize_t ns_forwarder_sendto(const struct ns_stack *stack,
                            int forwarder,
                            const uint8_t *data,
                            size_t len,
                            const struct sockaddr *from,
                            const struct sockaddr *to,
                            socklen_t address_len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NETSTACK_H */
