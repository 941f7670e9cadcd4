// A sendmsg of our own in the place of libc's, for the replies that a thread gives one after the other.
//
// libgrpc writes each of them by a call of sendmsg, and sockets have TCP_NODELAY: each becomes a packet, which is received,
// acknowledged and read by itself. On the loopback interface half of what a reply costs is that. So between
// cinterpose_begin_replies and cinterpose_end_replies the kernel is told that more follows (MSG_MORE), and puts replies to one
// client into one packet. It holds them until a packet is full, something else is sent or comes in on that connection, or 200 ms
// have passed; whatever it still holds at the end goes out then.
//
// Between the two a thread does nothing but reply: all that it sends then comes out of libgrpc.
#define _GNU_SOURCE
#include "interpose.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// To more clients than that, replies leave one by one.
#define MOST_CLIENTS 16
// The first replies to each leave at once: who waits for few gets them no later, and at no cost.
#define AT_ONCE 2
// Then each that would make so many sends them all: the client has work while others are made.
#define MOST_HELD 8

static _Thread_local struct {
    bool is_open;
    size_t clients;
    struct {
        int socket;
        unsigned at_once;
        unsigned held;
    } client[MOST_CLIENTS];
} replies;

bool cinterpose_begin_replies(void) {
    if (replies.is_open) return false;
    replies.clients = 0;
    return replies.is_open = true;
}

void cinterpose_end_replies(void) {
    if (!replies.is_open) return;
    replies.is_open = false;
    for (size_t i = 0; i < replies.clients; i++) {
        // Set anew, the option sends what is held (tcp_sock_set_nodelay in Linux' net/ipv4/tcp.c). A descriptor that has been
        // closed meanwhile and is another's now is one that has no such option, or has it set.
        if (replies.client[i].held > 0) {
            setsockopt(replies.client[i].socket, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        }
    }
}

// Whether it is to wait for more.
static bool is_to_be_held(int socket) {
    size_t i = 0;
    while (i < replies.clients && replies.client[i].socket != socket) i++;
    if (i == MOST_CLIENTS) return false;
    if (i == replies.clients) {
        replies.client[i].socket = socket;
        replies.client[i].at_once = replies.client[i].held = 0;
        replies.clients++;
    }
    if (replies.client[i].at_once < AT_ONCE) {
        replies.client[i].at_once++;
        return false;
    }
    replies.client[i].held = (replies.client[i].held + 1) % MOST_HELD;
    return replies.client[i].held > 0;
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags) {
    if (replies.is_open && is_to_be_held(socket)) flags |= MSG_MORE;
    return syscall(SYS_sendmsg, socket, message, flags);
}
