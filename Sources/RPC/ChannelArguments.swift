import CGRPC
import Glibc

/// Options of a server or channel in the core's form, for the time of one closure.
enum ChannelArguments {
    /// No message is compressed, and none is expanded: the limit of a message's size holds for the compressed bytes, so
    /// that a small one could become a huge one.
    static let withoutCompression: [(key: String, value: Value)] = [
        // 1: identity alone. A call that says it compresses ends with UNIMPLEMENTED.
        (GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, .number(1)),
        (GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, .number(0)),
        (GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, .number(0)),
    ]

    enum Value: Sendable {
        case number(CInt)
        case text(String)
        case quota(ResourceQuota)
    }

    static func with<T>(
        _ options: [(key: String, value: Value)], _ body: (UnsafePointer<grpc_channel_args>) -> T
    ) -> T {
        unsafe withUnsafeTemporaryAllocation(of: grpc_arg.self, capacity: options.count) { arguments in
            unsafe arguments.initialize(repeating: grpc_arg())
            for (index, option) in options.enumerated() {
                unsafe arguments[index].key = unsafe strdup(option.key)
                switch option.value {
                case .number(let number):
                    unsafe arguments[index].type = GRPC_ARG_INTEGER
                    unsafe arguments[index].value.integer = number
                case .text(let text):
                    unsafe arguments[index].type = GRPC_ARG_STRING
                    unsafe arguments[index].value.string = unsafe strdup(text)
                case .quota(let quota):
                    unsafe arguments[index].type = GRPC_ARG_POINTER
                    unsafe arguments[index].value.pointer.p = unsafe UnsafeMutableRawPointer(quota.raw)
                    unsafe arguments[index].value.pointer.vtable = unsafe grpc_resource_quota_arg_vtable()
                }
            }
            defer {
                for index in arguments.indices {
                    if unsafe arguments[index].type == GRPC_ARG_STRING { unsafe free(arguments[index].value.string) }
                    unsafe free(arguments[index].key)
                }
            }
            var list = unsafe grpc_channel_args(num_args: options.count, args: arguments.baseAddress)
            return unsafe body(&list)
        }
    }
}

/// What connections and their messages may take in memory. Who is made with it as an argument takes a share in it.
@safe final class ResourceQuota: Sendable {
    // nonisolated(unsafe): the core synchronises it itself, and the pointer never changes.
    nonisolated(unsafe) fileprivate let raw: OpaquePointer

    /// Nil where the core makes none.
    init?(name: String, bytes: Int) {
        guard let raw = unsafe grpc_resource_quota_create(name) else { return nil }
        unsafe self.raw = unsafe raw
        unsafe grpc_resource_quota_resize(raw, bytes)
    }

    deinit { unsafe grpc_resource_quota_unref(raw) }
}
