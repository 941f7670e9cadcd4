import Foundation
import IPAMModel
import KubernetesAPI
import Logging
import Synchronization
import TestCluster
import TestLog
import Testing

@testable import Access

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Tokens of an API server's service accounts, verified with its keys.
@Suite struct TokenVerifierTests {
    /// Runs `body` with an issuer of the keys "first" and "second", of which the API server shows the first.
    private func withVerifier(
        now: @escaping @Sendable () -> Date = { Date() },
        _ body: (TestCluster, Issuer, TokenVerifier) async throws -> Void
    ) async throws {
        try await TestCluster.run { cluster in
            let issuer = try await Issuer("first", "second")
            cluster.setTokenKeys(issuer: Issuer.name, issuer.json(1))
            let client = KubernetesClient(cluster.configuration, log: quiet)
            try await body(
                cluster, issuer, TokenVerifier(.kubernetes(client), audience: "holdfast", log: quiet, now: now))
        }
    }

    @Test func `a bound token says who calls, and from which node`() async throws {
        try await withVerifier { cluster, issuer, verifier in
            let identity = try await verifier.identity(of: try await issuer.sign(.on("node-a")))
            #expect(identity.name == "system:serviceaccount:holdfast:holdfast-agent" && identity.node == "node-a")
            #expect(identity.groups.contains("system:serviceaccounts:holdfast"))
            _ = try await verifier.identity(of: try await issuer.sign(.on("node-b")))
            #expect(cluster.keyReads == 1, "keys are fetched once")
        }
    }

    @Test func `where the token does not name its node, its pod does, if that is the one it was made for`() async throws
    {
        try await withVerifier { cluster, issuer, verifier in
            let token = try await issuer.sign(Claims())
            #expect(try await verifier.identity(of: token).node == nil, "there is no such pod")
            func put(uid: String) throws {
                try cluster.put(
                    """
                    {"apiVersion":"v1","kind":"Pod","metadata":{"name":"agent","namespace":"holdfast","uid":"\(uid)"},\
                    "spec":{"nodeName":"node-a"}}
                    """)
            }
            try put(uid: "another")
            #expect(try await verifier.identity(of: token).node == nil, "another pod has its name")
            try put(uid: "uid-agent")
            #expect(try await verifier.identity(of: token).node == "node-a")
        }
    }

    @Test func `claims are judged by clock, audience and issuer`() async throws {
        let clock = Synchronization.Mutex(Date(timeIntervalSince1970: 1_000_000))
        try await withVerifier(now: { clock.withLock { $0 } }) { _, issuer, verifier in
            var claims = Claims.on("node-a")
            (claims.nbf, claims.exp) = (1_000_000, 1_003_600)
            let token = try await issuer.sign(claims)
            _ = try await verifier.identity(of: token)
            for (seconds, why) in [(999_939.0, "not valid before"), (1_003_661, "expired")] {
                clock.withLock { $0 = Date(timeIntervalSince1970: seconds) }
                await expectRefused(verifier, token, why)
            }
            // Clocks may differ by a minute.
            for seconds in [999_941.0, 1_003_659] {
                clock.withLock { $0 = Date(timeIntervalSince1970: seconds) }
                _ = try await verifier.identity(of: token)
            }
            let changes: [(inout Claims) -> Void] = [
                { $0.aud = ["other"] }, { $0.aud = [] }, { $0.iss = "https://elsewhere" }, { $0.exp = nil },
                { $0.sub = nil }, { $0.aud = nil },
            ]
            for change in changes {
                var wrong = claims
                change(&wrong)
                await expectRefused(verifier, try await issuer.sign(wrong), "")
            }
        }
    }

