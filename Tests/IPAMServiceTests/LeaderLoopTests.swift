import IPAMAPI
import IPAMModel
import Ledger
import LedgerStore
import Logging
import RPC
import Testing

@testable import IPAMService

@Suite struct LeaderLoopTests {
    private func writer(leader: String?) -> Writer {
        Writer(
            Ledger(), store: FollowersStore(leader: leader),
            clock: LedgerClock(wallClock: Timestamp(seconds: 1), notBefore: Timestamp(seconds: 1)),
            logger: Logger(label: "test"))
    }

    @Test func `two servers that name each other as leader are asked with pauses`() async throws {
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
        let owner = Owner(kind: .pod, namespace: "a", name: "b", uid: "c", network: "n")
        let error = await #expect(throws: IPAMError.self) { try await client.binding(of: owner, timeout: .seconds(5)) }
        // The last attempt may have had no time left.
        #expect(error?.reason == .notLeader || error?.reason == .noAnswer)
        let calls = servers.flatMap(\.statistics).filter { $0.method == "GetBinding" }
            .flatMap(\.ended).reduce(0) { $0 + $1.count }
        // One in 50 ms, and one more that is followed at once; without a pause there are thousands.
        #expect((2...120).contains(calls), "\(calls) calls in 5 s")
        await client.close()
        for server in servers { await server.shutdown(grace: .seconds(1)) }
    }
}
