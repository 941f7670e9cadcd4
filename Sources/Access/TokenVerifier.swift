package import Foundation
package import IPAMModel
import JWTKit
import KubernetesAPI
package import Logging
import ServiceLifecycle
import Synchronization
import Telemetry

/// Verifies tokens with their issuer's keys, which it fetches ahead of the first token, again for a key or an issuer that
/// it does not know, and now and then, because keys are withdrawn as well.
package actor TokenVerifier: Service {
    /// Between two fetches, whoever asks with whatever key.
    private static let pause = Duration.seconds(5)
    /// After this long the keys are fetched anew, while those at hand serve.
    private static let interval = Duration.seconds(600)
    /// After a change of the API server's issuer, how long tokens of the one before are taken, if they do not expire
    /// earlier. Of several `--service-account-issuer` the API server trusts all, but shows the first alone. The kubelet
    /// replaces each token that is a day old (kubernetes pkg/kubelet/token/token_manager.go, maxTTL), so by then no pod
    /// has one of the old issuer's; OpenShift trusts that one for a day as well.
    private static let formerIssuerHolds = 86_400.0
    /// Clocks differ; as much as the API server allows.
    private static let leeway = 60.0
    /// Calls that wait for the API server at a time: nobody knows whose they are, and it may hang.
    private static let mostWaiting = 64

    private struct Keys: Sendable {
        var issuer: String
        var ids: Set<String>
        var collection: JWTKeyCollection
    }

    private let source: KeySource
    private let audience: String
    private let log: Logger
    private let now: @Sendable () -> Date
    private var keys: Keys?
    /// Issuers that the API server has shown before its present one, and until when their tokens are taken.
    private var formerIssuers: [String: Date] = [:]
    private var fetchedAt: ContinuousClock.Instant?
    private var fetching: Task<Void, Never>?
    private var waiting = 0
    /// Why the last fetch brought none; nil where it did.
    private var failure: String? = "they were not fetched yet"
    /// That they cannot be had.
    private var complaint = Complaint()
    private let hasSome = Atomic(false)
    /// Whether there are keys to tell by, be they old: without, every token is answered with TOKEN_KEYS_UNAVAILABLE.
    package nonisolated var hasKeys: Bool { hasSome.load(ordering: .relaxed) }

    package init(
        _ source: KeySource, audience: String, log: Logger, now: @escaping @Sendable () -> Date = { Date() }
    ) {
        self.source = source
        self.audience = audience
        self.log = log
        self.now = now
    }

    /// Fetches the keys now and then, until graceful shutdown. Where they cannot be had, that is logged.
    package func run() async {
        await cancelWhenGracefulShutdown {
            repeat { await self.fetch() } while await self.pauses()
        }
    }

    private func pauses() async -> Bool {
        (try? await Task.sleep(for: keys == nil ? Self.pause : Self.interval)) != nil
    }

    /// Throws UNAUTHENTICATED with what is wrong with the token, UNAVAILABLE where there are no keys to tell by, and
    /// OVERLOADED where too many wait for them already.
    package func identity(of token: String) async throws(IPAMError) -> TokenIdentity {
        let parsed: (header: JWTHeader, payload: TokenClaims, signature: Data)
        do {
            parsed = try TokenClaims.parse(Array(token.utf8))
        } catch {
            throw .tokenRefused("it is no JSON Web Token with issuer, subject, audience and expiry")
        }
        guard let id = parsed.header.kid else { throw .tokenRefused("it does not name its key (kid)") }
        let keys = try await keys(with: id, of: parsed.payload.issuer)
        let claims: TokenClaims
        do {
            claims = try await keys.collection.verify(token, as: TokenClaims.self)
        } catch {
            throw .tokenRefused("its signature is not of the key \(id) that it names")
        }
        try check(claims, issuer: keys.issuer)
        return TokenIdentity(
            name: claims.subject, groups: claims.allGroups, node: try await node(of: claims),
            expires: Date(timeIntervalSince1970: claims.expires + Self.leeway))
    }

    private func check(_ claims: TokenClaims, issuer: String) throws(IPAMError) {
        guard trusts(claims.issuer) else {
            throw .tokenRefused("its issuer is \(claims.issuer), not \(issuer)")
        }
        guard claims.audience.names.contains(audience) else {
            throw .tokenRefused("it is for \(claims.audience.names.joined(separator: ", ")), not for \(audience)")
        }
        let now = now().timeIntervalSince1970
        guard claims.expires + Self.leeway > now else {
            throw .tokenRefused("it has expired at \(Timestamp(seconds: Int64(clamping: claims.expires)))")
        }
        if let notBefore = claims.notBefore, notBefore - Self.leeway > now {
            throw .tokenRefused("it is not valid before \(Timestamp(seconds: Int64(clamping: notBefore)))")
        }
    }

    /// Clusters before 1.30 do not write the node into tokens: there the pod tells.
    private func node(of claims: TokenClaims) async throws(IPAMError) -> String? {
        if let node = claims.kubernetes?.node { return node.name }
        guard let namespace = claims.kubernetes?.namespace, let pod = claims.kubernetes?.pod, let uid = pod.uid else {
            return nil
        }
        try beginToWait()
        defer { waiting -= 1 }
        do {
            return try await source.node(ofPod: pod.name, uid: uid, namespace: namespace)
        } catch {
            throw .keysUnavailable("the token does not name its node, and its pod cannot be looked up: \(error)")
        }
    }

    // MARK: Keys

    private func trusts(_ issuer: String) -> Bool {
        issuer == keys?.issuer || formerIssuers[issuer].map { now() < $0 } ?? false
    }

    /// Those at hand, unless a fetch may bring the key `id`, or `issuer`.
    private func keys(with id: String, of issuer: String) async throws(IPAMError) -> Keys {
        if let keys, keys.ids.contains(id), trusts(issuer) || !source.discoversIssuer { return keys }
        if fetching != nil || fetchedAt.map({ .now - $0 >= Self.pause }) ?? true {
            try beginToWait()
            await fetch()
            waiting -= 1
        }
        // A key that is not among older ones may be among those that cannot be had, and so may an issuer.
        guard failure == nil, let keys else {
            throw .keysUnavailable("the keys of tokens cannot be had: \(failure ?? "")")
        }
        guard keys.ids.contains(id) else { throw .tokenRefused("its key \(id) is none of \(keys.issuer)'s") }
        return keys
    }

    private func beginToWait() throws(IPAMError) {
        guard waiting < Self.mostWaiting else { throw .tooManyUnknown }
        waiting += 1
    }

    /// One at a time: who comes meanwhile waits for the same.
    private func fetch() async {
        if let fetching { return await fetching.value }
        fetchedAt = .now
        let task = Task {
            do {
                take(try await Self.read(source))
            } catch {
                complain((error as? KubernetesError)?.message ?? error.localizedDescription)
            }
            fetching = nil
        }
        fetching = task
        await task.value
    }

    private func take(_ new: Keys) {
        if let issuer = keys?.issuer, issuer != new.issuer {
            formerIssuers[issuer] = now() + Self.formerIssuerHolds
        }
        if new.ids != keys?.ids || new.issuer != keys?.issuer {
            log.info(
                "keys of tokens",
                metadata: ["issuer": "\(new.issuer)", "keys": "\(new.ids.sorted().joined(separator: " "))"])
        }
        keys = new
        hasSome.store(true, ordering: .relaxed)
        (failure, complaint) = (nil, Complaint())
    }

    private func complain(_ reason: String) {
        failure = reason
        guard let failed = complaint.count() else { return }
        log.error("keys of tokens cannot be had", metadata: ["error": "\(reason)", "failed": "\(failed)"])
    }

    private static func read(_ source: KeySource) async throws -> Keys {
        let fetched = try await source.fetch()
        let set = try JSONDecoder().decode(JWKS.self, from: Data(fetched.json.utf8))
        let collection = try await JWTKeyCollection().add(jwks: set)
        return Keys(
            issuer: fetched.issuer, ids: Set(set.keys.compactMap { $0.keyIdentifier?.string }), collection: collection)
    }
}

