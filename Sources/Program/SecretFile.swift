import Foundation
import Synchronization

/// A secret in a file that others replace, as the kubelet does in a mounted volume.
package final class SecretFile: Sendable {
    package enum Kind: String {
        case token
        /// Whose spaces are its own.
        case password

        fileprivate var around: CharacterSet { self == .token ? .whitespacesAndNewlines : .newlines }
    }

    private let kind: Kind
    private let path: String
    private let last: Mutex<String>

    /// `option` names the file, for who reads the message. Throws `Failure` where it cannot be read, or is empty.
    package init(_ kind: Kind, path: String, option: String) throws {
        let secret: String
        do {
            secret = try Self.read(kind, path)
        } catch {
            throw Failure("\(option) \(path): \(error.localizedDescription)")
        }
        if secret.isEmpty { throw Failure("\(option) \(path): there is no \(kind) in it") }
        (self.kind, self.path) = (kind, path)
        last = Mutex(secret)
    }

    /// As the file has it now; where it cannot be read, as it was last.
    package var current: String {
        let secret = try? Self.read(kind, path)
        return last.withLock { last in
            if let secret, !secret.isEmpty { last = secret }
            return last
        }
    }

    private static func read(_ kind: Kind, _ path: String) throws -> String {
        try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: kind.around)
    }
}
