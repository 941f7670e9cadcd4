// Two functions of libgrpc's own in the place of those inside, so that a connection has limits of streams that hold.
//
// libgrpc 1.51 compares the streams of a connection with the limit that its client has acknowledged
// (src/core/ext/transport/chttp2/transport/parsing.cc, init_header_frame_parser: GRPC_ACKED_SETTINGS). A client that
// acknowledges no SETTINGS has none: it opened 300,000 streams in five seconds, and took 2 GiB. And it does not count
// streams that are reset (CVE-2023-44487), nor those that never become calls: dead calls take memory until it is their turn,
// and the time of the thread that reads them, which polls nothing else while there is more to read.
//
// So here the number of open streams is told as too large once it is, and a stream is not accepted while too many calls of
// its connection have not ended; those who keep the rules have hardly more of these than they may have open. Later
// versions have limits for both, and then nobody calls these. Tests/outside/test_attack.py has such clients.
#define _GNU_SOURCE
#include "interpose.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

// size_t grpc_chttp2_stream_map_size(grpc_chttp2_stream_map *)
#define STREAM_MAP_SIZE "_Z27grpc_chttp2_stream_map_sizeP22grpc_chttp2_stream_map"
// grpc_chttp2_stream *grpc_chttp2_parsing_accept_stream(grpc_chttp2_transport *, uint32_t), where a server reads HEADERS
// that open a stream; those of a stream that is null are skipped.
#define ACCEPT_STREAM "_Z33grpc_chttp2_parsing_accept_streamP21grpc_chttp2_transportj"

static atomic_size_t most_open = SIZE_MAX;
static atomic_size_t most_unended = SIZE_MAX;
static atomic_ulong ended;

void cinterpose_set_most_streams(size_t open, size_t unended) {
    atomic_store(&most_open, open);
    atomic_store(&most_unended, unended);
}

void cinterpose_call_ended(void) { atomic_fetch_add_explicit(&ended, 1, memory_order_relaxed); }

size_t cinterpose_stream_map_size(void *map) __asm__(STREAM_MAP_SIZE);

size_t cinterpose_stream_map_size(void *map) {
    static size_t (*_Atomic inside)(void *);
    if (inside == NULL) inside = (size_t (*)(void *))dlsym(RTLD_NEXT, STREAM_MAP_SIZE);
    size_t count = inside(map);
    // More than any limit: the connection ends with "Max stream count exceeded". Whoever else asks wants to know whether
    // there are any.
    return count < atomic_load_explicit(&most_open, memory_order_relaxed) ? count : SIZE_MAX;
}

// At least how many calls of a connection have not ended: as if all that ended since its last one were its own. One
// thread at a time reads a connection; two whose hashes are the same begin anew in turn, and have no limit.
static struct {
    _Atomic(void *) transport;
    atomic_ulong ended;
    atomic_size_t unended;
    _Atomic time_t began;
} connections[1 << 14];

// A stream that never becomes a call is forgotten with the next of these.
#define WINDOW_SECONDS 10

void *cinterpose_accept_stream(void *transport, uint32_t stream) __asm__(ACCEPT_STREAM);

void *cinterpose_accept_stream(void *transport, uint32_t stream) {
    static void *(*_Atomic inside)(void *, uint32_t);
    if (inside == NULL) inside = (void *(*)(void *, uint32_t))dlsym(RTLD_NEXT, ACCEPT_STREAM);
    __typeof__(&connections[0]) its = &connections[(uint64_t)(uintptr_t)transport * 0x9e3779b97f4a7c15 >> 50];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    // Clients begin with stream 1 or 3: another connection, in the memory of one that has ended.
    if (its->transport != transport || stream <= 3 || now.tv_sec - its->began >= WINDOW_SECONDS) {
        its->transport = transport;
        its->ended = ended;
        its->unended = 0;
        its->began = now.tv_sec;
    }
    unsigned long all = atomic_load(&ended), since = all - its->ended;
    its->ended = all;
    size_t unended = its->unended > since ? its->unended - since : 0;
    if (unended >= atomic_load(&most_unended)) {
        its->unended = unended;
        return NULL;
    }
    its->unended = unended + 1;
    return inside(transport, stream);
}
