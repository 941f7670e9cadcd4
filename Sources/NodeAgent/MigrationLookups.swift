import KubeVirt
import KubernetesAPI
import Logging
import Synchronization

/// Asks after the migrations that this node's target pods were made for, by name, until each has ended: a migration has no
/// label of its nodes, so a watch would show those of the whole cluster.
final class MigrationLookups: Sendable {
    /// How often an open one is asked after. Signs of its end come through the watches, sooner.
    private static let interval = Duration.seconds(2)

    /// As a target pod names it: a pod that names another than its own spoils no answer for others.
    fileprivate struct Migration: Hashable {
        var namespace: String
        var name: String
        var uid: String
    }

    private enum Answer {
        case found(VirtualMachineInstanceMigration)
        /// No migration of this name and UID is there, and none will be.
        case gone
    }

    private let client: KubernetesClient
    private let log: Logger
    private let changed: ChangeSignal
    private let mayMigrate: ChangeSignal
    private let answers = Mutex<[Migration: Answer]>([:])

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
        return Set(pods.compactMap(\.migration)).sorted { $0.uid < $1.uid }.compactMap {
            if case .found(let migration)? = answers[$0] { migration } else { nil }
        }
    }

    /// Until the task is cancelled.
    func run(_ pods: () -> ObjectCopy<Pod>) async {
        while !Task.isCancelled {
            let targets = pods().objects.filter { $0.migration != nil }
            let named = Set(targets.compactMap(\.migration))
            answers.withLock { answers in answers = answers.filter { named.contains($0.key) } }
            var isAnyOpen = false
            for pod in targets where isOpen(pod) {
                await ask(for: pod)
                isAnyOpen = isAnyOpen || isOpen(pod)
            }
            if isAnyOpen { await mayMigrate.wait(within: Self.interval) } else { await mayMigrate.wait() }
            // Not for each of a swarm of changes.
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    private func isOpen(_ pod: Pod) -> Bool {
        guard let migration = pod.migration, !pod.hasEnded else { return false }
        return switch answers.withLock({ $0[migration] }) {
        case .found(let migration): !migration.hasEnded
        case .gone: false
        case nil: true
        }
    }

    private func ask(for pod: Pod) async {
        guard let migration = pod.migration else { return }
        do {
            let found = try await client.get(
                VirtualMachineInstanceMigration.self, .virtualMachineInstanceMigrations,
                namespace: migration.namespace, name: migration.name)
            let answer: Answer = found.map { $0.metadata.uid == migration.uid ? .found($0) : .gone } ?? .gone
            let isNew = answers.withLock { answers in
                let before = answers.updateValue(answer, forKey: migration)
                return switch (before, answer) {
                case (.found(let old)?, .found(let new)): old != new
                case (.gone?, .gone): false
                default: true
                }
            }
            if isNew { changed.raise() }
        } catch {
            if error.code != .cancelled {
                log.debug(
                    "a migration not looked up",
                    metadata: ["migration": "\(migration.uid)", "error": "\(error.message)"])
            }
        }
    }
}

extension Pod {
    /// Of a target pod: the migration that it was made for. Anybody may write the label; only an instance's pod is a target.
    fileprivate var migration: MigrationLookups.Migration? {
        guard metadata.controller?.isKubeVirt("VirtualMachineInstance") == true,
            let uid = metadata.labels[KubeVirtName.migrationJobUID],
            let name = metadata.annotations[KubeVirtName.migrationJobName]
        else { return nil }
        return MigrationLookups.Migration(namespace: metadata.namespace, name: name, uid: uid)
    }
}
