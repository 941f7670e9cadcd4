import AsyncHTTPClient
import FoundationEssentials
import NIOCore
import NIOFoundationCompat
import NIOHTTP1

extension KubernetesClient {
    /// An object is at most a few megabytes.
    private static let longestLine = 64 << 20

    /// Follows the selection from `resourceVersion` on; returns when the server ends the watch in good order. Throws `gone`
    /// where the version is too old, `unreachable` where the connection broke or fell silent.
    package func watch<Object: Decodable & Sendable>(
        _ type: Object.Type, _ resource: KubernetesResource, _ selection: Selection = .all,
        from resourceVersion: String, _ receive: (WatchEvent<Object>) async -> Void
    ) async throws(KubernetesError) {
        // Whose watches have begun together, as when the server restarted, are not to begin together for ever.
        let seconds = max(1, (patience.watch * Double.random(in: 1...2)).components.seconds)
        let call = Call(
            "watch", .GET, resource, resource.path(namespace: selection.namespace),
            [
                ("watch", "1"), ("allowWatchBookmarks", "true"), ("resourceVersion", resourceVersion),
                ("timeoutSeconds", "\(seconds)"),
            ] + selection.query)
        let response = try await send(call, through: watches)
        var rest = ByteBuffer()
        var chunks = response.body.makeAsyncIterator()
        while let chunk = try await next(&chunks) {
            rest.writeImmutableBuffer(chunk)
            while let line = rest.readLine() { try await tell(line, of: call, receive) }
            guard rest.readableBytes <= Self.longestLine else {
                throw KubernetesError(.malformed, "the watch of \(resource) has a line that does not end")
            }
            rest.discardReadBytes()
        }
        guard rest.readableBytes == 0 else {
            throw KubernetesError(.unreachable, "the watch of \(resource) was cut off in the middle of an event")
        }
    }

    private func next(
        _ chunks: inout HTTPClientResponse.Body.AsyncIterator
    ) async throws(KubernetesError) -> ByteBuffer? {
        do {
            return try await chunks.next()
        } catch {
            throw unreachable(error)
        }
    }

    private func tell<Object: Decodable & Sendable>(
        _ line: ByteBuffer, of call: Call, _ receive: (WatchEvent<Object>) async -> Void
    ) async throws(KubernetesError) {
        let decoded: WatchLine<Object>
        do {
            decoded = try JSONDecoder.decode(WatchLine<Object>.self, nestedIn: line)
        } catch {
            throw KubernetesError(.malformed, "the watch of \(call.resource) sent what is no event: \(error)")
        }
        switch decoded.content {
        case .event(let event): await receive(event)
        case .failure(let status):
            throw KubernetesError(status: status.code ?? 500, object: status, server: configuration.server, call: call)
        case .other: break
        }
    }
}

extension ByteBuffer {
    /// The bytes up to the next newline, which is passed over; nil where none has come yet. Empty lines are skipped.
    fileprivate mutating func readLine() -> ByteBuffer? {
        while let end = readableBytesView.firstIndex(of: UInt8(ascii: "\n")) {
            let line = readSlice(length: end - readerIndex)
            moveReaderIndex(forwardBy: 1)
            if let line, line.readableBytes > 0 { return line }
        }
        return nil
    }
}
