import Addresses
import IPAMAPI
import IPAMModel
import Synchronization
import Testing

@testable import IPAMService

@Suite struct WatchHubTests {
    private final class Cuts: Sendable {
        let count = Mutex(0)
    }

    @Test("a watcher that does not keep up is cut off after what it may leave waiting, and others go on")
    func slowWatcher() async throws {
        let (hub, cuts) = (WatchHub(), Cuts())
        let (_, slow) = try #require(hub.subscribe(by: .anyone) { cuts.count.withLock { $0 += 1 } })
        let event = LedgerEvent.put(
            DescribedBinding(
                binding: Binding(
                    owner: Owner(kind: .pod, namespace: "a", name: "b", network: ""), pool: "p", assignments: [],
                    mac: MACAddress(bits: 2), revision: 1, createdAt: Timestamp(seconds: 0),
                    updatedAt: Timestamp(seconds: 0))))
        hub.publish { Array(repeating: event, count: WatchHub.bufferedEvents) }
        #expect(cuts.count.withLock { $0 } == 0)
        hub.publish { [event] }
        #expect(cuts.count.withLock { $0 } == 1)
        let (_, quick) = try #require(hub.subscribe(by: .anyone) {})
        hub.publish { [event] }
        var waiting = 0
        for await _ in slow { waiting += 1 }
        #expect(waiting == WatchHub.bufferedEvents)
        var iterator = quick.makeAsyncIterator()
        #expect(await iterator.next() != nil)
    }

    @Test("a caller that may not do everything has 32 watches at most, and leaves the others'")
    func watchesOfOneCaller() throws {
        let hub = WatchHub()
        let reader = Caller(name: "certificate:dashboard", roles: .reader)
        let open = (0..<40).compactMap { _ in hub.subscribe(by: reader) {} }
        #expect(open.count == 32)
        let agents = ["node-a", "node-b"].map { Caller(name: "agent", roles: .agent, node: $0) }
        #expect(agents.allSatisfy { caller in (0..<32).allSatisfy { _ in hub.subscribe(by: caller) {} != nil } })
        hub.unsubscribe(try #require(open.first).id)
        #expect(hub.subscribe(by: reader) {} != nil && hub.subscribe(by: reader) {} == nil)
        #expect((0..<160).allSatisfy { _ in hub.subscribe(by: .anyone) {} != nil })
        #expect(hub.subscribe(by: .anyone) {} == nil)
    }
}