    @Test func `a new key is fetched, and strangers' keys and issuers do not make the server fetch each time`()
        async throws
    {
        try await withVerifier { cluster, issuer, verifier in
            let stranger = try await Issuer("other")
            let elsewhere = try await issuer.sign(.of("https://elsewhere"))
            for _ in 0..<50 {
                await expectRefused(verifier, try await stranger.sign(.on("n"), with: "other"), "none of")
                await expectRefused(verifier, elsewhere, "its issuer is https://elsewhere")
            }
            #expect(cluster.keyReads <= 2)
            await expectRefused(verifier, try await Issuer("first").sign(.on("n")), "signature")
            cluster.setTokenKeys(issuer: Issuer.name, issuer.json())
            try await expectTaken(verifier, try await issuer.sign(.on("node-a"), with: "second"))
        }
    }

    @Test func `a new issuer is fetched, and for a day tokens of the one before hold, by keys that are still there`()
        async throws
    {
        let clock = Synchronization.Mutex(Date(timeIntervalSince1970: 1_000_000))
        try await withVerifier(now: { clock.withLock { $0 } }) { cluster, issuer, verifier in
            let (old, new) = (try await issuer.sign(.on("node-a")), try await issuer.sign(.of("https://new")))
            _ = try await verifier.identity(of: old)
            cluster.setTokenKeys(issuer: "https://new", issuer.json(1))
            try await expectTaken(verifier, new)
            clock.withLock { $0 += 86_399 }
            _ = try await verifier.identity(of: old)
            clock.withLock { $0 += 1 }
            await expectRefused(verifier, old, "its issuer is \(Issuer.name), not https://new")

            // The issuer before is back: now the other one is the former.
            cluster.setTokenKeys(issuer: Issuer.name, issuer.json(1))
            try await expectTaken(verifier, old)
            _ = try await verifier.identity(of: new)
            let other = try await Issuer("other")
            cluster.setTokenKeys(issuer: Issuer.name, other.json())
            try await expectTaken(verifier, try await other.sign(.on("node-a"), with: "other"))
            await expectRefused(verifier, new, "none of")
        }
    }

