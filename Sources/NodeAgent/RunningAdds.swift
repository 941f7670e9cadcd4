import CNI
import IPAMModel
import Synchronization

/// The ADDs that run now. A runtime that gives up on one calls DEL while the agent still works on it: that ADD must not
/// attach the dead sandbox after the DEL. One with a delegate goes on in the plugin, and the delegate asks again: it is told
/// what was answered, and attaches nothing.
final class RunningAdds: Sendable {
    /// A sandbox and a NIC in it.
    struct Key: Hashable, Sendable {
        var containerID: String
        var network: String
        /// The runtime makes a pod's next sandbox while the ADD of the one before may still run.
        fileprivate var pod: String

        init(_ invocation: Invocation, _ network: NetworkConfiguration) {
            containerID = invocation.containerID
            self.network = network.network(of: invocation)
            let names = ["K8S_POD_NAMESPACE", "K8S_POD_NAME"].compactMap { invocation.arguments[$0] }
            pod = names.isEmpty ? containerID : names.joined(separator: "/")
        }
    }

    /// What an ADD was answered.
    struct Answer: Sendable {
        var answer: AddAnswer
        /// Whose binding it is of.
        var owner: Owner
    }

    /// As long as the kubelet waits for a sandbox (twice its runtimeRequestTimeout).
    private static let delegatesTime = Duration.seconds(240)

    fileprivate struct State {
        var running: [Key: Set<UInt64>] = [:]
        /// What delegates may still ask for, and until when.
        var answers: [Key: (answer: Answer, end: ContinuousClock.Instant)] = [:]
        var overtaken: Set<UInt64> = []
        var last: UInt64 = 0
    }

    private let state = Mutex(State())

    /// The number of an ADD that begins; nil while one of the same pod and NIC runs that a DEL has overtaken: that one may yet
    /// be served, in the place of this one, before it takes back what it got.
    func begin(_ key: Key) -> UInt64? {
        state.withLock { state in
            let isAwaited = state.running.contains { other, numbers in
                other.pod == key.pod && other.network == key.network && !numbers.isDisjoint(with: state.overtaken)
            }
            if isAwaited { return nil }
            state.last += 1
            state.running[key, default: []].insert(state.last)
            // The pod's sandbox before this one is none any more.
            state.answers = state.answers.filter { $0.key.pod != key.pod || $0.key.network != key.network }
            return state.last
        }
    }

    /// A DEL has come.
    func overtake(_ key: Key) {
        state.withLock { state in
            state.overtaken.formUnion(state.running[key] ?? [])
            state.answers = state.answers.filter {
                $0.key.containerID != key.containerID || $0.key.network != key.network
            }
        }
    }

    /// Whether an ADD that a DEL has overtaken goes on.
    func isOvertaken(_ key: Key) -> Bool {
        state.withLock { !$0.overtaken.isDisjoint(with: $0.running[key] ?? []) }
    }

    /// Ends an ADD; false where a DEL has overtaken it: then it goes on until `remove`. `answer`: what its delegate will ask
    /// for.
    func finish(_ key: Key, _ number: UInt64, answer: Answer?) -> Bool {
        state.withLock { state in
            if state.overtaken.contains(number) { return false }
            state.remove(key, number)
            let now = ContinuousClock.now
            state.answers = state.answers.filter { $0.value.end > now }
            if let answer { state.answers[key] = (answer, now + Self.delegatesTime) }
            return true
        }
    }

    /// What the ADD was answered of which a delegate asks; nil where a DEL or another ADD of the pod has come since.
    func answer(_ key: Key) -> Answer? {
        state.withLock { $0.answers[key].flatMap { $0.end > .now ? $0.answer : nil } }
    }

    func remove(_ key: Key, _ number: UInt64) { state.withLock { $0.remove(key, number) } }
}

extension RunningAdds.State {
    fileprivate mutating func remove(_ key: RunningAdds.Key, _ number: UInt64) {
        overtaken.remove(number)
        running[key]?.remove(number)
        if running[key]?.isEmpty == true { running[key] = nil }
    }
}
