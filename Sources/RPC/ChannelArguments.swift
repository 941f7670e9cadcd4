import CGRPC
import Glibc

/// Options of a server or channel in the core's form, for the time of one closure.
enum ChannelArguments {
    enum Value {
        case number(CInt)
        case text(String)
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
