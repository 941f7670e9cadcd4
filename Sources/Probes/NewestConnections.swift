package import NIOCore
import NIOPosix
import Synchronization

/// Bounds the connections of a server that answers probes: where there are too many, the oldest is closed for the newest.
///
/// So whoever opens them by the thousand, or says a byte a minute on each, costs little memory and does not keep the
/// kubelet out, as a server would that stops to accept.
package final class NewestConnections: Sendable {
    private struct State {
        var channels: [UInt64: any Channel] = [:]
        var next: UInt64 = 0
        /// None older than this is open.
        var oldest: UInt64 = 0
    }

    /// The loop that the server is to accept and read its connections on: with several, one that lags would tell of
    /// connections late, and a probe would be taken for older than they are.
    package let eventLoop: any EventLoop = MultiThreadedEventLoopGroup.singleton.any()

    private let most: Int
    private let state = Mutex(State())

    package init(most: Int = 256) { self.most = most }

    /// For the pipeline of one connection.
    package func handler() -> any RemovableChannelHandler { Handler(self) }

    fileprivate func add(_ channel: any Channel) -> UInt64 {
        let (number, surplus) = state.withLock { state in
            state.channels[state.next] = channel
            state.next += 1
            var surplus: (any Channel)?
            while surplus == nil, state.channels.count > most {
                surplus = state.channels.removeValue(forKey: state.oldest)
                state.oldest += 1
            }
            return (state.next - 1, surplus)
        }
        surplus?.close(promise: nil)
        return number
    }

    fileprivate func remove(_ number: UInt64) {
        _ = state.withLock { $0.channels.removeValue(forKey: number) }
    }
}

// Used on its channel's event loop only.
private final class Handler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = Any

    private let connections: NewestConnections
    private var number: UInt64?

    init(_ connections: NewestConnections) { self.connections = connections }

    func handlerAdded(context: ChannelHandlerContext) { number = connections.add(context.channel) }

    func handlerRemoved(context: ChannelHandlerContext) {
        if let number { connections.remove(number) }
    }
}
