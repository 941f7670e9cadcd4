import Foundation
import IPAMAPI
package import IPAMModel
import Ledger
package import Logging
import ServiceLifecycle
import Synchronization

/// `--pools FILE`: pools that the file names are created or updated, at start, when the server comes to lead and when the
/// file changes; pools that it does not name stay as they are.
///
/// A file that is wrong is logged, and the ledger's pools stay as they are: also at a start, or a file that was refused
/// weeks ago would keep every VM from its address once the server is moved. Only a ledger without pools needs a file that
/// is right.
package final class PoolsFile: Service {
    /// How often the file is looked at. Its content is compared, not its time: a mounted ConfigMap changes by a symlink.
    private static let interval = Duration.seconds(2)

    private let path: String
    private let writer: Writer
    private let logger: Logger

    private struct State: Sendable {
        /// What is in the ledger, or was refused for what it says.
        var done: Data?
        /// Why the ledger does not have what the file says; nil: it does.
        var refusal: String?
    }

    private let state = Mutex(State())

    var isRefused: Bool { state.withLock { $0.refusal != nil } }

    /// Applies the file once, unless another server leads, which has a file of its own. Throws `IPAMError` where it cannot be
    /// read, or is refused and the ledger has no pools.
    package init(path: String, writer: Writer, logger: Logger) async throws(IPAMError) {
        self.path = path
        self.writer = writer
        self.logger = logger
        let content = try Self.read(path)
        let hasPools = writer.read { ledger, _ in !ledger.pools.isEmpty }
        do throws(IPAMError) {
            try await apply(content)
            note(content, refusal: nil)
        } catch {
            guard hasPools || error.reason == .notLeader else { throw error }
            note(content, refusal: error)
        }
    }

    /// Applies the file whenever its content has changed, until graceful shutdown.
    package func run() async {
        await cancelWhenGracefulShutdown { [self] in
            while (try? await Task.sleep(for: Self.interval)) != nil { await apply(unless: state.withLock(\.done)) }
        }
    }

    /// Applies the file to a ledger that this server did not serve before, or another one has changed meanwhile.
    func applyAgain() async {
        state.withLock { $0 = State() }
        await apply(unless: nil)
    }

    private func apply(unless known: Data?) async {
        var content: Data?
        do throws(IPAMError) {
            let found = try Self.read(path)
            content = found
            guard found != known else { return }
            try await apply(found)
            note(found, refusal: nil)
        } catch {
            note(content, refusal: error)
        }
    }

    private static func read(_ path: String) throws(IPAMError) -> Data {
        do {
            return try Data(contentsOf: URL(filePath: path))
        } catch {
            throw IPAMError(
                .invalidArgument, .invalidField,
                "\(path) cannot be read: \(error.localizedDescription) --pools needs a YAML list of pools",
                metadata: ["field": "--pools"])
        }
    }

    /// A refusal is said once; but what may be taken later is tried again. `content` nil: it could not be read.
    private func note(_ content: Data?, refusal: IPAMError?) {
        if refusal?.reason == .shuttingDown { return }
        let isOthers = refusal?.reason == .notLeader
        let isNews = state.withLock { state in
            let before = state.refusal
            state.refusal = isOthers ? nil : refusal?.message
            // What was half done is no longer what the file before said.
            state.done = refusal?.isRetryable == true ? nil : content
            return state.refusal != before
        }
        guard isNews, let refusal, !isOthers else { return }
        logger.error("pools file refused", metadata: ["file": "\(path)", "error": "\(refusal.message)"])
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
                    let before = writer.read { ledger, _ in ledger.pool(named: pool.name)?.revision }
                    let answer = try await writer.submit(before == nil ? .createPool(pool) : .updatePool(pool))
                    if case .pool(let described?) = answer, described.pool.revision == before { continue }
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
