import Foundation
import IPAMAPI
package import IPAMModel
import Ledger
package import Logging
import ServiceLifecycle
import Synchronization

/// `--pools FILE`: pools that the file names are created or updated, at start, when the server comes to lead and when the
/// file changes; pools that it does not name stay as they are.
package final class PoolsFile: Service {
    /// How often the file is looked at. Its content is compared, not its time: a mounted ConfigMap changes by a symlink.
    private static let interval = Duration.seconds(2)

    private let path: String
    private let writer: Writer
    private let logger: Logger
    /// What is in the ledger, or was refused for what it says.
    private let done = Mutex<Data?>(nil)

    /// Applies the file once, unless another server leads, which has a file of its own. Throws `IPAMError` where it cannot be
    /// read or one of its pools is refused.
    package init(path: String, writer: Writer, logger: Logger) async throws(IPAMError) {
        self.path = path
        self.writer = writer
        self.logger = logger
        guard let content = FileManager.default.contents(atPath: path) else {
            throw IPAMError(
                .invalidArgument, .invalidField, "\(path): cannot be read; --pools needs a YAML list of pools",
                metadata: ["field": "--pools"])
        }
        do throws(IPAMError) {
            try await apply(content)
            done.withLock { $0 = content }
        } catch {
            guard error.reason == .notLeader else { throw error }
        }
    }

    /// Applies the file whenever its content has changed, until graceful shutdown.
    package func run() async {
        await cancelWhenGracefulShutdown { [self] in
            while (try? await Task.sleep(for: Self.interval)) != nil { await apply(unless: done.withLock { $0 }) }
        }
    }

    /// Applies the file to a ledger that this server did not serve before, or another one has changed meanwhile.
    func applyAgain() async {
        done.withLock { $0 = nil }
        await apply(unless: nil)
    }

    /// A file that is wrong is logged, and the pools stay as they are.
    private func apply(unless known: Data?) async {
        guard let content = FileManager.default.contents(atPath: path), content != known else { return }
        do throws(IPAMError) {
            try await apply(content)
        } catch {
            if error.reason == .notLeader || error.reason == .shuttingDown { return }
            logger.error("pools file refused", metadata: ["file": "\(path)", "error": "\(error.message)"])
            // Said once; but what only the store refused is tried again.
            if error.isRetryable { return }
        }
        done.withLock { $0 = content }
    }

    /// A pool may be refused for what another pool of the file still has: the default's place, or a prefix that moves. So
    /// what was refused is tried again for as long as other pools get through.
    private func apply(_ content: Data) async throws(IPAMError) {
        try writer.checkIsCurrent()
        var waiting = try PoolManifest.parse(content, source: path)
        while true {
            var refused: [(pool: Pool, error: IPAMError)] = []
            for pool in waiting {
                do throws(IPAMError) {
                    let exists = writer.read { ledger, _ in ledger.pool(named: pool.name) != nil }
                    _ = try await writer.submit(exists ? .updatePool(pool) : .createPool(pool))
                    logger.info("pool applied", metadata: ["pool": "\(pool.name)", "file": "\(path)"])
                } catch {
                    refused.append((pool, error))
                }
            }
            guard let (pool, error) = refused.first else { return }
            if refused.count == waiting.count {
                throw IPAMError(
                    error.code, error.reason, "\(path): pool '\(pool.name)': \(error.message)",
                    metadata: error.metadata)
            }
            waiting = refused.map(\.pool)
        }
    }
}
