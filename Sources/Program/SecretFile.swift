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

    private let path: String
    private let kind: Kind
    private let last = Mutex("")

    /// `option` names the file, for who reads the message. Throws `Failure` where it cannot be read, or is empty.
    package init(_ kind: Kind, path: String, option: String) throws {
        (self.kind, self.path) = (kind, path)
        do {
            last.withLock { [secret = try read()] in $0 = secret }
        } catch {
            throw Failure("\(option) \(path): \(error.localizedDescription)")
        }
        if current.isEmpty { throw Failure("\(path) has no \(kind)", hint: "name a file with a \(kind): \(option)") }
    }

    /// As the file has it now; where it cannot be read, as it was last.
    package var current: String {
        let secret = try? read()
        return last.withLock { last in
            if let secret, !secret.isEmpty { last = secret }
            return last
        }
    }

    private func read() throws -> String {
        try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: kind.around)
    }
}
