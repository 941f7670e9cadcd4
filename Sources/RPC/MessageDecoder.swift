import CGRPC
import CMessages

/// Turns received bytes into a message that lives for one closure.
/// Unchecked: the descriptor is a constant of the program.
@safe struct MessageDecoder<M: ProtobufMessage>: @unchecked Sendable {
    private let descriptor: UnsafePointer<ProtobufCMessageDescriptor>
    /// What one message may take in memory: small fields on the wire are structs here.
    private static var memoryLimit: Int { 32 << 20 }

    init() { unsafe descriptor = unsafe M.descriptor }

    func decode<T>(
        _ bytes: UnsafeBufferPointer<UInt8>, _ body: (UnsafePointer<M>) throws(RPCStatus) -> T
    ) throws(RPCStatus) -> T {
        unsafe try WireText.check(bytes, descriptor)
        let arena = MessageArena(limit: Self.memoryLimit)
        var allocator = unsafe arena.allocator
        guard let message = unsafe protobuf_c_message_unpack(descriptor, &allocator, bytes.count, bytes.baseAddress)
        else {
            if arena.isExhausted { throw .badMessage("the message needs too much memory", .resourceExhausted) }
            throw unsafe .badMessage("not a \(String(cString: descriptor.pointee.name)) message")
        }
        return unsafe try body(UnsafeRawPointer(message).assumingMemoryBound(to: M.self))
    }

    func decode<T>(
        _ message: ReceivedMessage, _ body: (UnsafePointer<M>) throws(RPCStatus) -> T
    ) throws(RPCStatus) -> T {
        unsafe try message.withBytes { (bytes) throws(RPCStatus) -> T in unsafe try decode(bytes, body) }
    }
}

/// Bytes that the core received.
/// Unchecked: nobody changes the buffer between its making and its end.
@safe final class ReceivedMessage: @unchecked Sendable {
    private let buffer: UnsafeMutablePointer<grpc_byte_buffer>

    /// Takes the buffer over.
    init(_ buffer: UnsafeMutablePointer<grpc_byte_buffer>) {
        unsafe self.buffer = unsafe buffer
        #if THREAD_SANITIZED
            unsafe Handover.give(Unmanaged.passUnretained(self).toOpaque())
        #endif
    }

    deinit { unsafe grpc_byte_buffer_destroy(buffer) }

    /// In place where the message came in one slice.
    func withBytes<T>(_ body: (UnsafeBufferPointer<UInt8>) throws(RPCStatus) -> T) throws(RPCStatus) -> T {
        #if THREAD_SANITIZED
            unsafe Handover.take(Unmanaged.passUnretained(self).toOpaque())
        #endif
        guard unsafe buffer.pointee.data.raw.compression == GRPC_COMPRESS_NONE else {
            throw RPCStatus(.unimplemented, "compressed messages are not read here")
        }
        if unsafe buffer.pointee.data.raw.slice_buffer.count == 1,
            let slice = unsafe buffer.pointee.data.raw.slice_buffer.slices
        {
            return unsafe try body(UnsafeBufferPointer(start: cgrpc_slice_ptr(slice), count: cgrpc_slice_len(slice)))
        }
        var reader = unsafe grpc_byte_buffer_reader()
        guard unsafe grpc_byte_buffer_reader_init(&reader, buffer) != 0 else {
            throw RPCStatus(.internalError, "the message could not be read")
        }
        defer { unsafe grpc_byte_buffer_reader_destroy(&reader) }
        let slice = unsafe OwnedSlice(grpc_byte_buffer_reader_readall(&reader))
        return unsafe try slice.withBytes(body)
    }
}

/// One slice, given back at the end. On the heap, for the bytes of a short slice lie within it.
@safe final class OwnedSlice {
    let pointer = UnsafeMutablePointer<grpc_slice>.allocate(capacity: 1)

    /// Takes the slice over.
    init(_ slice: grpc_slice) { unsafe pointer.initialize(to: slice) }

    convenience init(_ text: String) {
        var text = text
        unsafe self.init(text.withUTF8 { unsafe grpc_slice_from_copied_buffer($0.baseAddress, $0.count) })
    }

    deinit {
        unsafe grpc_slice_unref(pointer.pointee)
        unsafe pointer.deallocate()
    }

    func withBytes<T, E>(_ body: (UnsafeBufferPointer<UInt8>) throws(E) -> T) throws(E) -> T {
        unsafe try body(UnsafeBufferPointer(start: cgrpc_slice_ptr(pointer), count: cgrpc_slice_len(pointer)))
    }
}
