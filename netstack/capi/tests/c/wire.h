/* Two stacks, and the program as the wire between them. */
#ifndef WIRE_H
#define WIRE_H

#include "check.h"
#include "netstack.h"

static ns_stack *host[2];
static int nic[2];
static unsigned long frames;

/* Carries frames until both sides are quiet. */
static void settle(void) {
    static unsigned char frame[2048];
    for (int quiet = 0; !quiet;) {
        quiet = 1;
        for (int side = 0; side < 2; side++) {
            ssize_t len;
            while ((len = ns_take(host[side], nic[side], frame, sizeof frame)) > 0) {
                CHECK(ns_inject(host[!side], nic[!side], frame, (size_t)len), 0);
                frames++;
                quiet = 0;
            }
            CHECK(len, -EAGAIN);
        }
    }
}

#endif
