import Synchronization

/// A client's connection to one target, whose credentials others replace, and which may lead to another server when it is made
/// anew.
///
/// New calls go over a new channel as soon as the credentials are others; those that are open end on the old one, and none
/// fails for it. It must be closed, as a channel must.
package final class RotatingChannel: Sendable {
    private struct State {
        var channel: RPCChannel
        /// What it was made with, or could not be made with.
        var credentials: ChannelCredentials
        /// Those before: their calls go on.
        var retiring: [RPCChannel] = []
        var reconnected: ContinuousClock.Instant?
        var isClosed = false

        /// The one before, which is to be retired.
        mutating func replaceChannel(by new: RPCChannel) -> RPCChannel {
            let old = channel
            channel = new
            retiring.append(old)
            return old
        }
    }

    /// Between two connections, however many calls ask for another one.
    private static let reconnectInterval = Duration.seconds(1)

    /// For a call that has taken a channel, and not begun yet, when another took its place.
    private let handover: Duration
    private let make: @Sendable (ChannelCredentials) throws(RPCError) -> RPCChannel
    private let credentials: @Sendable () -> ChannelCredentials
    private let state: Mutex<State>

    /// `credentials` is asked whenever a channel is. All else, and the errors, are those of `RPCChannel`.
    package convenience init(
        target: String, maxMessageBytes: Int = RPCChannel.usualMessageBytes, pingsWhenIdle: Bool = true,
        connectTimeout: Duration = RPCChannel.usualConnectTimeout,
        handover: Duration = .seconds(10), credentials: @escaping @Sendable () -> ChannelCredentials
    ) throws(RPCError) {
        try self.init(handover: handover, credentials: credentials) { (credentials) throws(RPCError) in
            try RPCChannel(
                target: target, credentials: credentials, maxMessageBytes: maxMessageBytes,
                pingsWhenIdle: pingsWhenIdle, connectTimeout: connectTimeout)
        }
    }

    init(
        handover: Duration, credentials: @escaping @Sendable () -> ChannelCredentials,
        make: @escaping @Sendable (ChannelCredentials) throws(RPCError) -> RPCChannel
    ) throws(RPCError) {
        self.make = make
        self.handover = handover
        self.credentials = credentials
        let first = credentials()
        state = Mutex(State(channel: try make(first), credentials: first))
    }

    /// For one call.
    package var current: RPCChannel {
        let (channel, old) = state.withLock { state -> (RPCChannel, RPCChannel?) in
            // Within: who asked earlier must not come with older ones later.
            let credentials = credentials()
            guard credentials != state.credentials, !state.isClosed else { return (state.channel, nil) }
            let new: RPCChannel
            do throws(RPCError) {
                new = try make(credentials)
            } catch {
                // What the core cannot use is tried again when it changes; all else may pass, and with the next call.
                if case .credentials = error { state.credentials = credentials }
                return (state.channel, nil)
            }
            state.credentials = credentials
            return (new, state.replaceChannel(by: new))
        }
        if let old { Task { await retire(old) } }
        return channel
    }

    /// New calls go over a new connection, once a second at most: where one address stands for several servers, as a Service's
    /// in Kubernetes does, it may be with another.
    package func reconnect() {
        let old = state.withLock { state -> RPCChannel? in
            let now = ContinuousClock.now
            if state.isClosed { return nil }
            if let last = state.reconnected, now - last < Self.reconnectInterval { return nil }
            guard let new = try? make(state.credentials) else { return nil }
            state.reconnected = now
            return state.replaceChannel(by: new)
        }
        if let old { Task { await retire(old) } }
    }

    private func retire(_ channel: RPCChannel) async {
        try? await Task.sleep(for: handover)
        await channel.close(cancelling: false)
        state.withLock { $0.retiring.removeAll { $0 === channel } }
    }

    /// As `RPCChannel.close`.
    package func close() async {
        let channels = state.withLock { state in
            state.isClosed = true
            return [state.channel] + state.retiring
        }
        for channel in channels { await channel.close() }
    }
}
