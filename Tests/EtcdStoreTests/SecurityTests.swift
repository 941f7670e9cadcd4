import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import StoreConformance
import Synchronization
import TestLog
import Testing

@testable import EtcdStore

/// A real etcd with TLS, client certificates, users and roles.
@Suite(.serialized, .enabled(if: EtcdCluster.isInstalled)) struct `A closed etcd` {
    private let prefix = "/holdfast/\(UUID())/"
    private let folder = FileManager.default.temporaryDirectory.appending(
        path: "holdfast-closed-\(UUID().uuidString.prefix(8))")

    private func open(_ configuration: EtcdConfiguration) throws(StoreError) -> EtcdTenure {
        try EtcdTenure.open(configuration, as: "test")
    }

    private func commitAndRead(_ tenure: EtcdTenure, revision: UInt64 = 1) throws {
        let binding = Example.binding(owner: Int(revision), address: Int(revision))
        try tenure.commit([.putBinding(binding)], revision: revision)
        #expect(try tenure.load().bindings.contains(binding))
    }

    @Test func `lets in who shows a certificate of its authority, and nobody else`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let certificates = try Certificates(in: folder.appending(path: "ours"))
        let others = try Certificates(in: folder.appending(path: "others"))
        let etcd = try EtcdCluster(certificates: certificates)
        var configuration = etcd.configuration(prefix)
        let credentials = try certificates.credentials()
        configuration.credentials = { credentials }
        let tenure = try open(configuration)
        try commitAndRead(tenure)
        tenure.close()

        let theirs = try others.credentials()
        let nameless = ChannelCredentials.tls(roots: try certificates.pem("ca.pem"))
        let stranger = ChannelCredentials.tls(
            roots: try certificates.pem("ca.pem"), certificateChain: try others.pem("client.pem"),
            privateKey: try others.pem("client.key"))
        for credentials in [theirs, nameless, stranger, .insecure] {
            configuration.credentials = { credentials }
            #expect { try open(configuration) } throws: { ($0 as? StoreError)?.code == .failed }
        }
    }

    /// Makes `holdfast` with the password `secret`, who may use the prefix only, and puts authentication on.
    private func makeUsers(_ etcd: EtcdCluster, prefix: String? = nil) throws {
        for command in [
            ["role", "add", "holdfast"],
            ["role", "grant-permission", "--prefix=true", "holdfast", "readwrite", prefix ?? self.prefix],
            ["user", "add", "holdfast:secret"], ["user", "grant-role", "holdfast", "holdfast"],
            ["user", "add", "root:root"], ["user", "grant-role", "root", "root"], ["auth", "enable"],
        ] {
            let (status, text) = try etcd.ctl(command)
            if status != 0 { throw Failure("etcdctl \(command.joined(separator: " ")): \(text)") }
        }
        etcd.user = "root:root"
    }

    @Test func `with users lets in the one whose role has the prefix, and says what is wrong to all others`() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let certificates = try Certificates(in: folder)
        let etcd = try EtcdCluster(members: 3, certificates: certificates)
        try makeUsers(etcd)
        var configuration = etcd.configuration(prefix)
        let credentials = try certificates.credentials()
        configuration.credentials = { credentials }
        configuration.user = ("holdfast", { "secret" })
        // The whole way of a server: election, watch, lease, commits.
        let leading = try LeadingStore(configuration)
        try leading.commit([.putBinding(Example.binding(owner: 1, address: 1))], revision: 1)
        #expect(try leading.load().bindings.count == 1)
        leading.close()

        func refusal(_ change: (inout EtcdConfiguration) -> Void) -> StoreError? {
            var other = configuration
            change(&other)
            do throws(StoreError) {
                try open(other).close()
                return nil
            } catch { return error }
        }
        for error in [
            refusal { $0.user = ("holdfast", { "wrong" }) }, refusal { $0.user = ("nobody", { "secret" }) },
            refusal { $0.prefix = "/holdfast/elsewhere/" },
        ] {
            #expect(error?.code == .unwritable)
            #expect(
                error?.message.contains("look at --etcd-user and --etcd-password-file") == true,
                "\(error?.message ?? "let in")")
        }
    }

    /// To read is allowed key by key, to watch them all is not.
    @Test func `that lets nobody watch what may be read is told once, and not asked again at once`() async throws {
        let etcd = try EtcdCluster()
        try makeUsers(etcd)
        let keys = EtcdKeys(prefix: prefix)
        try etcd.ctl("role", "revoke-permission", "--prefix=true", "holdfast", prefix)
        for key in [keys.leader, keys.revision] {
            try etcd.ctl("role", "grant-permission", "holdfast", "readwrite", key)
        }
        for keys in [keys.pools, keys.bindings, keys.addresses, keys.freed, keys.history, keys.historyIndex] {
            try etcd.ctl("role", "grant-permission", "--prefix=true", "holdfast", "readwrite", keys)
        }
        var configuration = etcd.configuration(prefix)
        configuration.user = ("holdfast", { "secret" })
        let client = try EtcdClient(configuration)
        let log = RecordedLog(.notice)
        let changes = Atomic(0)
        let follower = LedgerFollower(client, keys, logger: log.logger) { changes.add(1, ordering: .relaxed) }
        follower.start()
        // Each time it has read the ledger, and is refused.
        #expect(eventually { changes.load(ordering: .relaxed) >= 6 })
        follower.stop()
        #expect(log.lines.count == 1 && log.lines.first?.contains("permission denied") == true, "\(log.lines)")
        await client.close()
    }

    @Test func `whose tokens end is asked for new ones, and no call fails for it`() async throws {
        let etcd = try EtcdCluster(flags: ["--auth-token-ttl", "1", "--logger", "zap", "--log-level", "info"])
        try makeUsers(etcd)
        var configuration = etcd.configuration(prefix)
        configuration.user = ("holdfast", { "secret" })
        let client = try EtcdClient(configuration)
        _ = try client.range(from: prefix, timeout: .seconds(20))
        // etcd looks every second for tokens that were not used for one.
        #expect(
            eventually {
                etcd.log(0).split(separator: "\n").contains {
                    $0.contains("deleted a simple token") && $0.contains("holdfast")
                }
            })
        _ = try client.range(from: prefix, timeout: .seconds(20))
        await client.close()
    }

    /// To be let in is a call of its own.
    @Test func `a call takes no longer than it may, though it must be let in before`() async throws {
        let etcd = try EtcdCluster()
        try makeUsers(etcd)
        let wire = try Wire(to: etcd.members[0].client)
        defer { wire.close() }
        var configuration = etcd.configuration(prefix)
        configuration.endpoints = [wire.endpoint]
        let password = Synchronization.Mutex("wrong")
        configuration.user = ("holdfast", { password.withLock(\.self) })
        let client = try EtcdClient(configuration)
        // Connects.
        #expect(throws: RPCStatus.self) { try client.range(from: prefix, timeout: .seconds(20)) }
        password.withLock { $0 = "secret" }
        let before = wire.count(.requests)
        wire.hold(.requests)
        Thread.detachNewThread {
            guard eventually({ wire.has("secret", in: .requests, after: before) }) else { return }
            // Who calls is let in late, and the call itself never comes.
            usleep(3_000_000)
            wire.deliver(.requests, upTo: "secret")
        }
        let start = ContinuousClock.now
        #expect(throws: RPCStatus.self) { try client.range(from: prefix, timeout: .seconds(4)) }
        // With as much again for the call itself it would be seven.
        #expect(.now - start < .seconds(6))
        await client.close()
    }

    /// A signed token has in it of which state of users and roles it is: each change of them makes it old.
    @Test func `whose signed tokens grow old is asked for new ones, and no call fails for it`() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let key = folder.appending(path: "key")
        try Data(UUID().uuidString.utf8).write(to: key)
        let etcd = try EtcdCluster(flags: ["--auth-token", "jwt,priv-key=\(key.path),sign-method=HS256"])
        try makeUsers(etcd)
        var configuration = etcd.configuration(prefix)
        configuration.user = ("holdfast", { "secret" })
        let client = try EtcdClient(configuration)
        _ = try client.range(from: prefix, timeout: .seconds(20))
        try etcd.ctl("role", "add", "another")
        _ = try client.range(from: prefix, timeout: .seconds(20))
        await client.close()
    }

    /// The order that day-two.md tells: the file first.
    @Test func `whose password changes is asked with the new one, and no call fails for it`() async throws {
        let etcd = try EtcdCluster()
        try makeUsers(etcd)
        let password = Mutex("secret")
        var configuration = etcd.configuration(prefix)
        configuration.user = ("holdfast", { password.withLock(\.self) })
        let client = try EtcdClient(configuration)
        _ = try client.range(from: prefix, timeout: .seconds(20))
        password.withLock { $0 = "another" }
        _ = try client.range(from: prefix, timeout: .seconds(20))
        try etcd.ctl("user", "delete", "holdfast")
        try etcd.ctl("user", "add", "holdfast:another")
        try etcd.ctl("user", "grant-role", "holdfast", "holdfast")
        _ = try client.range(from: prefix, timeout: .seconds(20))
        await client.close()
    }

    /// As they are renewed in a cluster: by others, in the files that a server was given, while it runs.
    @Test func `whose authority and password are others now is reached by a server that goes on`() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let certificates = try Certificates(in: folder.appending(path: "etcd"))
        let shown = folder.appending(path: "shown")
        try FileManager.default.createDirectory(at: shown, withIntermediateDirectories: true)
        func show(password: String) throws {
            for name in ["ca.pem", "client.pem", "client.key"] {
                try Data(certificates.pem(name).utf8).write(to: shown.appending(path: name), options: .atomic)
            }
            try Data("\(password)\n".utf8).write(to: shown.appending(path: "password"), options: .atomic)
        }
        try show(password: "secret")
        let etcd = try EtcdCluster(certificates: certificates)
        try makeUsers(etcd, prefix: "/holdfast/ha/")
        let servers = try Servers(
            etcd,
            places: [
                Servers.Place(environment: [
                    "HOLDFAST_ETCD_CA": shown.path + "/ca.pem", "HOLDFAST_ETCD_CERT": shown.path + "/client.pem",
                    "HOLDFAST_ETCD_KEY": shown.path + "/client.key", "HOLDFAST_ETCD_USER": "holdfast",
                    "HOLDFAST_ETCD_PASSWORD_FILE": shown.path + "/password",
                ])
            ])
        try await servers.waitUntilServing()

        try etcd.ctl("user", "delete", "holdfast")
        try etcd.ctl("user", "add", "holdfast:another")
        try etcd.ctl("user", "grant-role", "holdfast", "holdfast")
        etcd.kill(0)
        _ = try Certificates(in: folder.appending(path: "etcd"))
        try etcd.start(0)
        #expect(try eventually { try etcd.ctl(["endpoint", "health"]).status == 0 }, "\(etcd.log(0).suffix(2000))")
        let client = try IPAMClient(server: servers.list)
        func allocates(_ name: String) async -> Bool {
            let owner = Owner(kind: .virtualMachine, namespace: "default", name: name, network: "vm-net/eth0")
            return (try? await client.allocate(AllocateRequest(owner: owner), timeout: .seconds(2))) != nil
        }
        #expect(await !allocates("before"), "etcd wants another certificate and password")
        try show(password: "another")
        #expect(await eventually { await allocates("after") }, "\(servers.logs)")
        await client.close()
    }

    /// As in Kubernetes: one certificate, for the Service's name; followers name the leader by its pod's address.
    @Test func `is no hindrance to servers with one certificate, which name each other by address`() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let certificates = try Certificates(in: folder, names: "DNS:localhost")
        let ports = try (0..<2).map { _ in try freePort() }
        let environment = [
            "HOLDFAST_TLS_CERT": certificates.path("server.pem"), "HOLDFAST_TLS_KEY": certificates.path("server.key"),
        ]
        let servers = try Servers(
            try EtcdCluster(),
            places: ports.map { Servers.Place(address: "127.0.0.1:\($0)", environment: environment) })
        let leader = try servers.waitForLeader()
        let credentials = ChannelCredentials.tls(roots: try certificates.pem("ca.pem"))
        let client = try IPAMClient(server: "localhost:\(ports[1 - leader])", credentials: credentials)
        #expect(
            await eventually {
                (try? await client.pools(timeout: .seconds(5)))?.isEmpty == false
            }, "\(servers.logs)")
        await client.close()
    }
}
