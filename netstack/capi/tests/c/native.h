/* The calls of netstack.h on the host's kernel, for programs that run on both: Linux is what the answers are compared with. */
#ifndef NATIVE_H
#define NATIVE_H

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef void ns_stack;

#define ANSWER(call)                                                                               \
    do {                                                                                           \
        ssize_t got_ = (call);                                                                     \
        return got_ < 0 ? -errno : got_;                                                           \
    } while (0)

static inline ns_stack *ns_stack_new(void *config) { return config; }
static inline void ns_stack_free(ns_stack *stack) { (void)stack; }
static inline int ns_socket(ns_stack *stack, int domain, int kind, int protocol) { (void)stack; ANSWER(socket(domain, kind, protocol)); }
static inline int ns_bind(ns_stack *stack, int fd, const struct sockaddr *address, socklen_t len) { (void)stack; ANSWER(bind(fd, address, len)); }
static inline int ns_connect(ns_stack *stack, int fd, const struct sockaddr *address, socklen_t len) { (void)stack; ANSWER(connect(fd, address, len)); }
static inline int ns_listen(ns_stack *stack, int fd, int backlog) { (void)stack; ANSWER(listen(fd, backlog)); }
static inline int ns_accept(ns_stack *stack, int fd, struct sockaddr *address, socklen_t *len, int flags) { (void)stack; ANSWER(accept4(fd, address, len, flags)); }
static inline int ns_getsockname(ns_stack *stack, int fd, struct sockaddr *address, socklen_t *len) { (void)stack; ANSWER(getsockname(fd, address, len)); }
static inline int ns_setsockopt(ns_stack *stack, int fd, int level, int name, const void *value, socklen_t len) { (void)stack; ANSWER(setsockopt(fd, level, name, value, len)); }
static inline int ns_getsockopt(ns_stack *stack, int fd, int level, int name, void *value, socklen_t *len) { (void)stack; ANSWER(getsockopt(fd, level, name, value, len)); }
static inline int ns_poll(ns_stack *stack, struct pollfd *entries, unsigned long count, int timeout) { (void)stack; ANSWER(poll(entries, count, timeout)); }
static inline ssize_t ns_recv(ns_stack *stack, int fd, unsigned char *buffer, size_t len, int flags) { (void)stack; ANSWER(recv(fd, buffer, len, flags)); }
static inline ssize_t ns_recvmsg(ns_stack *stack, int fd, struct msghdr *message, int flags) { (void)stack; ANSWER(recvmsg(fd, message, flags)); }
static inline ssize_t ns_sendmsg(ns_stack *stack, int fd, const struct msghdr *message, int flags) { (void)stack; ANSWER(sendmsg(fd, message, flags)); }
static inline ssize_t ns_recvmmsg(ns_stack *stack, int fd, struct mmsghdr *messages, unsigned count, int flags) { (void)stack; ANSWER(recvmmsg(fd, messages, count, flags, NULL)); }
static inline ssize_t ns_sendmmsg(ns_stack *stack, int fd, struct mmsghdr *messages, unsigned count, int flags) { (void)stack; ANSWER(sendmmsg(fd, messages, count, flags)); }
static inline int ns_close(ns_stack *stack, int fd) { (void)stack; ANSWER(close(fd)); }

#endif
