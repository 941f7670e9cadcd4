import Foundation
import NIOCore
import NIOHTTP1
import Synchronization

/// What is written to a connection from anywhere.
enum ResponsePart: Sendable {
    case head(HTTPResponseHead)
    case body(Data)
    case end
}

/// The time that a watch was asked for is over.
struct WatchTimeout { var id: Int }

/// Collects a request and hands it to the cluster; turns what comes back into HTTP.
final class RequestHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = ResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let cluster: TestCluster
    private var head: HTTPRequestHead?
    private var body = ByteBuffer()
    private var bodyDelay = TimeAmount.zero

    init(_ cluster: TestCluster) { self.cluster = cluster }

    func channelActive(context: ChannelHandlerContext) {
        let channel = context.channel
        let isStopped = cluster.state.withLock { state in
            if !state.isStopped { state.connections[ObjectIdentifier(channel)] = channel }
            return state.isStopped
        }
        if isStopped { return context.close(promise: nil) }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        let (id, cluster) = (ObjectIdentifier(context.channel), cluster)
        // Later: a write under the cluster's lock may be what finds the connection closed.
        context.eventLoop.execute {
            cluster.state.withLock { state in
                state.connections[id] = nil
                state.watches = state.watches.filter { ObjectIdentifier($0.value.channel) != id }
            }
        }
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): (self.head, body) = (head, ByteBuffer())
        case .body(var part): body.writeBuffer(&part)
        case .end:
            guard let head else { return }
            let (cluster, channel, body) = (cluster, context.channel, Data(body.readableBytesView))
            let (delay, bodyDelay) = cluster.state.withLock { ($0.delay, $0.bodyDelay) }
            self.bodyDelay = .nanoseconds(Int64(bodyDelay / .nanoseconds(1)))
            context.eventLoop.scheduleTask(in: .nanoseconds(Int64(delay / .nanoseconds(1)))) {
                cluster.answer(head, body, on: channel)
            }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let time = event as? WatchTimeout else { return context.fireUserInboundEventTriggered(event) }
        // As a real server: a bookmark comes last.
        cluster.state.withLock { state in
            guard let watch = state.watches.removeValue(forKey: time.id) else { return }
            watch.bookmark(state.resourceVersion)
            watch.end(inMidLine: false)
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let part = unwrapOutboundIn(data)
        guard bodyDelay > .zero else { return write(part, promise, context) }
        if case .head = part {
            write(part, promise, context)
            return context.flush()
        }
        context.eventLoop.assumeIsolated().scheduleTask(in: bodyDelay) { [self] in
            write(part, promise, context)
            context.flush()
        }
    }

    private func write(_ part: ResponsePart, _ promise: EventLoopPromise<Void>?, _ context: ChannelHandlerContext) {
        switch part {
        case .head(let head): context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body(let data):
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: data)))), promise: promise)
        case .end: context.write(wrapOutboundOut(.end(nil)), promise: promise)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