    @Test func `where an option names the issuer, another one is refused without a look at the file`() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "keys-\(UUID()).json")
        defer { try? FileManager.default.removeItem(at: file) }
        let issuer = try await Issuer("first")
        try issuer.json().write(to: file, atomically: true, encoding: .utf8)
        let verifier = TokenVerifier(.file(file.path, issuer: Issuer.name), audience: "holdfast", log: quiet)
        _ = try await verifier.identity(of: try await issuer.sign(.on("node-a")))
        try FileManager.default.removeItem(at: file)
        // From now on it would be read.
        try await Task.sleep(for: .seconds(5.1))
        await expectRefused(verifier, try await issuer.sign(.of("https://elsewhere")), "its issuer is")
    }

    @Test func `an API server that gives no keys is no verdict on the token`() async throws {
        try await TestCluster.run { cluster in
            let client = KubernetesClient(cluster.configuration, log: quiet)
            let verifier = TokenVerifier(.kubernetes(client), audience: "holdfast", log: quiet)
            let token = try await Issuer("first").sign(.on("node-a"))
            await #expect {
                try await verifier.identity(of: token)
            } throws: { ($0 as? IPAMError)?.reason == .tokenKeysUnavailable && ($0 as? IPAMError)?.isRetryable == true }
        }
    }

    @Test func `that there are no keys is told once, not at every fetch`() async throws {
        try await TestCluster.run { cluster in
            cluster.setTokenKeys(issuer: Issuer.name, "[]")
            let client = KubernetesClient(cluster.configuration, log: quiet)
            let log = RecordedLog(.info)
            let verifier = TokenVerifier(.kubernetes(client), audience: "holdfast", log: log.logger)
            let token = try await Issuer("first").sign(.on("node-a"))
            let running = Task { await verifier.run() }
            defer { running.cancel() }
            let deadline = ContinuousClock.now + .seconds(30)
            while cluster.keyReads < 2 {
                try #require(ContinuousClock.now < deadline)
                try await Task.sleep(for: .milliseconds(50))
            }
            // After that fetch has come to its end.
            await #expect(throws: IPAMError.self) { try await verifier.identity(of: token) }
            #expect(log.lines.count == 1 && !verifier.hasKeys)
            cluster.setTokenKeys(issuer: Issuer.name, try await Issuer("first").json())
            while !verifier.hasKeys {
                try #require(ContinuousClock.now < deadline)
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    @Test func `a key or an issuer that is not known is no verdict either, while newer keys cannot be had`()
        async throws
    {
        try await withVerifier { cluster, issuer, verifier in
            let known = try await issuer.sign(.on("node-a"))
            _ = try await verifier.identity(of: known)
            await cluster.stop()
            let token = try await issuer.sign(.on("node-a"), with: "second")
            let elsewhere = try await issuer.sign(.of("https://elsewhere"))
            // Until it may be asked again, the keys at hand are the newest.
            await expectRefused(verifier, token, "none of")
            await expectRefused(verifier, elsewhere, "its issuer is")
            try await Task.sleep(for: .seconds(5.1))
            for token in [elsewhere, token, elsewhere] {
                await #expect {
                    try await verifier.identity(of: token)
                } throws: { ($0 as? IPAMError)?.reason == .tokenKeysUnavailable }
            }
            _ = try await verifier.identity(of: known)
        }
    }

    @Test func `few callers who are not known wait for an API server that hangs, and others are refused at once`()
        async throws
    {
        try await withVerifier { cluster, issuer, verifier in
            // The issuer and its keys.
            cluster.delay(.seconds(1))
            let token = try await issuer.sign(.on("node-a"))
            let outcomes = await withTaskGroup(of: IPAMError.Reason?.self) { group in
                for _ in 0..<200 {
                    group.addTask {
                        do throws(IPAMError) {
                            _ = try await verifier.identity(of: token)
                            return nil
                        } catch {
                            return error.reason
                        }
                    }
                }
                return await group.reduce(into: [:]) { $0[$1, default: 0] += 1 }
            }
            #expect(outcomes == [nil: 64, .overloaded: 136])
            #expect(cluster.keyReads == 1)
            _ = try await verifier.identity(of: token)
        }
    }

    /// Numbers that fit no Int have ended the process, for whoever sent them.
    @Test(arguments: [
        #""nbf": -1e300"#, #""n": 1e19"#, #""n": 1"#, #""n": "a", "n": 1e300"#, #""n": 1e300, "n": "a""#,
        #""jwk": {"e": [1e300]}"#, #""x5c": [1e300]"#,
    ])
    func `a header with anything but texts is refused`(field: String) async throws {
        func part(_ json: String) -> String {
            Data(json.utf8).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
                "=", with: "")
        }
        let claims = #"{"iss": "i", "sub": "anna", "aud": "holdfast", "exp": 1}"#
        let token = part(#"{"alg": "RS256", "kid": "first", \#(field)}"#) + "." + part(claims) + ".AA"
        try await withVerifier { _, _, verifier in await expectRefused(verifier, token, "") }
    }

    @Test func `groups that Kubernetes gives are not taken from a token's own claim`() {
        let identity = { (claims: TokenClaims) in claims.allGroups }
        var claims = TokenClaims(
            issuer: "i", subject: "anna", audience: .init(names: []), expires: 0,
            groups: ["ops", "system:masters", "system:serviceaccounts"])
        #expect(identity(claims) == ["ops"])
        claims.kubernetes = .init(namespace: "kube-system")
        #expect(identity(claims) == ["ops"], "the subject is no service account of that namespace")
    }

    /// Once keys may be fetched again.
    private func expectTaken(_ verifier: TokenVerifier, _ token: String) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while (try? await verifier.identity(of: token)) == nil {
            try #require(ContinuousClock.now < deadline)
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    private func expectRefused(_ verifier: TokenVerifier, _ token: String, _ why: String) async {
        await #expect {
            try await verifier.identity(of: token)
        } throws: { error in
            let error = error as? IPAMError
            return error?.reason == .tokenRefused && (why.isEmpty || error?.message.contains(why) == true)
        }
    }
}
