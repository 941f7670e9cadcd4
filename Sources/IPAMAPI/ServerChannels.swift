import Addresses
import IPAMModel
import RPC
import Synchronization

/// The connections to the servers that a client was told of, and to one that they have named as the leader.
final class ServerChannels: Sendable {
    private struct State {
        var channels: [String: RotatingChannel]
        /// All that are known, those that were given first.
        var addresses: [String]
        var current: Int = 0
        var isClosed = false
    }

    private let credentials: @Sendable () -> ChannelCredentials
    private let given: Int
    private let state: Mutex<State>

    /// Of a list separated by commas. Throws `unavailable` where a channel cannot be made.
    init(_ list: String, _ credentials: @escaping @Sendable () -> ChannelCredentials) throws(IPAMError) {
        var addresses: [String] = []
        for part in list.split(separator: ",") {
            let address = String(part.trimming(while: { $0 == " " }))
            if !addresses.contains(address) { addresses.append(address) }
        }
        if addresses.isEmpty { addresses = [list] }
        var channels: [String: RotatingChannel] = [:]
        for address in addresses {
            do throws(RPCError) {
                channels[address] = try RotatingChannel(target: address, credentials: credentials)
            } catch {
                throw IPAMError(.unavailable, .noAnswer, "\(error)")
            }
        }
        self.credentials = credentials
        given = addresses.count
        state = Mutex(State(channels: channels, addresses: addresses))
    }

    var current: (address: String, channel: RPCChannel) {
        let (address, channel) = state.withLock { state in
            let address = state.addresses[state.current]
            guard let channel = state.channels[address] else { preconditionFailure("every address has a channel") }
            return (address, channel)
        }
        return (address, channel.current)
    }

    var areSeveral: Bool { state.withLock { $0.addresses.count > 1 } }

    /// Whether another attempt may fare better: another server may lead, or will soon.
    func mayHelp(with failure: IPAMError) -> Bool {
        guard failure.code == .unavailable else { return false }
        switch failure.reason {
        case .notLeader: return true
        case .noAnswer, .shuttingDown: return areSeveral
        default: return false
        }
    }

    /// After a call to `address` has failed: the next goes to the leader that it names, or to the next server. False where
    /// it is not known who leads.
    ///
    /// An address that was given may stand for several servers, and a connection goes on with one of them also when that is no
    /// longer ready. So where it cannot say who leads, or what it named is no leader, another connection is made.
    func turn(from address: String, because failure: IPAMError) -> Bool {
        guard mayHelp(with: failure) else { return false }
        let leader = failure.reason == .notLeader ? failure.metadata["leader"].flatMap { $0 == "" ? nil : $0 } : nil
        var stale: RotatingChannel?
        let (knows, old) = state.withLock { state -> (Bool, RotatingChannel?) in
            // Another call has turned already.
            guard !state.isClosed, state.addresses[state.current] == address else { return (true, nil) }
            guard let leader, leader != address else {
                let wasNamed = state.current >= given
                state.current = (state.current + 1) % state.addresses.count
                if failure.reason == .notLeader || wasNamed, state.current < given {
                    stale = state.channels[state.addresses[state.current]]
                }
                return (false, nil)
            }
            if let index = state.addresses.firstIndex(of: leader) {
                state.current = index
                return (true, nil)
            }
            guard
                let channel = try? RotatingChannel(
                    target: leader, credentials: credentials(for: leader, in: state))
            else { return (false, nil) }
            // One at most that was not given, so that old leaders do not pile up.
            var old: RotatingChannel?
            if state.addresses.count > given { old = state.channels.removeValue(forKey: state.addresses.removeLast()) }
            state.channels[leader] = channel
            state.addresses.append(leader)
            state.current = state.addresses.count - 1
            return (true, old)
        }
        stale?.reconnect()
        if let old { Task { await old.close() } }
        return knows
    }

    /// A leader that is named by its IP address, as a pod's is, which no certificate is for, shows that of the name that this
    /// client was given, or of this machine where it speaks to a server on it.
    private func credentials(for leader: String, in state: State) -> @Sendable () -> ChannelCredentials {
        guard let leader = HostPort(leader), IPAddress(leader.host) != nil,
            let name = state.addresses.prefix(given).lazy.compactMap(HostPort.init)
                .first(where: { IPAddress($0.host)?.isLoopback ?? true })
        else { return credentials }
        return { [credentials] in
            let credentials = credentials()
            guard case .tls(let roots, let chain, let key, nil) = credentials else { return credentials }
            return .tls(roots: roots, certificateChain: chain, privateKey: key, serverName: name.host)
        }
    }

    func close() async {
        let channels = state.withLock { state in
            state.isClosed = true
            return Array(state.channels.values)
        }
        for channel in channels { await channel.close() }
    }
}

extension Substring {
    fileprivate func trimming(while condition: (Character) -> Bool) -> Substring {
        var text = self[...]
        while let first = text.first, condition(first) { text.removeFirst() }
        while let last = text.last, condition(last) { text.removeLast() }
        return text
    }
}
