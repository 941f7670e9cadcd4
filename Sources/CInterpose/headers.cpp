// Three functions of libgrpc's own in the place of those inside, so that there is an end to the headers of a call.
//
// libgrpc 1.51 counts the headers of each frame by itself (src/core/ext/transport/chttp2/transport/hpack_parser.cc,
// BeginFrame), so that CONTINUATIONs may add to them for ever. A field that is not whole yet is kept and not counted, and may
// say that it has 4 GiB; each piece that comes is a reason to copy all before it (CVE-2023-33953). And the limit is the one
// that the peer has acknowledged: 16 MiB for one that acknowledges none. All that before anybody knows whose call it is.
//
// So here the bytes and frames of each block of headers are counted, and a connection ends that sends too many, whichever
// side of it is ours. Later versions have limits of their own, and then nobody calls these. Tests/outside/test_attack.py has
// such clients.
//
// C++ because what Parse returns, an absl::Status, goes to where the caller says, as C's values do not.
#include "interpose.h"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <grpc/slice.h>

// grpc_core::HPackParser's destructor, its BeginFrame, for each frame of headers, and its Parse, for each piece of one.
#define DESTRUCTOR "_ZN9grpc_core11HPackParserD1Ev"
#define BEGIN_FRAME                                                                                                          \
    "_ZN9grpc_core11HPackParser10BeginFrameEP19grpc_metadata_batchjNS0_8BoundaryENS0_8PriorityENS0_7LogInfoE"
#define PARSE "_ZN9grpc_core11HPackParser5ParseERK10grpc_sliceb"
// absl::Status grpc_os_error(const grpc_core::DebugLocation &, int, const char *)
#define OS_ERROR "_Z13grpc_os_errorRKN9grpc_core13DebugLocationEiPKc"

// The 8 KiB that both ends accept may be a third more on their way, in base 64.
static constexpr std::size_t most_bytes = 32 << 10;
// In each frame a few bytes may stand for as much as its limit allows.
static constexpr unsigned most_frames = 4;

static std::atomic<std::uint32_t> most_headers{UINT32_MAX};

// absl::Status, as far as whoever hands it on must know it.
struct Status {
    std::uintptr_t representation;
    ~Status();
};

// grpc_core::HPackParser's
enum class Boundary : std::uint8_t { None, EndOfHeaders, EndOfStream };
struct LogInfo {
    std::uint32_t stream;
    enum Type : std::uint8_t { Headers, Trailers, DontKnow } type;
    bool is_client;
};

// What one thread at a time uses, as libgrpc sees to, which the thread sanitizer does not see.
template <typename Value> class Own {
    std::atomic<Value> value;

  public:
    operator Value() const { return value.load(std::memory_order_relaxed); }
    void operator=(Value next) { value.store(next, std::memory_order_relaxed); }
};

// The block of headers that a parser is at. What other threads than the parser's find here of it is its address.
struct Block {
    std::atomic<void *> parser;
    Block *next;
    Own<std::size_t> bytes;
    Own<unsigned> frames;
    Own<bool> is_last_frame;

    void begin_anew() {
        bytes = 0;
        frames = 0;
        is_last_frame = false;
    }
};

// By the parser's hash. Once it is in a list, a block stays, for other parsers when its own has gone: so nobody who goes
// through a list must wait for anybody.
static std::atomic<Block *> lists[1 << 12];

static std::atomic<Block *> &list_of(void *parser) {
    return lists[static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(parser)) * 0x9e3779b97f4a7c15 >> 52];
}

static Block *find(void *parser) {
    Block *block = list_of(parser);
    while (block != nullptr && block->parser != parser) block = block->next;
    return block;
}

static Block *find_or_add(void *parser) {
    if (Block *block = find(parser)) return block;
    std::atomic<Block *> &list = list_of(parser);
    for (Block *block = list; block != nullptr; block = block->next) {
        void *nobody = nullptr;
        if (block->parser.compare_exchange_strong(nobody, parser)) return block;
    }
    void *memory = std::calloc(1, sizeof(Block));
    if (memory == nullptr) std::abort();
    Block *block = static_cast<Block *>(memory);
    block->parser = parser;
    block->next = list;
    while (!list.compare_exchange_weak(block->next, block)) {}
    return block;
}

template <typename Function> static Function inside(std::atomic<void *> &known, const char *name) {
    if (known == nullptr) known = dlsym(RTLD_NEXT, name);
    return reinterpret_cast<Function>(known.load());
}

void cinterpose_set_most_headers(std::uint32_t bytes) { most_headers = bytes; }

Status cinterpose_os_error(const void *location, int error, const char *call) __asm__(OS_ERROR);

void cinterpose_destroy_parser(void *parser) __asm__(DESTRUCTOR);

void cinterpose_destroy_parser(void *parser) {
    static std::atomic<void *> known;
    if (Block *block = find(parser)) {
        block->begin_anew();
        block->parser = nullptr;
    }
    inside<void (*)(void *)>(known, DESTRUCTOR)(parser);
}

void cinterpose_begin_frame(
    void *parser, void *metadata, std::uint32_t limit, Boundary boundary, std::uint8_t priority, LogInfo info
) __asm__(BEGIN_FRAME);

void cinterpose_begin_frame(
    void *parser, void *metadata, std::uint32_t limit, Boundary boundary, std::uint8_t priority, LogInfo info
) {
    static std::atomic<void *> known;
    Block *block = find_or_add(parser);
    if (block->is_last_frame) block->begin_anew();
    // Of a frame that is skipped, libgrpc says the opposite (parsing.cc, init_header_skip_frame_parser), and so keeps a field
    // that is not whole at its block's end, for the next block to go on with.
    if (info.type == LogInfo::DontKnow) {
        boundary = boundary == Boundary::None ? Boundary::EndOfHeaders : Boundary::None;
    }
    block->is_last_frame = boundary != Boundary::None;
    block->frames = block->frames + 1;
    std::uint32_t most = most_headers;
    if (!info.is_client && limit > most) limit = most;
    inside<void (*)(void *, void *, std::uint32_t, Boundary, std::uint8_t, LogInfo)>(known, BEGIN_FRAME)(
        parser, metadata, limit, boundary, priority, info);
}

Status cinterpose_parse(void *parser, const grpc_slice *slice, bool is_last) __asm__(PARSE);

Status cinterpose_parse(void *parser, const grpc_slice *slice, bool is_last) {
    static std::atomic<void *> known;
    Block *block = find_or_add(parser);
    block->bytes = block->bytes + GRPC_SLICE_LENGTH(*slice);
    if (block->bytes > most_bytes || block->frames > most_frames) {
        // Room for a grpc_core::DebugLocation, which says nothing.
        static const void *const nowhere[2] = {};
        return cinterpose_os_error(nowhere, EMSGSIZE, "headers");
    }
    return inside<Status (*)(void *, const grpc_slice *, bool)>(known, PARSE)(parser, slice, is_last);
}
