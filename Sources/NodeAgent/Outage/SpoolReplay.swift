import Addresses
package import IPAMAPI
import IPAMModel
import KubernetesAPI
package import Logging
import ServiceLifecycle
import Synchronization
import Telemetry

/// Tells the server what is in the spool, as soon as it answers again.
package final class SpoolReplay: Service {
    private static let timeout = Duration.seconds(5)

    private let node: String
    private let ipam: any IPAMCalls
    private let spool: Spool
    private let copies: CopyStore
    private let clock: NodeClock
    private let log: Logger
    /// What the server did not take since all was told last, by its reason.
    private let complaints = Mutex<[IPAMError.Reason: Complaint]>([:])

    package init(
        node: String, ipam: any IPAMCalls, spool: Spool, copies: CopyStore, clock: NodeClock, log: Logger
    ) {
        self.node = node
        self.ipam = ipam
        self.spool = spool
        self.copies = copies
        self.clock = clock
        self.log = log
    }

    package func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            for await _ in spool.wakes {
                var pause = RetryPause(most: .seconds(5))
                while !Task.isCancelled, !spool.settle() || !spool.isEmpty {
                    if await pass(), spool.settle() {
                        pause = RetryPause(most: .seconds(5))
                    } else {
                        try? await Task.sleep(for: pause.next())
                    }
                }
                if Task.isCancelled { break }
            }
        }
    }

    /// One try with everything that is in the spool, in order; true where nothing that was tried is left. What speaks of
    /// somebody of whom an earlier entry could not be told waits; so does everything once the server is silent, or has too
    /// much to do: what it takes next may be what must come after. And so it does where the server takes nothing from this
    /// agent.
    package func pass() async -> Bool {
        var blocked: Set<String> = []
        for item in spool.items.inOrderOfTelling where item.entry.subjects.isDisjoint(with: blocked) {
            do throws(IPAMError) {
                try await tell(item.entry)
                spool.finish(item)
            } catch {
                if Task.isCancelled || error.isSilence { return false }
                if error.isWorthRepeating, !isAnotherNodes(item.entry, error) {
                    complain(of: item, error)
                    if error.reason == .overloaded || error.isOfCaller { return false }
                    blocked.formUnion(item.entry.subjects)
                } else {
                    logRefusal(of: item, error)
                    spool.finish(item)
                }
            }
        }
        if blocked.isEmpty { complaints.withLock { $0 = [:] } }
        return blocked.isEmpty
    }

    /// The kubelet goes on while nothing is taken, and each pass may meet thousands of entries.
    private func complain(of item: Spool.Item, _ error: IPAMError) {
        guard let failed = complaints.withLock({ $0[error.reason, default: Complaint()].count() }) else { return }
        var facts = facts(of: item, error)
        facts["failed"] = "\(failed)"
        log.warning("the server did not take what it must be told; trying on", metadata: facts)
    }

    private func tell(_ entry: Spool.Entry) async throws(IPAMError) {
        switch entry {
        case .detach(let id, let network):
            do {
                _ = try await ipam.release(.attachment(id, owner: nil, network: network), timeout: Self.timeout)
            } catch  where error.code == .notFound {
                // Gone already.
            }
            log.info("detached, told late", metadata: ["network": "\(network)", "container": "\(id.containerID)"])
        case .attach(let request):
            let sent = clock.now()
            let answer = try await ipam.allocate(request, timeout: Self.timeout).binding
            copies.keep(answer, sent: sent)
            copies.save()
            log.info(
                "attached from a copy, told late",
                metadata: ["owner": "\(request.owner.key)", "pod": "\(request.attachment?.pod ?? "")"])
        }
    }

    /// Whether it was said under another name of this node, or on the node whose disk was copied: no agent here may say it.
    private func isAnotherNodes(_ entry: Spool.Entry, _ error: IPAMError) -> Bool {
        guard case .attach(let request) = entry, let attachment = request.attachment else { return false }
        return error.reason == .otherNode && attachment.node != node
    }

    private func logRefusal(of item: Spool.Item, _ error: IPAMError) {
        switch item.entry {
        case .detach:
            log.warning("the server refuses a late detachment for good: dropped", metadata: facts(of: item, error))
        case .attach where error.reason == .attachmentSuperseded:
            log.warning("a pod attached from a copy has been replaced meanwhile", metadata: facts(of: item, error))
        case .attach:
            log.error(
                """
                a pod attached from a copy has addresses that the server does not give it: look at both, and restart \
                the VM that is not in the ledger with them
                """, metadata: facts(of: item, error))
        }
    }

    private func facts(of item: Spool.Item, _ error: IPAMError) -> Logger.Metadata {
        var facts: Logger.Metadata = ["error": "\(error.message)"]
        switch item.entry {
        case .detach(let id, let network): (facts["container"], facts["network"]) = ("\(id.containerID)", "\(network)")
        case .attach(let request):
            facts["owner"] = "\(request.owner.key)"
            facts["pod"] = "\(request.attachment?.pod ?? "")"
            facts["addresses"] = "\(request.addresses.map(\.description).joined(separator: ","))"
        }
        return facts
    }
}

extension [Spool.Item] {
    /// First the pods that were attached, then the sandboxes that are gone: one of those may be the same VM's of before. Of that
    /// the server is told when the new one has taken its place; before, the release of a migration's source would commit the
    /// migration. Only what speaks of the same pod or VM keeps its order.
    fileprivate var inOrderOfTelling: [Spool.Item] {
        var (first, rest): ([Spool.Item], [Spool.Item]) = ([], [])
        var later: Set<String> = []
        for item in self {
            if case .attach = item.entry, item.entry.subjects.isDisjoint(with: later) {
                first.append(item)
            } else {
                rest.append(item)
                later.formUnion(item.entry.subjects)
            }
        }
        return first + rest
    }
}

extension IPAMError {
    /// Whether it refuses this agent as such, whatever it says.
    var isOfCaller: Bool {
        code == .unauthenticated || reason == .roleMissing || reason == .nodeUnknown
    }

    /// Whether the same words may be taken later, when somebody has mended the server or this agent's certificate.
    fileprivate var isWorthRepeating: Bool {
        switch code {
        case .unavailable, .aborted, .unauthenticated, .permissionDenied, .internalError: true
        // The server's or the transport's, and not a pool's.
        case .resourceExhausted where reason == .overloaded || reason == .noAnswer: true
        case .invalidArgument, .notFound, .alreadyExists, .resourceExhausted, .failedPrecondition: false
        }
    }
}
