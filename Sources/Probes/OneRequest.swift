import Hummingbird
import NIOCore
import NIOHTTPTypes

/// Answers one request of a connection, and closes it.
///
/// What a client sends beyond that is not read: else one connection could ask for more than all others together. Used on
/// its channel's event loop only.
final class OneRequest: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private var hasRequest = false

    func handlerAdded(context: ChannelHandlerContext) {
        // What came with the request is parsed before this handler sees any of it: let that be little.
        try? context.channel.syncOptions?.setOption(.maxMessagesPerRead, value: 1)
        try? context.channel.syncOptions?.setOption(
            .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 2048))
    }

    func read(context: ChannelHandlerContext) {
        if !hasRequest { context.read() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // Others came in the same packet.
        guard !hasRequest else { return }
        if case .end = unwrapInboundIn(data) { hasRequest = true }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(var head):
            head.headerFields[.connection] = "close"
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body: context.write(data, promise: promise)
        case .end:
            let isWritten = promise ?? context.eventLoop.makePromise()
            isWritten.futureResult.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
            context.write(data, promise: isWritten)
        }
    }
}
