package import CMessages
import Glibc

/// Memory for one message: handed out by moving a cursor, given back all at once when the arena ends.
///
/// Whatever it hands out must not be used after it has ended. Lives on one thread.
@safe package struct MessageArena: ~Copyable {
    private static let chunkSize = 4096

    /// Lies at the front of the first chunk, so that methods may be called on a borrowed arena and protobuf-c can find it.
    @unsafe struct Header {
        var cursor: UnsafeMutableRawPointer
        var end: UnsafeMutableRawPointer
        /// The newest further chunk; the first word of each is the one before it.
        var chunks: UnsafeMutableRawPointer?
        /// Bytes that may still be handed out.
        var remaining: Int
    }

    let header: UnsafeMutablePointer<Header>

    /// `limit` is only kept by protobuf-c's allocations, for messages that come from outside.
    init(limit: Int = .max) {
        let chunk = unsafe Self.newChunk(Self.chunkSize)
        unsafe header = unsafe chunk.bindMemory(to: Header.self, capacity: 1)
        unsafe header.initialize(
            to: Header(
                cursor: chunk + 64, end: chunk + Self.chunkSize, chunks: nil, remaining: limit))
    }

    deinit {
        var chunk = unsafe header.pointee.chunks
        while let current = unsafe chunk {
            unsafe chunk = unsafe current.load(as: UnsafeMutableRawPointer?.self)
            unsafe free(current)
        }
        unsafe free(header)
    }

    private static func newChunk(_ size: Int) -> UnsafeMutableRawPointer {
        guard let chunk = unsafe malloc(size) else { preconditionFailure("out of memory") }
        return unsafe chunk
    }

    fileprivate static func allocate(_ size: Int, from header: UnsafeMutablePointer<Header>) -> UnsafeMutableRawPointer
    {
        let rounded = (size + 15) & ~15
        if unsafe header.pointee.end - header.pointee.cursor < rounded {
            let chunkSize = max(Self.chunkSize * 4, rounded + 16)
            let chunk = unsafe newChunk(chunkSize)
            unsafe chunk.storeBytes(of: header.pointee.chunks, as: UnsafeMutableRawPointer?.self)
            unsafe header.pointee.chunks = unsafe chunk
            unsafe header.pointee.cursor = unsafe chunk + 16
            unsafe header.pointee.end = unsafe chunk + chunkSize
        }
        defer { unsafe header.pointee.cursor += rounded }
        return unsafe header.pointee.cursor
    }

    /// An empty message.
    package func make<M: ProtobufMessage>(_ type: M.Type) -> UnsafeMutablePointer<M> {
        let message = unsafe Self.allocate(MemoryLayout<M>.stride, from: header).bindMemory(to: M.self, capacity: 1)
        unsafe M.initialize(message)
        return unsafe message
    }

    /// A copy that ends with NUL.
    package func string(_ text: String) -> UnsafeMutablePointer<CChar> {
        var text = text
        return text.withUTF8 { utf8 in
            let copy = unsafe Self.allocate(utf8.count + 1, from: header).bindMemory(
                to: CChar.self, capacity: utf8.count + 1)
            if let base = utf8.baseAddress { unsafe memcpy(copy, base, utf8.count) }
            unsafe copy[utf8.count] = 0
            return unsafe copy
        }
    }

    /// What `write` appends, at most `limit` bytes of UTF-8 without NUL, and NUL at its end.
    package func string(
        atMost limit: Int, _ write: (inout OutputSpan<UInt8>) -> Void
    ) -> UnsafeMutablePointer<CChar> {
        let memory = unsafe Self.allocate(limit + 1, from: header)
        let buffer = unsafe UnsafeMutableBufferPointer(
            start: memory.bindMemory(to: UInt8.self, capacity: limit + 1), count: limit + 1)
        var text = unsafe OutputSpan(buffer: buffer, initializedCount: 0)
        write(&text)
        text.append(0)
        _ = unsafe text.finalize(for: buffer)
        return unsafe memory.bindMemory(to: CChar.self, capacity: limit + 1)
    }

    /// A copy for a `bytes` field.
    package func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
        let copy = unsafe Self.allocate(bytes.count, from: header).bindMemory(to: UInt8.self, capacity: bytes.count)
        unsafe bytes.withUnsafeBufferPointer { source in
            if let base = source.baseAddress { unsafe copy.initialize(from: base, count: source.count) }
        }
        return unsafe ProtobufCBinaryData(len: bytes.count, data: copy)
    }

    /// A repeated field of numbers or `bytes`.
    package func values<E: BitwiseCopyable>(_ values: [E]) -> UnsafeMutablePointer<E> {
        let copy = unsafe Self.allocate(values.count * MemoryLayout<E>.stride, from: header)
            .bindMemory(to: E.self, capacity: values.count)
        for (index, value) in values.enumerated() { unsafe (copy + index).initialize(to: value) }
        return unsafe copy
    }

    /// The pointers of a repeated field of messages or strings.
    package func array<E>(
        _ count: Int, _ element: (Int) -> UnsafeMutablePointer<E>
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<E>?> {
        let stride = unsafe MemoryLayout<UnsafeMutableRawPointer>.stride
        let array = unsafe Self.allocate(count * stride, from: header)
        // As raw pointers, which lie there alike: of those to E the run-time would have to make the type, for each array.
        for index in 0..<count {
            let element = unsafe UnsafeMutableRawPointer(element(index))
            unsafe array.storeBytes(of: element, toByteOffset: index * stride, as: UnsafeMutableRawPointer.self)
        }
        return unsafe array.assumingMemoryBound(to: UnsafeMutablePointer<E>?.self)
    }

    /// protobuf-c's way to this arena, valid as long as the arena.
    var allocator: ProtobufCAllocator {
        unsafe ProtobufCAllocator(
            alloc: { data, size in
                guard let header = unsafe data?.assumingMemoryBound(to: Header.self) else { return nil }
                unsafe header.pointee.remaining -= size
                return unsafe header.pointee.remaining < 0 ? nil : MessageArena.allocate(size, from: header)
            },
            free: { _, _ in },
            allocator_data: unsafe header)
    }

    /// Whether a message from outside was refused memory.
    var isExhausted: Bool { unsafe header.pointee.remaining < 0 }
}
