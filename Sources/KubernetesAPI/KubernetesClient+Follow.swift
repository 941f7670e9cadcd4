package import Logging

extension KubernetesClient {
    /// Lists, then watches, again and again until the task is cancelled: lists anew when the server no longer knows the place
    /// that `watch` goes on from, or has been silent, and goes on from there after any other failure; never in a tight loop,
    /// and never at once: when a server restarts, all who follow it lose their places together.
    ///
    /// `watch` is to say each event by the closure that it is given, and ends as `watch` of a client does.
    package func follow(
        _ resource: KubernetesResource, log: Logger,
        listing list: () async throws(KubernetesError) -> Void,
        watching watch: (_ progress: () -> Void) async throws(KubernetesError) -> Void
    ) async {
        var trouble = Trouble(resource: resource, log: log, most: patience.longestPause)
        var mustList = true
        while !Task.isCancelled {
            let start = ContinuousClock.now
            var hasProgress = false
            var failure: KubernetesError?
            do throws(KubernetesError) {
                if mustList { try await list() }
                mustList = false
                try await watch {
                    trouble.settle()
                    hasProgress = true
                }
            } catch {
                failure = error
            }
            let time = ContinuousClock.now - start
            switch failure {
            case nil where hasProgress || time > .seconds(1): trouble.settle()
            // A watch that is ended at once each time is not asked for in a tight loop.
            case nil: await Self.sleep(trouble.pause.next())
            case let error? where error.code == .cancelled: return
            case let error? where error.code == .unreachable && !hasProgress && time >= patience.watchSilence:
                // Nothing to tell and no bookmarks, or nobody there: a list tells.
                mustList = true
                await Self.sleep(patience.longestPause * Double.random(in: 0...1))
            case let error?:
                let isLost = !mustList && error.needsList
                mustList = mustList || isLost
                trouble.tell(error)
                let pause = isLost ? patience.longestPause * Double.random(in: 0...1) : trouble.pause.next()
                await Self.sleep(max(pause, error.retryAfter ?? .zero))
            }
        }
    }

    private static func sleep(_ duration: Duration) async { try? await Task.sleep(for: duration) }
}

/// What has gone wrong since the last progress.
private struct Trouble {
    let resource: KubernetesResource
    let log: Logger
    let most: Duration
    var failures = 0
    var isTold = false
    var pause: RetryPause

    init(resource: KubernetesResource, log: Logger, most: Duration) {
        self.resource = resource
        self.log = log
        self.most = most
        pause = RetryPause(most: most)
    }

    mutating func settle() {
        if isTold { log.info("followed again", metadata: ["resource": "\(resource)"]) }
        (failures, isTold, pause) = (0, false, RetryPause(most: most))
    }

    /// Connections break all the time; what a person should know is told once, and in detail to who wants it.
    mutating func tell(_ error: KubernetesError) {
        failures += 1
        let isWorth = !isTold && (failures > 1 || !error.isTransient)
        isTold = isTold || isWorth
        log.log(
            level: isWorth ? .warning : .debug, "not followed, trying on",
            metadata: ["resource": "\(resource)", "error": "\(error.message)"])
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
