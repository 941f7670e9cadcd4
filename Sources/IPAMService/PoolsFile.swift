import Foundation
import IPAMAPI
package import IPAMModel
import Ledger
package import Logging
import ServiceLifecycle
import Synchronization

/// `--pools FILE`: pools that the file names are created or updated, at start, when the server comes to lead and when the
/// file changes; pools that it does not name stay as they are, and so does one that was changed after this server found its
/// file to be what it is. Of several servers the kubelet brings a changed file to each at its own time: who still has the old
/// one when it comes to lead leaves alone what another has made of the new one.
///
/// A file that is wrong is logged, and the ledger's pools stay as they are: also at a start, or a file that was refused
/// weeks ago would keep every VM from its address once the server is moved. Only a ledger without pools needs a file that
/// is right.
package final class PoolsFile: Service {
    /// How often the file is looked at. Its content is compared, not its time: a mounted ConfigMap changes by a symlink.
    private static let interval = Duration.seconds(2)

    private let path: String
    private let server: IPAMServer
    private let logger: Logger

    private struct State: Sendable {
        /// As the file was found last.
        var content: Data?
        /// The newest revision of the ledger that this server knew when it found that first; 0: it knew none yet.
        var foundAt: UInt64 = 0
        /// What is in the ledger, or was refused for what it says.
        var done: Data?
        /// Why the ledger does not have what the file says; nil: it does.
        var refusal: String?
        /// The names of pools that are not as the file has them, for they were changed later.
        var kept: Set<String> = []
    }

    private let state = Mutex(State())

    var isRefused: Bool { state.withLock { $0.refusal != nil } }

    /// Applies the file once, unless another server leads, which has a file of its own. Throws `IPAMError` where it cannot be
    /// read, or is refused and the ledger has no pools.
    package init(path: String, server: IPAMServer, logger: Logger) async throws(IPAMError) {
        self.path = path
        self.server = server
        self.logger = logger
        let (content, foundAt) = try look()
        let hasPools = server.writer.read { ledger, _ in !ledger.pools.isEmpty }
        do throws(IPAMError) {
            try await apply(content, foundAt)
            note(content, refusal: nil)
        } catch {
            guard hasPools || error.reason == .notLeader else { throw error }
            note(content, refusal: error)
        }
    }

    /// Looks at the file now and then, until graceful shutdown.
    package func run() async {
        await cancelWhenGracefulShutdown { [self] in
            while (try? await Task.sleep(for: Self.interval)) != nil { await applyWhatChanged() }
        }
    }

    /// Applies the file to a ledger that this server did not serve before, or another one has changed meanwhile.
    func applyAgain() async {
        state.withLock { ($0.done, $0.refusal, $0.kept) = (nil, nil, []) }
        await applyWhatChanged()
    }

    /// Finds, also while another server leads, what the file is. Applies it unless that is done.
    func applyWhatChanged() async {
        var content: Data?
        do throws(IPAMError) {
            let (found, foundAt) = try look()
            content = found
            guard found != state.withLock(\.done) else { return }
            try await apply(found, foundAt)
            note(found, refusal: nil)
        } catch {
            note(content, refusal: error)
        }
    }

    /// The file, and the ledger's newest revision when it was first found so.
    private func look() throws(IPAMError) -> (content: Data, foundAt: UInt64) {
        let newest = server.newestRevision
        let content = try Self.read(path)
        return state.withLock { state in
            if content != state.content || state.foundAt == 0 {
                (state.content, state.foundAt, state.kept) = (content, newest, [])
            }
            return (content, state.foundAt)
        }
    }

    private static func read(_ path: String) throws(IPAMError) -> Data {
        do {
            return try Data(contentsOf: URL(filePath: path))
        } catch {
            // Of a directory Foundation says by itself no more than a number.
            let cause = ((error as? CocoaError)?.underlying as NSError?)?.localizedFailureReason
            throw IPAMError(
                .invalidArgument, .invalidField,
                "\(path) cannot be read: \(cause ?? error.localizedDescription): --pools needs a file, a YAML list of pools",
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
    private func apply(_ content: Data, _ foundAt: UInt64) async throws(IPAMError) {
        let writer = server.writer
        try writer.checkIsCurrent()
        var waiting = try PoolManifest.parse(content, source: path)
        while true {
            var refused: [(pool: Pool, error: IPAMError)] = []
            for pool in waiting {
                do throws(IPAMError) {
                    let present = writer.read { ledger, _ in ledger.pool(named: pool.name) }
                    if let present, present.revision > foundAt {
                        keep(present, unlike: pool)
                        continue
                    }
                    let answer = try await writer.submit(present == nil ? .createPool(pool) : .updatePool(pool))
                    if case .pool(let described?) = answer, described.pool.revision == present?.revision { continue }
                    logger.info("pool applied", metadata: ["pool": "\(pool.name)", "file": "\(path)"])
                } catch {
                    refused.append((pool, error))
                }
            }
            if refused.isEmpty { return }
            if refused.count == waiting.count { throw refusal(of: refused) }
            waiting = refused.map(\.pool)
        }
    }

    /// Says all; where one of them may be taken later, so may the file.
    private func refusal(of refused: [(pool: Pool, error: IPAMError)]) -> IPAMError {
        let error = (refused.first { $0.error.isRetryable } ?? refused[0]).error
        let each = refused.map { "pool '\($0.pool.name)': \($0.error.message)" }
        return IPAMError(
            error.code, error.reason, "\(path): \(each.joined(separator: "; "))", metadata: error.metadata)
    }

    /// It is said once that a pool is not as the file has it.
    private func keep(_ present: Pool, unlike file: Pool) {
        var file = file
        file.revision = present.revision
        guard file != present, state.withLock({ $0.kept.insert(present.name).inserted }) else { return }
        logger.notice(
            "pool kept: it was changed later than the file", metadata: ["pool": "\(present.name)", "file": "\(path)"])
    }
}
