import CNI
import Synchronization

/// The ADDs that run now. A runtime that gives up on one calls DEL while the agent still works on it: that ADD must not
/// attach the dead sandbox after the DEL.
final class RunningAdds: Sendable {
    /// A sandbox and a NIC in it.
    struct Key: Hashable, Sendable {
        var containerID: String
        var network: String

        init(_ invocation: Invocation, _ network: NetworkConfiguration) {
            containerID = invocation.containerID
            self.network = network.network(of: invocation)
        }
    }

    fileprivate struct State {
        var running: [Key: Set<UInt64>] = [:]
        var overtaken: Set<UInt64> = []
        var last: UInt64 = 0
    }

    private let state = Mutex(State())

    /// The number of an ADD that begins; nil while one of the same attachment runs that a DEL has overtaken: what that one
    /// takes back would be this one's.
    func begin(_ key: Key) -> UInt64? {
        state.withLock { state in
            let running = state.running[key, default: []]
            guard running.isDisjoint(with: state.overtaken) else { return nil }
            state.last += 1
            state.running[key] = running.union([state.last])
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
