import Foundation
import Synchronization

/// A secret in a file that others replace, as the kubelet does in a mounted volume.
package final class SecretFile: Sendable {
    package enum Kind: String {
        case token
        /// Whose spaces are its own.
        case password

        fileprivate var around: CharacterSet { self == .token ? .whitespacesAndNewlines : .newlines }

        /// Of a token what a header can have: the core writes another whole header to standard error.
        fileprivate func mayBe(_ secret: String) -> Bool {
            self == .password || secret.utf8.allSatisfy { (0x21...0x7e).contains($0) }
        }
    }

    private let kind: Kind
    private let path: String
    private let last: Mutex<String>

    /// `option` names the file, for who reads the message. Throws `Failure` where it cannot be read, is empty, or is no token.
    package init(_ kind: Kind, path: String, option: String) throws {
        let secret: String
        do {
            secret = try Self.read(kind, path)
        } catch {
            throw Failure(reading: "\(option) \(path)", error)
        }
        if secret.isEmpty { throw Failure("\(option) \(path): there is no \(kind) in it") }
        guard kind.mayBe(secret) else {
            throw Failure("\(option) \(path): this is no \(kind), there is a space, a line's end or the like in it")
        }
        (self.kind, self.path) = (kind, path)
        last = Mutex(secret)
    }

    /// As the file has it now; where it cannot be read or is none, as it was last.
    package var current: String {
        let secret = try? Self.read(kind, path)
        return last.withLock { last in
            if let secret, !secret.isEmpty, kind.mayBe(secret) { last = secret }
            return last
        }
    }

    private static func read(_ kind: Kind, _ path: String) throws -> String {
        try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: kind.around)
    }
}
