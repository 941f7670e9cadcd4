import Crypto
package import Foundation
import IPAMAPI
package import IPAMModel
package import Logging
package import RPC
import Synchronization

/// Tells whose a call is: by its token, else by its client's certificate, else by the socket that it came through.
///
/// A token is verified once, and remembered by its hash for as long as that holds: the calls after cost a hash.
package final class Authenticator: Sendable {
    /// How long a verification holds at most: within that time a withdrawn key, a deleted pod or a changed cluster is noticed.
    private static let holds = Duration.seconds(600)
    /// Remembered tokens: more than there are nodes; an attacker's are not remembered.
    private static let capacity = 20_000

    private struct Known {
        var caller: Caller
        /// The token's own end, by the wall clock.
        var expires: Date
        /// Whatever becomes of that clock.
        var until: ContinuousClock.Instant

        func holds(at now: (wall: Date, steady: ContinuousClock.Instant)) -> Bool {
            expires > now.wall && until > now.steady
        }
    }

    private struct State {
        var policy: Policy
        var known: [SHA256Digest: Known] = [:]
        /// Counts policies: what was judged by an older one is not remembered.
        var generation = 0
    }

    private let tokens: TokenVerifier?
    private let state: Mutex<State>
    private let log: Logger
    private let now: @Sendable () -> (wall: Date, steady: ContinuousClock.Instant)

    /// `tokens` nil: only certificates and sockets tell.
    package init(
        tokens: TokenVerifier?, policy: Policy, log: Logger,
        now: @escaping @Sendable () -> (wall: Date, steady: ContinuousClock.Instant) = { (Date(), .now) }
    ) {
        self.tokens = tokens
        state = Mutex(State(policy: policy))
        self.log = log
        self.now = now
    }

    /// From now on everybody has the roles that `policy` gives.
    package func set(_ policy: Policy) {
        state.withLock { state in
            state.policy = policy
            state.known = [:]
            state.generation += 1
        }
    }

    package func identify(_ call: ServerCall) -> Admission<Caller> {
        // Who shows a token is who it says, and not whose certificate the connection has.
        if let tokens, let header = call.metadata("authorization") { return identify(header, tokens) }
        let names = call.identity.names
        if !names.isEmpty { return .admitted(state.withLock { $0.policy }.caller(withCertificate: names)) }
        // Whoever may open the file: its permissions are the policy.
        if call.peer.hasPrefix("unix:") { return .admitted(.localUser) }
        return .refused(IPAMError.noCredentials.status)
    }

    /// By what the metadata `authorization` says.
    func identify(_ header: [UInt8], _ tokens: TokenVerifier) -> Admission<Caller> {
        guard let token = Self.bearer(header) else {
            return .refused(IPAMError.tokenRefused("the metadata authorization is not \"Bearer TOKEN\"").status)
        }
        let hash = SHA256.hash(data: token)
        let now = now()
        let known = state.withLock { state -> Caller? in
            guard let known = state.known[hash], known.holds(at: now) else { return nil }
            return known.caller
        }
        if let known { return .admitted(known) }
        return .pending { () async throws(RPCStatus) in
            try await self.verify(String(decoding: token, as: UTF8.self), hash, tokens)
        }
    }

    private func verify(
        _ token: String, _ hash: SHA256Digest, _ tokens: TokenVerifier
    ) async throws(RPCStatus) -> Caller {
        let generation = state.withLock { $0.generation }
        let identity: TokenIdentity
        do throws(IPAMError) {
            identity = try await tokens.identity(of: token)
        } catch {
            log.debug("token refused", metadata: ["error": "\(error.message)"])
            throw error.status
        }
        let now = now()
        return state.withLock { state in
            let caller = state.policy.caller(with: identity)
            guard state.generation == generation else { return caller }
            if state.known.count >= Self.capacity { state.known = state.known.filter { $0.value.holds(at: now) } }
            if state.known.count >= Self.capacity { state.known = [:] }
            state.known[hash] = Known(
                caller: caller, expires: identity.expires, until: now.steady + Self.holds)
            return caller
        }
    }

    /// RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1).
    private static func bearer(_ header: [UInt8]) -> ArraySlice<UInt8>? {
        let scheme = Array("bearer ".utf8)
        guard header.count > scheme.count, zip(header, scheme).allSatisfy({ $0 | 0x20 == $1 }) else { return nil }
        return header.dropFirst(scheme.count)
    }
}

extension Caller {
    /// Through a unix socket: who may open it has the server's own rights on its machine.
    package static let localUser = Caller(name: "unix", roles: .any)
}

extension PeerIdentity {
    /// The common name first; empty without a certificate.
    fileprivate var names: [String] {
        guard isAuthenticated else { return [] }
        let common = commonName.flatMap { $0.isEmpty ? nil : $0 }
        return [common].compactMap(\.self) + alternativeNames.filter { !$0.isEmpty && $0 != common }
    }
}
