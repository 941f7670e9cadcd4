import CNI
import Synchronization

/// The ADDs that run now. A runtime that gives up on one calls DEL while the agent still works on it: that ADD must not
/// attach the dead sandbox after the DEL.
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

    fileprivate struct State {
        var running: [Key: Set<UInt64>] = [:]
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
            return state.last
        }
    }

    /// A DEL has come.
    func overtake(_ key: Key) { state.withLock { $0.overtaken.formUnion($0.running[key] ?? []) } }

    /// Ends an ADD; false where a DEL has overtaken it: then it goes on until `remove`.
    func finish(_ key: Key, _ number: UInt64) -> Bool {
        state.withLock { state in
            if state.overtaken.contains(number) { return false }
            state.remove(key, number)
            return true
        }
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
