import Foundation
package import IPAMModel
package import Logging
import ServiceLifecycle

/// `--policy FILE`: read at start, and again when its content changes.
package struct PolicyFile: Service {
    /// How often the file is looked at. Its content is compared, not its time: a mounted ConfigMap changes by a symlink.
    private static let interval = Duration.seconds(2)

    private let path: String
    private let authenticator: Authenticator
    private let logger: Logger
    private var first: Data

    /// Throws `IPAMError` where the file cannot be read, or is no policy.
    package init(path: String, authenticator: Authenticator, logger: Logger) throws(IPAMError) {
        self.path = path
        self.authenticator = authenticator
        self.logger = logger
        guard let content = FileManager.default.contents(atPath: path) else {
            throw IPAMError(
                .invalidArgument, .invalidField, "\(path): cannot be read; --policy needs a YAML file of roles",
                metadata: ["field": "--policy"])
        }
        authenticator.set(try Policy(yaml: content, source: path))
        first = content
    }

    /// Until graceful shutdown. A file that is wrong, or cannot be read, is logged, and the policy stays as it was.
    package func run() async {
        await cancelWhenGracefulShutdown {
            var seen: Data? = first
            while (try? await Task.sleep(for: Self.interval)) != nil {
                let found = FileManager.default.contents(atPath: path)
                guard found != seen else { continue }
                seen = found
                guard let content = found else {
                    logger.error("policy cannot be read", metadata: ["file": "\(path)"])
                    continue
                }
                do throws(IPAMError) {
                    authenticator.set(try Policy(yaml: content, source: path))
                    logger.notice("policy applied", metadata: ["file": "\(path)"])
                } catch {
                    logger.error("policy refused", metadata: ["file": "\(path)", "error": "\(error.message)"])
                }
            }
        }
    }
}
