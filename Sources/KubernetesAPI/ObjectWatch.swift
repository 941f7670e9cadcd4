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
        var trouble = Trouble(most: client.patience.longestPause)
        var mustList = true
        while !Task.isCancelled {
            let start = ContinuousClock.now
            var hasProgress = false
            var failure: KubernetesError?
            do throws(KubernetesError) {
                if mustList { try await list() }
                mustList = false
                try await follow { hasProgress = settle(&trouble) }
                current.withLock { $0.confirm(at: .now) }
            } catch {
                failure = error
            }
            let time = ContinuousClock.now - start
            switch failure {
            case nil where hasProgress || time > .seconds(1): settle(&trouble)
            // A watch that is ended at once each time is not asked for in a tight loop.
            case nil: await Self.sleep(trouble.pause.next())
            case let error? where error.code == .cancelled: return
            case let error? where error.code == .unreachable && !hasProgress && time >= client.patience.watchSilence:
                // Nothing to tell and no bookmarks, or nobody there: a list tells.
                mustList = true
            case let error?:
                // To list anew is no repetition of what failed.
                let isRepeated = error.code != .gone || trouble.failures > 0
                mustList = mustList || error.needsList
                tell(error, &trouble)
                if isRepeated { await Self.sleep(max(trouble.pause.next(), error.retryAfter ?? .zero)) }
            }
        }
    }

    /// What has gone wrong since the last progress.
    private struct Trouble {
        let most: Duration
        var failures = 0
        var isTold = false
        var pause: RetryPause

        init(most: Duration) {
            self.most = most
            pause = RetryPause(most: most)
        }
    }

    private func list() async throws(KubernetesError) {
        let list = try await client.list(Object.self, resource, selection)
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

    @discardableResult
    private func settle(_ trouble: inout Trouble) -> Bool {
        if trouble.isTold { log.info("followed again", metadata: ["resource": "\(resource)"]) }
        if trouble.failures > 0 { trouble = Trouble(most: trouble.most) }
        return true
    }

    /// Connections break all the time; what a person should know is told once, and in detail to who wants it.
    private func tell(_ error: KubernetesError, _ trouble: inout Trouble) {
        trouble.failures += 1
        let isWorth = !trouble.isTold && (trouble.failures > 1 || !error.isTransient)
        trouble.isTold = trouble.isTold || isWorth
        log.log(
            level: isWorth ? .warning : .debug, "not followed, trying on",
            metadata: ["resource": "\(resource)", "error": "\(error.message)"])
    }

    private static func sleep(_ duration: Duration) async { try? await Task.sleep(for: duration) }

    private func tellIfUnreadable(_ item: Listed<Object>) {
        guard let problem = item.problem else { return }
        log.warning(
            "an object cannot be read: nothing that depends on it is freed",
            metadata: ["object": "\(resource) \(item.reference)", "error": "\(problem)"])
    }
}

extension KubernetesError {
    /// Whether the copy's place is of no more use to the server, or may not be.
    fileprivate var needsList: Bool {
        switch code {
        case .gone, .malformed, .invalid, .serverError, .notFound: true
        default: false
        }
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
