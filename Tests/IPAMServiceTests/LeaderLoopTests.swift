import Foundation
import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import Testing

@testable import IPAMService

@Suite(.timeLimit(.minutes(1))) struct LeaderLoopTests {
    private func writer(leader: String?) -> Writer {
        Writer(
            Ledger(), store: FollowersStore(leader: leader),
            clock: LedgerClock(wallClock: Timestamp(seconds: 1), notBefore: Timestamp(seconds: 1)),
            logger: Logger(label: "test"))
    }

    @Test func `two servers that name each other as leader are asked with pauses`() async throws {
        try await withServersThatNameEachOther { client, calls in
            let owner = Owner(kind: .pod, namespace: "a", name: "b", uid: "c", network: "n")
            let error = await #expect(throws: IPAMError.self) {
                try await client.binding(of: owner, timeout: .seconds(5))
            }
            // The last attempt may have had no time left.
            #expect(error?.reason == .notLeader || error?.reason == .noAnswer)
            // One in 50 ms, and one more that is followed at once; without a pause there are thousands.
            #expect((2...120).contains(calls("GetBinding")), "\(calls("GetBinding")) calls in 5 s")
        }
    }

    @Test func `a leader that does not answer is named by its address`() async throws {
        let leader = "unix:/nonexistent/leader.sock"
        let follower = try RPCServer(
            configuration: .init(listeners: [.init("127.0.0.1:0")]), services: writer(leader: leader).services(.open))
        let client = try IPAMClient(server: try #require(try follower.start().first))
        let owner = Owner(kind: .pod, namespace: "a", name: "b", uid: "c", network: "n")
        // The two are asked in turn, and either word may be the last: also the follower's, had it no time left to answer.
        var error: IPAMError?
        func isNamed() -> Bool { [error?.metadata["leader"], error?.metadata["server"]].contains(leader) }
        for _ in 0..<5 where !isNamed() {
            error = await #expect(throws: IPAMError.self) {
                try await client.binding(of: owner, timeout: .milliseconds(200))
            }
        }
        #expect(isNamed(), "\(String(describing: error))")
        // A watch asks one of them.
        error = nil
        for _ in 0..<3 where error?.reason != .noAnswer {
            error = await #expect(throws: IPAMError.self) { for try await _ in client.watch(BindingFilter()) {} }
        }
        #expect(isNamed(), "\(String(describing: error))")
        await client.close()
        await follower.shutdown(grace: .seconds(1))
    }

    /// As a Service in Kubernetes does: who is connected stays with that server.
    @Test(arguments: [nil, "unix:/nonexistent/leader.sock"])
    func `of several servers behind one name another is asked, where the first does not know who leads`(leader: String?)
        async throws
    {
        let folder = FileManager.default.temporaryDirectory.appending(path: "hf-\(UUID().uuidString.prefix(8))").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let servers = try ["first", "second"].map { name in
            try RPCServer(
                configuration: .init(listeners: [.init("unix:\(folder)/\(name)")]),
                services: writer(leader: leader).services(.open))
        }
        for server in servers { _ = try server.start() }
        func isAsked(_ server: RPCServer) -> Bool {
            server.statistics.contains { $0.method == "GetBinding" && $0.ended.contains { $0.count > 0 } }
        }
        func point(to server: String) throws {
            try? FileManager.default.removeItem(atPath: folder + "/name")
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/name", withDestinationPath: "\(folder)/\(server)")
        }
        try point(to: "first")
        let client = try IPAMClient(server: "unix:\(folder)/name")
        let call = Task {
            let owner = Owner(kind: .pod, namespace: "a", name: "b", uid: "c", network: "n")
            _ = try? await client.binding(of: owner, timeout: .seconds(40))
        }
        #expect(await eventually { isAsked(servers[0]) })
        #expect(!isAsked(servers[1]))
        try point(to: "second")
        #expect(await eventually { isAsked(servers[1]) })
        call.cancel()
        await client.close()
        for server in servers { await server.shutdown(grace: .seconds(1)) }
    }

    private func eventually(_ condition: () -> Bool) async -> Bool {
        let deadline = ContinuousClock.now + .seconds(20)
        while !condition() {
            if .now > deadline { return false }
            try? await Task.sleep(for: .milliseconds(10))
        }
        return true
    }

    @Test func `also for a backup, and not for ever`() async throws {
        try await withServersThatNameEachOther { client, calls in
            let error = await #expect(throws: IPAMError.self) {
                try await client.backup(withoutHistory: false) { _ in }
            }
            #expect(error?.reason == .notLeader)
            #expect((2...240).contains(calls("Backup")), "\(calls("Backup")) calls in 10 s")
        }
    }

    private func withServersThatNameEachOther(
        _ body: (IPAMClient, _ calls: (String) -> UInt64) async throws -> Void
    ) async throws {
        let (first, second) = (writer(leader: nil), writer(leader: nil))
        let servers = try [first, second].map { writer in
            try RPCServer(
                configuration: .init(listeners: [.init("127.0.0.1:0")]),
                services: writer.services(.open))
        }
        let addresses = try servers.map { try #require(try $0.start().first) }
        first.serve(LedgerInHand(Ledger()), from: FollowersStore(leader: addresses[1]))
        second.serve(LedgerInHand(Ledger()), from: FollowersStore(leader: addresses[0]))
        let client = try IPAMClient(server: addresses.joined(separator: ","))
        try await body(client) { method in
            servers.flatMap(\.statistics).filter { $0.method == method }.flatMap(\.ended).reduce(0) { $0 + $1.count }
        }
        await client.close()
        for server in servers { await server.shutdown(grace: .seconds(1)) }
    }
}
