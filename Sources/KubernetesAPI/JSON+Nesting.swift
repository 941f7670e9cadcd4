import FoundationEssentials
import NIOCore
import NIOFoundationCompat

extension JSONDecoder {
    /// More than objects have of what is used; JSONDecoder takes what is nested deeper than 512 for no JSON at all.
    private static let deepest = 256

    /// As `decode`. What is nested too deep is null, so that one such object, which any tenant may make, does not keep all
    /// others of its list or watch from being read.
    static func decode<Value: Decodable>(_ type: Value.Type, nestedIn buffer: ByteBuffer) throws -> Value {
        do {
            return try JSONDecoder().decode(type, from: buffer)
        } catch DecodingError.dataCorrupted {
            return try JSONDecoder().decode(type, from: buffer.jsonWithoutNesting(beyond: deepest))
        }
    }
}

extension ByteBuffer {
    func jsonWithoutNesting(beyond depth: Int) -> ByteBuffer {
        var json: [UInt8] = []
        json.reserveCapacity(readableBytes)
        var level = 0
        var (isText, isEscaped) = (false, false)
        for byte in readableBytesView {
            let isOpening = !isText && (byte == UInt8(ascii: "{") || byte == UInt8(ascii: "["))
            if isOpening { level += 1 }
            if level <= depth {
                json.append(byte)
            } else if isOpening, level == depth + 1 {
                json += "null".utf8
            }
            if !isText, byte == UInt8(ascii: "}") || byte == UInt8(ascii: "]") { level -= 1 }
            if byte == UInt8(ascii: "\""), !isEscaped { isText.toggle() }
            isEscaped = isText && !isEscaped && byte == UInt8(ascii: "\\")
        }
        return ByteBuffer(bytes: json)
    }
}
