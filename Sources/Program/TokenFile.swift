import Foundation
import Synchronization

/// A bearer token in a file that its issuer replaces, as the kubelet does in a projected volume.
package final class TokenFile: Sendable {
    private let path: String
    private let last = Mutex<String?>(nil)

    /// Throws `Failure` where there is no token in the file.
    package init(path: String) throws {
        self.path = path
        guard current != nil else {
            throw Failure("\(path) has no token", hint: "name a file with a token: --token-file")
        }
    }

    /// As the file has it now; where it cannot be read, as it was last.
    package var current: String? {
        let text = (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
        return last.withLock { last in
            if let text, !text.isEmpty { last = text }
            return last
        }
    }
}
