import Foundation
package import Logging
import Synchronization

/// A secret in a file that others replace, as the kubelet does in a mounted volume.
package final class SecretFile: Sendable {
    package enum Kind {
        case token
        /// Whose spaces are its own.
        case password

        fileprivate var around: CharacterSet { self == .token ? .whitespacesAndNewlines : .newlines }

        /// Of a token what a header can have: the core writes another whole header to standard error.
        fileprivate func mayBe(_ secret: String) -> Bool {
            self == .password || secret.utf8.allSatisfy { (0x21...0x7e).contains($0) }
        }
    }

    private struct State {
        /// When the file was good last.
        var secret: String
        var isSpoilt = false
    }

    private let kind: Kind
    private let path: String
    private let option: String
    private let log: Logger
    private let state: Mutex<State>

    /// `option` names the file, for who reads the message. Throws `Failure` where it cannot be read, is empty, or is no token.
    package init(_ kind: Kind, path: String, option: String, log: Logger) throws(Failure) {
        (self.kind, self.path, self.option, self.log) = (kind, path, option, log)
        state = Mutex(State(secret: try Self.read(kind, path, option)))
    }

    /// As the file has it now; where it cannot be read or is none, as it was last, which is told when it begins and ends.
    package var current: String {
        let found = Result { () throws(Failure) in try Self.read(kind, path, option) }
        return state.withLock { state in
            switch found {
            case .success(let secret):
                if state.isSpoilt { log.notice("\(kind) read anew", metadata: ["file": "\(path)"]) }
                state = State(secret: secret)
            case .failure(let failure):
                if !state.isSpoilt {
                    log.warning(
                        "new \(kind) is kept out, the one before is used on", metadata: ["error": "\(failure)"])
                }
                state.isSpoilt = true
            }
            return state.secret
        }
    }

    private static func read(_ kind: Kind, _ path: String, _ option: String) throws(Failure) -> String {
        let secret: String
        do {
            secret = try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: kind.around)
        } catch {
            throw Failure(reading: "\(option) \(path)", error)
        }
        if secret.isEmpty { throw Failure("\(option) \(path): there is no \(kind) in it") }
        guard kind.mayBe(secret) else {
            throw Failure("\(option) \(path): this is no \(kind), there is a space, a line's end or the like in it")
        }
        return secret
    }
}
