import Addresses
import IPAMModel
import RPC
import Synchronization

/// The connections to the servers that a client was told of, and to one that they have named as the leader.
final class ServerChannels: Sendable {
    private struct State {
        var channels: [String: RPCChannel]
        /// All that are known, those that were given first.
        var addresses: [String]
        var current: Int = 0
        /// What the channels were made with.
        var credentials: ChannelCredentials
        /// Of credentials before: their calls go on.
        var retiring: [RPCChannel] = []
        var isClosed = false
    }

    /// For a call that has taken a channel, and not begun yet, when another took its place.
    private static let handover = Duration.seconds(10)

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
        var channels: [String: RPCChannel] = [:]
        let first = credentials()
        for address in addresses { channels[address] = try Self.channel(address, first) }
        self.credentials = credentials
        given = addresses.count
        state = Mutex(State(channels: channels, addresses: addresses, credentials: first))
    }

    var current: (address: String, channel: RPCChannel) {
        let credentials = credentials()
        return state.withLock { state in
            if credentials != state.credentials { renew(&state, with: credentials) }
            let address = state.addresses[state.current]
            guard let channel = state.channels[address] else { preconditionFailure("every address has a channel") }
            return (address, channel)
        }
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
    func turn(from address: String, because failure: IPAMError) -> Bool {
        guard mayHelp(with: failure) else { return false }
        let leader = failure.reason == .notLeader ? failure.metadata["leader"].flatMap { $0 == "" ? nil : $0 } : nil
        let (knows, old) = state.withLock { state -> (Bool, RPCChannel?) in
            // Another call has turned already.
            guard !state.isClosed, state.addresses[state.current] == address else { return (true, nil) }
            guard let leader, leader != address else {
                state.current = (state.current + 1) % state.addresses.count
                return (false, nil)
            }
            if let index = state.addresses.firstIndex(of: leader) {
                state.current = index
                return (true, nil)
            }
            guard let channel = try? Self.channel(leader, credentials(for: leader, in: state)) else {
                return (false, nil)
            }
            // One at most that was not given, so that old leaders do not pile up.
            var old: RPCChannel?
            if state.addresses.count > given { old = state.channels.removeValue(forKey: state.addresses.removeLast()) }
            state.channels[leader] = channel
            state.addresses.append(leader)
            state.current = state.addresses.count - 1
            return (true, old)
        }
        if let old { Task { await old.close() } }
        return knows
    }

    /// New calls go over new connections; those that are open end on the old ones.
    private func renew(_ state: inout State, with credentials: ChannelCredentials) {
        guard !state.isClosed else { return }
        state.credentials = credentials
        var channels: [String: RPCChannel] = [:]
        for (index, address) in state.addresses.enumerated() {
            let credentials = index < given ? credentials : self.credentials(for: address, in: state)
            // What the core cannot use is tried again when it changes.
            channels[address] = (try? Self.channel(address, credentials)) ?? state.channels[address]
        }
        let old = state.channels.values.filter { old in !channels.values.contains { $0 === old } }
        state.channels = channels
        state.retiring += old
        for channel in old { Task { await retire(channel) } }
    }

    private func retire(_ channel: RPCChannel) async {
        try? await Task.sleep(for: Self.handover)
        await channel.close(cancelling: false)
        state.withLock { $0.retiring.removeAll { $0 === channel } }
    }

    /// A leader that is named by its IP address, as a pod's is, which no certificate is for, shows that of the name that this
    /// client was given, or of this machine where it speaks to a server on it.
    private func credentials(for leader: String, in state: State) -> ChannelCredentials {
        guard case .tls(let roots, let chain, let key, nil) = state.credentials, Self.address(of: leader) != nil,
            let name = state.addresses.prefix(given).first(where: { Self.address(of: $0)?.isLoopback ?? true })
        else { return state.credentials }
        return .tls(roots: roots, certificateChain: chain, privateKey: key, serverName: Self.host(of: name))
    }

    /// Of HOST:PORT.
    private static func host(of target: String) -> String {
        let host = target.lastIndex(of: ":").map { target[..<$0] } ?? target[...]
        return host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : String(host)
    }

    private static func address(of target: String) -> IPAddress? { IPAddress(host(of: target)) }

    func close() async {
        let channels = state.withLock { state in
            state.isClosed = true
            return Array(state.channels.values) + state.retiring
        }
        for channel in channels { await channel.close() }
    }

    private static func channel(
        _ address: String, _ credentials: ChannelCredentials
    ) throws(IPAMError) -> RPCChannel {
        do throws(RPCError) {
            return try RPCChannel(target: address, credentials: credentials)
        } catch {
            throw IPAMError(.unavailable, .noAnswer, "\(error)")
        }
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
