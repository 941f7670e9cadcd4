package import Logging
import Synchronization

/// Keeps a copy of a selection of objects: lists them once, then follows their changes; lists anew when the server no
/// longer knows where the copy is, and goes on after any other failure from where it was.
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
        var trouble = Trouble()
        var mustList = true
        while !Task.isCancelled {
            let start = ContinuousClock.now
            var hasProgress = false
            var failure: KubernetesError?
            do throws(KubernetesError) {
                if mustList { try await list() }
                mustList = false
                try await follow(&hasProgress)
                current.withLock { $0.confirm(at: .now) }
            } catch {
                failure = error
            }
            if failure?.code == .cancelled { return }
            if hasProgress || failure == nil, trouble.isKnown {
                log.info("followed again", metadata: ["resource": "\(resource)"])
                trouble.isKnown = false
            }
            // A watch that is ended at once each time is not asked for in a tight loop.
            if hasProgress || failure == nil && .now - start > .seconds(1) { trouble.pause = RetryPause() }
            if let failure {
                // Nothing to tell and no bookmarks, or nobody there: a list tells.
                let isSilent = !hasProgress && .now - start >= client.patience.watchSilence
                mustList = mustList || isSilent || failure.code == .gone || failure.code == .malformed
                tell(failure, again: trouble.isKnown)
                trouble.isKnown = true
            } else if hasProgress {
                continue
            }
            await Self.sleep(max(trouble.pause.next(), failure?.retryAfter ?? .zero))
        }
    }

    /// What has gone wrong since the last progress.
    private struct Trouble {
        var isKnown = false
        var pause = RetryPause()
    }

    private func list() async throws(KubernetesError) {
        let list = try await client.list(Object.self, resource, selection)
        for item in list.items { tellIfUnreadable(item) }
        let changes = current.withLock { $0.replace(with: list, at: .now) }
        for change in changes { receive(change) }
    }

    private func follow(_ hasProgress: inout Bool) async throws(KubernetesError) {
        try await client.watch(Object.self, resource, selection, from: copy.resourceVersion) { event in
            hasProgress = true
            switch event {
            case .added(let item), .modified(let item): tellIfUnreadable(item)
            case .deleted, .bookmark: break
            }
            for change in current.withLock({ $0.follow(event, at: .now) }) { receive(change) }
        }
    }

    private static func sleep(_ duration: Duration) async { try? await Task.sleep(for: duration) }

    private func tell(_ error: KubernetesError, again: Bool) {
        let level: Logger.Level = again || error.code == .gone ? .debug : .warning
        log.log(
            level: level, "\(resource) not followed, trying on", metadata: ["error": "\(error.message)"])
    }

    private func tellIfUnreadable(_ item: Listed<Object>) {
        guard let problem = item.problem else { return }
        log.warning(
            "an object cannot be read: nothing that depends on it is freed",
            metadata: ["object": "\(resource) \(item.reference)", "error": "\(problem)"])
    }
}

/// Longer and longer waits while something fails: doubled from 250 ms up to 30 s, each shortened by up to a half, so that
/// many who failed at once do not come back at once.
package struct RetryPause: Sendable {
    private var longest = Duration.milliseconds(250)

    package init() {}

    package mutating func next(random: Double = .random(in: 0...1)) -> Duration {
        let pause = longest * (1 - random / 2)
        longest = min(longest * 2, .seconds(30))
        return pause
    }
}