extension TokenClaims {
    /// RFC 7515, section 4.1: texts, and lists of them.
    private struct HeaderValue: Decodable {
        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if (try? container.decode(String.self)) == nil { _ = try container.decode([String].self) }
        }
    }

    /// A token's parts; nothing is verified. Throws where it is malformed.
    ///
    /// jwt-kit makes an Int of each whole number in a header, which ends the process where that is too large (5.7,
    /// JWTHeaderField), for whoever sends it. So a header with anything but texts does not get there.
    static func parse(_ token: [UInt8]) throws -> (header: JWTHeader, payload: TokenClaims, signature: Data) {
        let encoded = String(decoding: token.prefix { $0 != UInt8(ascii: ".") }, as: UTF8.self)
            .replacing("-", with: "+").replacing("_", with: "/")
        let padding = String(repeating: "=", count: (4 - encoded.utf8.count % 4) % 4)
        guard let header = Data(base64Encoded: encoded + padding) else {
            throw JWTError.malformedToken(reason: "its header is not Base64")
        }
        _ = try JSONDecoder().decode([String: HeaderValue].self, from: header)
        return try DefaultJWTParser().parse(token, as: TokenClaims.self)
    }
}

extension TokenClaims: JWTPayload {
    /// Claims are looked at by the verifier, whose clock and audience they are.
    func verify(using algorithm: some JWTAlgorithm) throws {}
}

extension Int64 {
    /// Any number that a token may hold, however large.
    fileprivate init(clamping number: Double) { self = Int64(exactly: number.rounded()) ?? (number < 0 ? .min : .max) }
}
