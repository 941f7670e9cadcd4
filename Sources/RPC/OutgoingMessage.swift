import CGRPC
import CMessages

/// A message on its way out, in bytes that the core may send.
/// Unchecked: made whole in init, and given to one batch of the core, which alone touches it then.
@safe final class OutgoingMessage: @unchecked Sendable {
    let buffer: UnsafeMutablePointer<grpc_byte_buffer>

    /// Encodes in an arena that ends here.
    init<M: ProtobufMessage>(_ encode: (borrowing MessageArena) -> UnsafeMutablePointer<M>) {
        let arena = MessageArena()
        let message = unsafe UnsafeRawPointer(encode(arena)).assumingMemoryBound(to: ProtobufCMessage.self)
        // The bytes of a short slice lie within the slice: it must stay where it is while it is written.
        var slice = unsafe grpc_slice_malloc(protobuf_c_message_get_packed_size(message))
        unsafe buffer = unsafe withUnsafeMutablePointer(to: &slice) { slice in
            _ = unsafe protobuf_c_message_pack(message, cgrpc_slice_ptr(slice))
            return unsafe grpc_raw_byte_buffer_create(slice, 1)
        }
        unsafe grpc_slice_unref(slice)
    }

    deinit { unsafe grpc_byte_buffer_destroy(buffer) }

    static func bytes<M: ProtobufMessage>(of message: UnsafeMutablePointer<M>) -> [UInt8] {
        let message = unsafe UnsafeRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self)
        return unsafe [UInt8](unsafeUninitializedCapacity: protobuf_c_message_get_packed_size(message)) {
            buffer, count in
            guard let base = buffer.baseAddress else { return }
            count = unsafe protobuf_c_message_pack(message, base)
        }
    }
}
