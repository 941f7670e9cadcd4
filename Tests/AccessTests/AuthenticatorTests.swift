import Foundation
import IPAMModel
import KubernetesAPI
import Logging
import RPC
import Synchronization
import TestCluster
import Testing

@testable import Access

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

@Suite struct AuthenticatorTests {
    private struct Times {
        var wall = Date(timeIntervalSince1970: 1_000_000)
        var steady = ContinuousClock.now
    }

    @Test func `a token is remembered for ten minutes, whatever the wall clock does, while it holds`() async throws {
        let times = Synchronization.Mutex(Times())
        func isKnown(_ token: [UInt8], _ authenticator: Authenticator, _ tokens: TokenVerifier) async throws -> Bool {
            switch authenticator.identify(token, tokens) {
            case .admitted: return true
            case .refused(let status): throw status
            case .pending(let verify):
                _ = try await verify()
                return false
            }
        }
        try await TestCluster.run { cluster in
            let issuer = try await Issuer("first")
            cluster.setTokenKeys(issuer: Issuer.name, issuer.json(1))
            let tokens = TokenVerifier(
                .kubernetes(KubernetesClient(cluster.configuration, log: quiet)), audience: "holdfast", log: quiet,
                now: { times.withLock(\.wall) })
            let authenticator = Authenticator(
                tokens: tokens, policy: Policy(), log: quiet, now: { times.withLock { ($0.wall, $0.steady) } })
            var claims = Claims.on("node-a")
            claims.exp = 1_003_600
            let token = Array("Bearer \(try await issuer.sign(claims))".utf8)
            #expect(try await !isKnown(token, authenticator, tokens))
            #expect(try await isKnown(token, authenticator, tokens))
            // The wall clock is set back, and ten minutes go by.
            times.withLock {
                $0.wall -= 3600
                $0.steady += .seconds(599)
            }
            #expect(try await isKnown(token, authenticator, tokens))
            times.withLock { $0.steady += .seconds(2) }
            #expect(try await !isKnown(token, authenticator, tokens))
            #expect(try await isKnown(token, authenticator, tokens))
            times.withLock { $0.wall = Date(timeIntervalSince1970: 1_003_661) }
            await #expect(throws: RPCStatus.self) { try await isKnown(token, authenticator, tokens) }
        }
    }
}
