package import IPAMAPI
package import IPAMModel
package import Logging
import ServiceLifecycle

/// Keeps the node's copies fresh while the server answers.
package struct CopyRenewal: Service {
    private static let timeout = Duration.seconds(5)
    /// Copies in one call.
    private static let chunk = 500

    private let node: String
    private let ipam: any CopyCalls
    private let copies: CopyStore
    private let spool: Spool
    private let clock: NodeClock
    private let log: Logger

    package init(
        node: String, ipam: any CopyCalls, copies: CopyStore, spool: Spool, clock: NodeClock, log: Logger
    ) {
        self.node = node
        self.ipam = ipam
        self.copies = copies
        self.spool = spool
        self.clock = clock
        self.log = log
    }

    package func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do throws(IPAMError) {
                    try await pass()
                } catch {
                    if !Task.isCancelled { log.debug("copies not renewed", metadata: ["error": "\(error.message)"]) }
                }
                await pause()
            }
        }
    }

    /// Until the next pass. A copy that comes meanwhile may have to be renewed sooner than those that were there.
    private func pause() async {
        let passed = clock.now()
        while !Task.isCancelled {
            let left = passed + interval - clock.now()
            if left <= 0 { return }
            try? await Task.sleep(for: .nanoseconds(min(left, Copy.shortestRenewal)))
        }
    }

    /// Between two passes, in nanoseconds.
    private var interval: Int64 { copies.all.map(\.renewedAfter).min() ?? Copy.longestRenewal }

    /// Asks once about every copy that would be older than it should be at the next pass.
    package func pass() async throws(IPAMError) {
        let next = clock.now() + interval
        var rest = copies.all.filter { copy in copy.age(at: next).map { $0 >= copy.renewedAfter } ?? true }[...]
        while !rest.isEmpty {
            let asked = Array(rest.prefix(Self.chunk))
            rest = rest.dropFirst(Self.chunk)
            // Before the request is sent: see `Copy.word`.
            let sent = clock.now()
            let answers = try await ipam.renewCopies(
                RenewCopiesRequest(
                    node: node, copies: asked.map { BindingCopy(owner: $0.owner, revision: $0.revision) }),
                timeout: Self.timeout)
            copies.renew(Array(zip(asked, answers)), sent: sent)
        }
        try await tellDropped()
    }

    /// At once, as somebody waits for it; but not while the server does not know of a pod that was attached from the copy:
    /// that one may have come just before the copy went, so it is looked for after. An ADD looks in the other order.
    private func tellDropped() async throws(IPAMError) {
        let dropped = Array(copies.dropped.filter { !spool.hasAttachment(of: $0.owner.key) }.prefix(Self.chunk))
        if dropped.isEmpty { return }
        _ = try await ipam.renewCopies(RenewCopiesRequest(node: node, dropped: dropped), timeout: Self.timeout)
        copies.told(of: dropped)
    }
}
