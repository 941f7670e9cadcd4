package import Logging
import Synchronization

/// Keeps a copy of a selection of objects: lists them once, then follows their changes; lists anew when the server no
/// longer knows where the copy is, and goes on after any other failure from where it was. It may be behind, as its lists are
/// out of the server's watch cache; it never goes back, but where the server itself has.
package final class ObjectWatch<Object: Decodable & Sendable>: Sendable {
    private let client: KubernetesClient
    private let resource: KubernetesResource
    private let selection: Selection
    private let log: Logger
    private let receive: @Sendable (ObjectChange<Object>) -> Void
    private let current = Mutex(ObjectCopy<Object>())

    /// `receive` is called after each step of the copy, one call at a time, and is not to take long.
    package init(
        _ type: Object.Type, of client: KubernetesClient, _ resource: KubernetesResource,
        _ selection: Selection = .all, log: Logger,
        onChange receive: @escaping @Sendable (ObjectChange<Object>) -> Void = { _ in }
    ) {
        self.client = client
        self.resource = resource
        self.selection = selection
        self.log = log
        self.receive = receive
    }

    /// As of now; to be had at any time, also before `run`.
    package var copy: ObjectCopy<Object> { current.withLock { $0 } }

    /// Follows until the task is cancelled; only one task may.
    package func run() async {
        await client.follow(resource, log: log) { () throws(KubernetesError) in
            try await list()
        } watching: { progress throws(KubernetesError) in
            try await follow(progress)
            current.withLock { $0.confirm(at: .now) }
        }
    }

    private func list() async throws(KubernetesError) {
        let list: ObjectList<Object>
        do {
            list = try await client.cachedList(Object.self, resource, selection, notOlderThan: copy.resourceVersion)
        } catch  where error.code == .gone {
            // The cache is far behind, or the server's data have been restored from a backup.
            list = try await client.list(Object.self, resource, selection)
        }
        for item in list.items { tellIfUnreadable(item) }
        let changes = current.withLock { $0.replace(with: list, at: .now) }
        for change in changes { receive(change) }
    }

    private func follow(_ progress: () -> Void) async throws(KubernetesError) {
        try await client.watch(Object.self, resource, selection, from: copy.resourceVersion) { event in
            progress()
            switch event {
            case .added(let item), .modified(let item): tellIfUnreadable(item)
            case .deleted, .bookmark: break
            }
            for change in current.withLock({ $0.follow(event, at: .now) }) { receive(change) }
        }
    }

    private func tellIfUnreadable(_ item: Listed<Object>) {
        guard let problem = item.problem else { return }
        log.warning(
            "an object cannot be read: nothing that depends on it is freed",
            metadata: ["object": "\(resource) \(item.reference)", "error": "\(problem)"])
    }
}

/// Longer and longer waits while something fails: doubled each time, each shortened by up to a half, so that many who failed
/// at once do not come back at once.
package struct RetryPause: Sendable {
    private let most: Duration
    private var bound = Duration.milliseconds(250)

    package init(most: Duration) { self.most = most }

    package mutating func next(random: Double = .random(in: 0...1)) -> Duration {
        let pause = min(bound, most) * (1 - random / 2)
        bound = min(bound * 2, most)
        return pause
    }
}
