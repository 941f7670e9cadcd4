/// What travels beside a call's messages: an ordered list in which a key may stand more than once.
package struct RPCMetadata: Sendable, Hashable {
    package enum Value: Sendable, Hashable {
        case text(String)
        /// Of a key that ends in `-bin`.
        case binary([UInt8])
    }

    package struct Entry: Sendable, Hashable {
        package var key: String
        package var value: Value
    }

    package private(set) var entries: [Entry] = []

    package init() {}

    /// A key is lower case on the wire, whatever it is here.
    package mutating func append(_ key: String, _ text: String) {
        entries.append(Entry(key: key.lowercased(), value: .text(text)))
    }

    /// `key` ends in `-bin`.
    package mutating func append(_ key: String, binary bytes: [UInt8]) {
        entries.append(Entry(key: key.lowercased(), value: .binary(bytes)))
    }

    /// The first text under this key.
    package func text(_ key: String) -> String? {
        for entry in entries where entry.key == key {
            if case .text(let text) = entry.value { return text }
        }
        return nil
    }

    /// The first bytes under this key.
    package func binary(_ key: String) -> [UInt8]? {
        for entry in entries where entry.key == key {
            if case .binary(let bytes) = entry.value { return bytes }
        }
        return nil
    }
}
