// An accept4 of our own in the place of libc's, for the calls that come out of libgrpc.
//
// libgrpc 1.51 has no limit of connections, and where accept4 fails for lack of descriptors it never asks that listener
// again (src/core/lib/iomgr/tcp_server_posix.cc, on_read: `goto error`): whoever opens as many connections as the process
// may have descriptors would leave a server that runs, and that nobody reaches until it is started again. Later versions
// have both, grpc.max_allowed_incoming_connections and a second try. So here accept4 closes what is too much, and does
// not fail for what passes.
//
// In an executable, a symbol that one of its shared libraries asks for goes before libc's.
#define _GNU_SOURCE
#include "interpose.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int first_refused = INT_MAX;
static atomic_ulong refused;

void cinterpose_set_first_refused(int descriptor) { atomic_store(&first_refused, descriptor); }

unsigned long cinterpose_refused(void) { return atomic_load(&refused); }

static bool is_in_grpc(void *code) {
    Dl_info info;
    return dladdr(code, &info) != 0 && info.dli_fname != NULL && strstr(info.dli_fname, "/libgrpc.so") != NULL;
}

// Whether another connection may be had although this one could not: accept(2), "Error handling", and no descriptor or
// memory for the moment. What is left is a fault of the program's.
static bool passes(int error) {
    switch (error) {
    case EMFILE: case ENFILE: case ENOBUFS: case ENOMEM: case EPERM: case EPROTO: case ENOPROTOOPT: case EOPNOTSUPP:
    case ENETDOWN: case ENETUNREACH: case EHOSTDOWN: case EHOSTUNREACH: case ENONET:
        return true;
    default:
        return false;
    }
}

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags) {
    socklen_t room = length != NULL ? *length : 0;
    bool is_bounded = is_in_grpc(__builtin_return_address(0));
    while (true) {
        if (length != NULL) *length = room;
        int descriptor = (int)syscall(SYS_accept4, listener, address, length, flags);
        if (!is_bounded) return descriptor;
        if (descriptor < 0) {
            // The core waits for the next connection then, and asks for those before it too.
            if (passes(errno)) errno = EAGAIN;
            return descriptor;
        }
        if (descriptor < atomic_load(&first_refused)) return descriptor;
        close(descriptor);
        atomic_fetch_add(&refused, 1);
    }
}
