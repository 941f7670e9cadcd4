import Foundation
import Synchronization

/// A token or password in a file that others replace, as the kubelet does in a mounted volume.
package final class SecretFile: Sendable {
    private let path: String
    private let last: Mutex<String>

    /// `kind` and `option` are for the message: "token", "--token-file". Throws `Failure` where the file has none.
    package init(path: String, kind: String, option: String) throws {
        guard let secret = Self.read(path) else {
            throw Failure("\(path) has no \(kind)", hint: "name a file with a \(kind): \(option)")
        }
        self.path = path
        last = Mutex(secret)
    }

    /// As the file has it now; where it cannot be read, as it was last.
    package var current: String {
        let secret = Self.read(path)
        return last.withLock { last in
            if let secret { last = secret }
            return last
        }
    }

    private static func read(_ path: String) -> String? {
        let text = try? String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .newlines)
        return text == "" ? nil : text
    }
}
