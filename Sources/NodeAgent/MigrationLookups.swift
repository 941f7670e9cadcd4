import KubeVirt
import KubernetesAPI
import Logging
import Synchronization

/// Asks after the migrations that this node's target pods were made for, by name, until each has ended: a migration has no
/// label of its nodes, so a watch would show those of the whole cluster.
final class MigrationLookups: Sendable {
    /// How often an open one is asked after. Signs of its end come through the watches, sooner.
    private static let interval = Duration.seconds(2)

    private enum Answer {
        case found(VirtualMachineInstanceMigration)
        /// No migration of this UID is there, and none will be.
        case gone
    }

    private let client: KubernetesClient
    private let log: Logger
    private let changed: ChangeSignal
    private let mayMigrate: ChangeSignal
    /// By the migration's UID.
    private let answers = Mutex<[String: Answer]>([:])

    /// Raises `changed` where an answer is another than before; asks again when `mayMigrate` is raised.
    init(client: KubernetesClient, log: Logger, changed: ChangeSignal, mayMigrate: ChangeSignal) {
        self.client = client
        self.log = log
        self.changed = changed
        self.mayMigrate = mayMigrate
    }

    var count: Int { answers.withLock { $0.count } }

    func found(for pods: [Pod]) -> [VirtualMachineInstanceMigration] {
        let answers = answers.withLock { $0 }
        if answers.isEmpty { return [] }
        return Set(pods.compactMap(\.migrationUID)).sorted().compactMap {
            if case .found(let migration)? = answers[$0] { migration } else { nil }
        }
    }

    /// Until the task is cancelled.
    func run(_ pods: () -> ObjectCopy<Pod>) async {
        while !Task.isCancelled {
            let targets = pods().objects.filter { $0.migrationUID != nil }
            let uids = Set(targets.compactMap(\.migrationUID))
            answers.withLock { answers in answers = answers.filter { uids.contains($0.key) } }
            var isAnyOpen = false
            for pod in targets where isOpen(pod) {
                await ask(for: pod)
                isAnyOpen = isAnyOpen || isOpen(pod)
            }
            await mayMigrate.wait(within: isAnyOpen ? Self.interval : .seconds(3600))
            // Not for each of a swarm of changes.
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    private func isOpen(_ pod: Pod) -> Bool {
        guard let uid = pod.migrationUID, !pod.hasEnded else { return false }
        return switch answers.withLock({ $0[uid] }) {
        case .found(let migration): !migration.hasEnded
        case .gone: false
        case nil: true
        }
    }

    private func ask(for pod: Pod) async {
        guard let uid = pod.migrationUID, let name = pod.metadata.annotations[KubeVirtName.migrationJobName] else {
            return
        }
        do {
            let found = try await client.get(
                VirtualMachineInstanceMigration.self, .virtualMachineInstanceMigrations,
                namespace: pod.metadata.namespace, name: name)
            let answer: Answer = found.map { $0.metadata.uid == uid ? .found($0) : .gone } ?? .gone
            let isNew = answers.withLock { answers in
                let before = answers.updateValue(answer, forKey: uid)
                return switch (before, answer) {
                case (.found(let old)?, .found(let new)): old != new
                case (.gone?, .gone): false
                default: true
                }
            }
            if isNew { changed.raise() }
        } catch {
            if error.code != .cancelled {
                log.debug("a migration not looked up", metadata: ["migration": "\(uid)", "error": "\(error.message)"])
            }
        }
    }
}

extension Pod {
    /// Of a target pod: the migration that it was made for. Anybody may write the label; only an instance's pod is a target.
    fileprivate var migrationUID: String? {
        metadata.controller?.isKubeVirt("VirtualMachineInstance") == true
            ? metadata.labels[KubeVirtName.migrationJobUID] : nil
    }
}
