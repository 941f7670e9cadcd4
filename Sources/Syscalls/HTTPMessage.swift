/// One message of HTTP/1.1 (RFC 9112) whose body's length stands in its head: what plugin and agent say to each other.
package struct HTTPMessage: Hashable, Sendable {
    /// Bytes of the head, and of the body.
    package static let longestHead = 16 << 10
    package static let longestBody = 1 << 20

    /// "POST /cni/add HTTP/1.1", or "HTTP/1.1 200 OK".
    package var startLine: String
    package var body: [UInt8]

    package init(_ startLine: String, body: [UInt8]) {
        self.startLine = startLine
        self.body = body
    }

    /// For a connection that ends with the exchange.
    package var bytes: [UInt8] {
        let head =
            "\(startLine)\r\nHost: holdfast-agent\r\nContent-Type: application/json\r\n"
            + "Content-Length: \(body.count)\r\nConnection: close\r\n\r\n"
        return Array(head.utf8) + body
    }

    /// The next message of `stream`; nil where it ended before one began.
    package init?(
        from stream: borrowing UnixStream, by deadline: Deadline
    ) throws(HTTPMessageError) {
        var bytes: [UInt8] = []
        func more() throws(HTTPMessageError) -> Bool {
            let chunk: [UInt8]
            do { chunk = try stream.receive(by: deadline) } catch { throw .stream(error) }
            bytes += chunk
            return !chunk.isEmpty
        }
        var end = Self.endOfHead(in: bytes, from: 0)
        while end == nil {
            let seen = bytes.count
            guard seen <= Self.longestHead else { throw .tooLong }
            guard try more() else {
                if bytes.isEmpty { return nil }
                throw .cutOff
            }
            // The end may have begun in what was there before.
            end = Self.endOfHead(in: bytes, from: max(0, seen - 3))
        }
        guard let end else { return nil }
        let lines = String(decoding: bytes[..<end], as: UTF8.self).split(
            separator: "\r\n", omittingEmptySubsequences: false)
        startLine = lines.first.map(String.init) ?? ""
        let length = try Self.bodyLength(lines.dropFirst())
        guard length <= Self.longestBody else { throw .tooLong }
        let start = end + 4
        while bytes.count - start < length {
            guard try more() else { throw .cutOff }
        }
        guard bytes.count - start == length else { throw .malformed }
        body = Array(bytes[start...])
    }

    private static func endOfHead(in bytes: [UInt8], from start: Int) -> Int? {
        // Not `firstRange(of:)`, which took a tenth of a call's time in a fresh process.
        guard bytes.count >= start + 4 else { return nil }
        return (start...bytes.count - 4).first { index in
            bytes[index] == 0x0d && bytes[index + 1] == 0x0a && bytes[index + 2] == 0x0d && bytes[index + 3] == 0x0a
        }
    }

    private static func bodyLength(_ fields: ArraySlice<Substring>) throws(HTTPMessageError) -> Int {
        var length: Int?
        for field in fields {
            guard let colon = field.firstIndex(of: ":") else { throw .malformed }
            let name = field[..<colon].lowercased()
            if name == "transfer-encoding" { throw .malformed }
            guard name == "content-length" else { continue }
            let text = field[field.index(after: colon)...].filter { $0 != " " && $0 != "\t" }
            guard text.allSatisfy({ $0.isASCII && $0.isNumber }), let value = Int(text), length ?? value == value
            else { throw .malformed }
            length = value
        }
        return length ?? 0
    }
}

package enum HTTPMessageError: Error, Hashable, Sendable, CustomStringConvertible {
    case stream(StreamError)
    case cutOff
    case tooLong
    case malformed

    package var description: String {
        switch self {
        case .stream(let error): error.description
        case .cutOff: "the message was cut off"
        case .tooLong:
            "the message is longer than \(HTTPMessage.longestHead) bytes of head and \(HTTPMessage.longestBody) of body"
        case .malformed: "that is no HTTP/1.1 with a Content-Length"
        }
    }
}
