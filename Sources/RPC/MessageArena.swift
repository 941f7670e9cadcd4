package import CMessages
import Glibc

/// Memory for one message: handed out by moving a cursor, given back all at once when the arena ends.
///
/// Whatever it hands out must not be used after it has ended. Lives on one thread.
package struct MessageArena: ~Copyable {
    private static let chunkSize = 4096

    /// Lies at the front of the first chunk, so that methods may be called on a borrowed arena and protobuf-c can find it.
    struct Header {
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
        let chunk = Self.newChunk(Self.chunkSize)
        header = chunk.bindMemory(to: Header.self, capacity: 1)
        header.initialize(
            to: Header(
                cursor: chunk + 64, end: chunk + Self.chunkSize, chunks: nil, remaining: limit))
    }

    deinit {
        var chunk = header.pointee.chunks
        while let current = chunk {
            chunk = current.load(as: UnsafeMutableRawPointer?.self)
            free(current)
        }
        free(header)
    }

    private static func newChunk(_ size: Int) -> UnsafeMutableRawPointer {
        guard let chunk = malloc(size) else { preconditionFailure("out of memory") }
        return chunk
    }

    fileprivate static func allocate(_ size: Int, from header: UnsafeMutablePointer<Header>) -> UnsafeMutableRawPointer
    {
        let rounded = (size + 15) & ~15
        if header.pointee.end - header.pointee.cursor < rounded {
            let chunkSize = max(Self.chunkSize * 4, rounded + 16)
            let chunk = newChunk(chunkSize)
            chunk.storeBytes(of: header.pointee.chunks, as: UnsafeMutableRawPointer?.self)
            header.pointee.chunks = chunk
            header.pointee.cursor = chunk + 16
            header.pointee.end = chunk + chunkSize
        }
        defer { header.pointee.cursor += rounded }
        return header.pointee.cursor
    }

    /// An empty message.
    package func make<M: ProtobufMessage>(_ type: M.Type) -> UnsafeMutablePointer<M> {
        let message = Self.allocate(MemoryLayout<M>.stride, from: header).bindMemory(to: M.self, capacity: 1)
        M.initialize(message)
        return message
    }

    /// A copy that ends with NUL.
    package func string(_ text: String) -> UnsafeMutablePointer<CChar> {
        var text = text
        return text.withUTF8 { utf8 in
            let copy = Self.allocate(utf8.count + 1, from: header).bindMemory(to: CChar.self, capacity: utf8.count + 1)
            if let base = utf8.baseAddress { memcpy(copy, base, utf8.count) }
            copy[utf8.count] = 0
            return copy
        }
    }

    /// A copy for a `bytes` field.
    package func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
        let copy = Self.allocate(bytes.count, from: header).bindMemory(to: UInt8.self, capacity: bytes.count)
        bytes.withUnsafeBufferPointer { source in
            if let base = source.baseAddress { copy.initialize(from: base, count: source.count) }
        }
        return ProtobufCBinaryData(len: bytes.count, data: copy)
    }

    /// The pointers of a repeated field of messages or strings.
    package func array<E>(
        _ count: Int, _ element: (Int) -> UnsafeMutablePointer<E>
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<E>?> {
        let size = count * MemoryLayout<UnsafeMutablePointer<E>?>.stride
        let array = Self.allocate(size, from: header).bindMemory(to: UnsafeMutablePointer<E>?.self, capacity: count)
        for index in 0..<count { (array + index).initialize(to: element(index)) }
        return array
    }

    /// protobuf-c's way to this arena, valid as long as the arena.
    var allocator: ProtobufCAllocator {
        ProtobufCAllocator(
            alloc: { data, size in
                guard let header = data?.assumingMemoryBound(to: Header.self) else { return nil }
                header.pointee.remaining -= size
                return header.pointee.remaining < 0 ? nil : MessageArena.allocate(size, from: header)
            },
            free: { _, _ in },
            allocator_data: header)
    }

    /// Whether a message from outside was refused memory.
    var isExhausted: Bool { header.pointee.remaining < 0 }
}
