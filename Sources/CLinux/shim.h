#ifndef HOLDFAST_CLINUX_SHIM_H
#define HOLDFAST_CLINUX_SHIM_H

// The kernel's interface as Syscalls and the plugin use it: Glibc's headers, and what they leave out without _GNU_SOURCE.

#if __has_include(<SwiftGlibc.h>)
// The headers of Swift's module Glibc: whoever imports both has one of each.
#include <SwiftGlibc.h>
#else
// The plugin is Embedded Swift upon musl.
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#endif
#include <sys/eventfd.h>

/// socket(2) of unix(7), and accept(2); no child inherits either descriptor. The kinds are of another type in each libc.
static inline int unix_stream_socket(void) { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }
static inline int accept_unix_stream(int listener) {
    extern int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags);
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

/// socket(2) of netlink(7) for netfilter, whose answers are there at once or not at all; not inherited. The numbers are the
/// kernel's NETLINK_NETFILTER.
static inline int netfilter_socket(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 12); }

/// pipe2(2): pipe(2) with both descriptors' flags.
extern int pipe2(int ends[2], int flags);

/// open(2) of what is there: Swift calls no variadic function.
static inline int open_existing(const char *path, int flags) { return open(path, flags); }

/// signal(2) with SIG_IGN, a macro that Swift cannot read.
static inline void ignore_signal(int number) { signal(number, SIG_IGN); }

/// signal(2) with SIG_DFL.
static inline void restore_signal(int number) { signal(number, SIG_DFL); }

/// posix_spawn(3) of a program that has SIGPIPE back where this one ignores it. (As C, because what the attributes are made of
/// is unsafe for Swift in one libc and safe in the other.)
static inline int spawn_with_sigpipe(
    pid_t *process, const char *path, const posix_spawn_file_actions_t *actions, char *const *arguments,
    char *const *variables
) {
    posix_spawnattr_t attributes;
    sigset_t restored;
    posix_spawnattr_init(&attributes);
    sigemptyset(&restored);
    sigaddset(&restored, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &restored);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    int result = posix_spawn(process, path, actions, &attributes, arguments, variables);
    posix_spawnattr_destroy(&attributes);
    return result;
}

/// Entry `index` of environ(7), which is a variable that Swift does not let be read; NULL at the end.
static inline const char *environment_variable(int index) {
    extern char **environ;
    return environ[index];
}

/// flockfile(3) of stderr, which is a variable that Swift does not let be read.
static inline void lock_standard_error(void) { flockfile(stderr); }
static inline void unlock_standard_error(void) { funlockfile(stderr); }

/// setns(2): moves the calling thread into a namespace.
extern int setns(int descriptor, int kind);

/// The kind "network namespace" (linux/sched.h).
static const int CLONE_NEWNET = 0x40000000;

#endif
