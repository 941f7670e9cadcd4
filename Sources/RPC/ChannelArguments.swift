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
        withUnsafeTemporaryAllocation(of: grpc_arg.self, capacity: options.count) { arguments in
            arguments.initialize(repeating: grpc_arg())
            for (index, option) in options.enumerated() {
                arguments[index].key = strdup(option.key)
                switch option.value {
                case .number(let number):
                    arguments[index].type = GRPC_ARG_INTEGER
                    arguments[index].value.integer = number
                case .text(let text):
                    arguments[index].type = GRPC_ARG_STRING
                    arguments[index].value.string = strdup(text)
                }
            }
            defer {
                for argument in arguments {
                    if argument.type == GRPC_ARG_STRING { free(argument.value.string) }
                    free(argument.key)
                }
            }
            var list = grpc_channel_args(num_args: options.count, args: arguments.baseAddress)
            return body(&list)
        }
    }
}
