import Foundation
import KubernetesAPI
import Synchronization
import TestCluster
import Testing

/// A copy that is kept by a watch, with what it was told.
final class Following: Sendable {
    let watch: ObjectWatch<Named>
    private let told: ToldChanges

    var copy: ObjectCopy<Named> { watch.copy }
    var names: [String] { copy.objects.map(\.name).sorted() }
    var changes: [String] { told.lines.withLock { $0 } }

    final class ToldChanges: Sendable { let lines = Mutex<[String]>([]) }

    init(_ client: KubernetesClient, _ selection: Selection = .all) {
        let told = ToldChanges()
        self.told = told
        watch = ObjectWatch(Named.self, of: client, .pods, selection, log: quiet) { change in
            let line =
                switch change {
                case .updated(let new, let old): (old == nil ? "+" : "~") + new.name
                case .removed(let old): "-" + old.name
                case .synced: "synced"
                }
            told.lines.withLock { $0.append(line) }
        }
    }

    /// Waits until the condition holds; fails after a time that is long enough on any machine.
    func wait(
        for what: String = "", sourceLocation: SourceLocation = #_sourceLocation, _ condition: (Following) -> Bool
    ) async {
        let deadline = ContinuousClock.now + .seconds(30)
        while !condition(self), .now < deadline { try? await Task.sleep(for: .milliseconds(2)) }
        #expect(condition(self), "waited in vain: \(what) \(changes) \(names)", sourceLocation: sourceLocation)
    }
}

/// Follows all pods of a cluster.
func following(
    _ change: (inout KubernetesClient.Patience) -> Void = { _ in }, _ selection: Selection = .all,
    _ body: (TestCluster, Following) async throws -> Void
) async throws {
    func quick(_ patience: inout KubernetesClient.Patience) {
        patience.longestPause = .milliseconds(50)
        change(&patience)
    }
    try await withClient(quick) { cluster, client in
        let following = Following(client, selection)
        try cluster.put(pod("a"))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await following.watch.run() }
            await following.wait(for: "the first list") { _ in cluster.watchCount == 1 }
            try await body(cluster, following)
            group.cancelAll()
        }
    }
}

extension TestCluster {
    fileprivate func count(_ verb: String) -> Int { requests.count { $0.verb == verb } }
    fileprivate var lastWatch: [String: String]? { requests.last { $0.verb == "watch" }?.query }
    fileprivate var lists: [[String: String]] { requests.filter { $0.verb == "list" }.map(\.query) }
}

struct ObjectWatchTests {
    @Test func `a copy is listed once, and then follows what happens, in order`() async throws {
        try await following { cluster, following in
            #expect(following.copy.isComplete(asOf: .seconds(60)) && following.names == ["a"])
            try cluster.put(pod("b"))
            try cluster.put(pod("b", labels: #"{"x":"y"}"#))
            try cluster.delete(.pods, name: "a")
            await following.wait { $0.changes.count == 5 }
            #expect(following.changes == ["+a", "synced", "+b", "~b", "-a"])
            #expect(following.names == ["b"] && following.copy.resourceVersion == "\(cluster.resourceVersion)")
            #expect(cluster.count("list") == 1 && cluster.count("watch") == 1)
        }
    }

    @Test func `what leaves the selection is gone from the copy`() async throws {
        try await following({ _ in }, Selection(fields: "spec.nodeName=node-a")) { cluster, following in
            try cluster.put(pod("other", node: "node-b"))
            try cluster.put(pod("b"))
            try cluster.put(pod("a", node: "node-b"))
            await following.wait { $0.changes.count == 4 }
            #expect(following.names == ["b"])
            #expect(following.changes == ["+a", "synced", "+b", "-a"])
        }
    }

    @Test(arguments: [false, true])
    func `a watch that ends or is cut in mid-line goes on from where it was`(inMidLine: Bool) async throws {
        try await following { cluster, following in
            let version = try cluster.put(pod("b"))
            await following.wait { $0.names == ["a", "b"] }
            cluster.endWatches(inMidLine: inMidLine)
            try cluster.put(pod("c"))
            try cluster.delete(.pods, name: "a")
            await following.wait { $0.names == ["b", "c"] }
            #expect(cluster.count("list") == 1 && cluster.lastWatch?["resourceVersion"] == "\(version)")
            #expect(cluster.lastWatch?["allowWatchBookmarks"] == "true")
        }
    }

    @Test func `a watch that the server ends at its time goes on without a list`() async throws {
        try await following({ $0.watch = .seconds(1) }) { cluster, following in
            await following.wait { _ in cluster.count("watch") >= 3 }
            try cluster.put(pod("b"))
            await following.wait { $0.names == ["a", "b"] }
            #expect(cluster.count("list") == 1)
        }
    }

    @Test func `a bookmark is where a quiet watch goes on, when all before it is forgotten`() async throws {
        try await following { cluster, following in
            // Of another kind, so that only the bookmark tells of it.
            let version = try cluster.put(#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}}"#)
            cluster.sendBookmarks()
            await following.wait { $0.copy.resourceVersion == "\(version)" }
            cluster.compact()
            cluster.endWatches()
            try cluster.put(pod("b"))
            await following.wait { $0.names == ["a", "b"] }
            #expect(cluster.count("list") == 1)
        }
    }

    @Test(arguments: [false, true])
    func `a copy that the server has forgotten is listed anew, and what it missed is told`(asEvent: Bool) async throws {
        try await following { cluster, following in
            try cluster.put(pod("b"))
            await following.wait { $0.names == ["a", "b"] }
            try cluster.put(pod("c"), isAnnounced: false)
            try cluster.put(pod("b", labels: #"{"x":"y"}"#), isAnnounced: false)
            try cluster.delete(.pods, name: "a", isAnnounced: false)
            cluster.compact(asEvent: asEvent)
            cluster.endWatches()
            await following.wait { $0.changes.count == 7 }
            #expect(following.names == ["b", "c"])
            #expect(following.changes.dropFirst(3) == ["-a", "~b", "+c", "synced"])
            try cluster.put(pod("d"))
            await following.wait { $0.names == ["b", "c", "d"] }
            #expect(cluster.count("list") == 2)
        }
    }

    @Test func `a copy is listed out of the watch cache, and the second time no older than it is`() async throws {
        try await following { cluster, following in
            let version = try cluster.put(pod("b"))
            await following.wait { $0.names == ["a", "b"] }
            try cluster.put(pod("c"), isAnnounced: false)
            cluster.compact()
            cluster.endWatches()
            await following.wait { $0.names == ["a", "b", "c"] }
            #expect(cluster.lists == [["resourceVersion": "0"], ["resourceVersion": "\(version)"]])
        }
    }

    @Test func `a watch cache that is behind takes no copy back: then the list is etcd's`() async throws {
        try await following { cluster, following in
            cluster.freezeCache()
            let version = try cluster.put(pod("b"))
            await following.wait { $0.names == ["a", "b"] }
            try cluster.put(pod("c"), isAnnounced: false)
            cluster.compact()
            cluster.endWatches()
            await following.wait { $0.names == ["a", "b", "c"] }
            #expect(following.changes == ["+a", "synced", "+b", "~a", "~b", "+c", "synced"])
            #expect(cluster.lists.dropFirst() == [["resourceVersion": "\(version)"], ["limit": "500"]])
        }
    }

    @Test func `who has lost the place does not list at once, as others have lost theirs too`() async throws {
        try await following({ $0.longestPause = .seconds(3600) }) { cluster, following in
            try cluster.put(pod("b"), isAnnounced: false)
            cluster.compact()
            cluster.endWatches()
            await following.wait { _ in cluster.requests.contains { $0.status == 410 } }
            // Of so long a pause this is a ten thousandth.
            try await Task.sleep(for: .milliseconds(300))
            #expect(cluster.count("list") == 1)
        }
    }

    @Test func `a pod that was made anew under its name is another one`() async throws {
        try await following { cluster, following in
            try cluster.put(pod("a").replacing("uid-a", with: "uid-2"), isAnnounced: false)
            cluster.compact()
            cluster.endWatches()
            await following.wait { $0.changes.count == 5 }
            #expect(following.copy.object(namespace: "default", name: "a")?.metadata.uid == "uid-2")
            #expect(following.changes == ["+a", "synced", "-a", "+a", "synced"])
        }
    }

    @Test func `a watch that is half open is found out, and what it kept to itself is seen`() async throws {
        try await following({ $0.watchSilence = .milliseconds(300) }) { cluster, following in
            cluster.freezeWatches()
            try cluster.put(pod("b"))
            await following.wait { $0.names == ["a", "b"] }
        }
    }

    @Test func `failures of all kinds are waited out`() async throws {
        try await following { cluster, following in
            for status in [500, 503, 429, 401, 403, 404] {
                cluster.fail("watch", status: status, retryAfter: status == 429 ? 0 : nil)
                cluster.endWatches()
                try cluster.put(pod("after-\(status)"))
                await following.wait { $0.names.contains("after-\(status)") }
            }
            cluster.compact()
            cluster.fail("list", status: 500, times: 2)
            cluster.endWatches()
            try cluster.put(pod("z"))
            await following.wait { $0.names.contains("z") }
        }
    }

    @Test func `a server that comes back with older data is believed`() async throws {
        let first = try await TestCluster.start()
        for _ in 0..<3 { try first.put(pod("a")) }
        let client = KubernetesClient(first.configuration, log: quiet)
        let following = Following(client)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await following.watch.run() }
            await following.wait { $0.names == ["a"] }
            await first.stop()
            let port = try #require(Int(first.url.split(separator: ":").last ?? ""))
            let second = try await TestCluster.start(port: port)
            try second.put(pod("b"))
            await following.wait { $0.names == ["b"] }
            group.cancelAll()
            await second.stop()
        }
    }

    @Test func `events that come twice or late change nothing`() async throws {
        try await following { cluster, following in
            try cluster.put(pod("b"))
            let old = try #require(cluster.object(.pods, name: "b")).json
            try cluster.put(pod("b", labels: #"{"x":"new"}"#))
            try cluster.delete(.pods, name: "a")
            try cluster.put(pod("c"))
            await following.wait { $0.names == ["b", "c"] }
            let line = String(decoding: old, as: UTF8.self)
            for type in ["ADDED", "MODIFIED", "DELETED"] {
                cluster.inject(#"{"type":"\#(type)","object":\#(line)}"#, into: .pods)
            }
            try cluster.put(pod("d"))
            await following.wait { $0.changes.count == 7 }
            #expect(following.names == ["b", "c", "d"])
            #expect(following.changes == ["+a", "synced", "+b", "~b", "-a", "+c", "+d"])
            #expect(
                following.copy.object(namespace: "default", name: "b")?.metadata.labels == ["x": "new"])
        }
    }

    @Test func `events of unknown types and objects with unknown fields break nothing`() async throws {
        try await following { cluster, following in
            cluster.inject(#"{"type":"FUTURE","object":{"kind":"Strange"}}"#, into: .pods)
            cluster.inject("", into: .pods)
            try cluster.put(
                #"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b","new":[1,{"x":null}]},"status":{"y":[]},"z":1}"#
            )
            await following.wait { $0.names == ["a", "b"] }
            #expect(cluster.count("list") == 1 && following.copy.isComplete)
        }
    }

    @Test func `a line that is no event is not skipped: the copy is listed anew`() async throws {
        try await following { cluster, following in
            try cluster.put(pod("b"), isAnnounced: false)
            cluster.inject("{nonsense", into: .pods)
            await following.wait { $0.names == ["a", "b"] }
            #expect(cluster.count("list") == 2)
        }
    }

    @Test func `an object that cannot be read makes the copy incomplete until it can, or is gone`() async throws {
        try await following { cluster, following in
            try cluster.put(pod("a", labels: #"{"x":5}"#))
            try cluster.put(pod("b", labels: #"{"x":5}"#))
            await following.wait { $0.copy.unreadable.count == 2 }
            #expect(!following.copy.isComplete && following.names == ["a"])
            try cluster.put(pod("a"))
            try cluster.delete(.pods, name: "b")
            await following.wait { $0.copy.isComplete }
            // The same by list.
            try cluster.put(pod("b", labels: #"{"x":5}"#), isAnnounced: false)
            cluster.compact()
            cluster.endWatches()
            await following.wait { !$0.copy.isComplete && $0.copy.isSynced }
            #expect(following.copy.unreadable.count == 1)
        }
    }

    @Test func `a copy that nothing has been read into is not complete`() async throws {
        let client = KubernetesClient(KubernetesConfiguration(server: "http://127.0.0.1:1"), log: quiet)
        let watch = ObjectWatch(Named.self, of: client, .pods, log: quiet)
        #expect(!watch.copy.isComplete && !watch.copy.isComplete(asOf: .seconds(3600)))
    }

    @Test func `waits grow up to a bound, and are spread`() {
        var pause = RetryPause(most: .seconds(10))
        let waits = (0..<8).map { _ in pause.next(random: 0) }
        #expect(waits == [250, 500, 1000, 2000, 4000, 8000, 10000, 10000].map { Duration.milliseconds($0) })
        pause = RetryPause(most: .seconds(10))
        #expect(pause.next(random: 1) == .milliseconds(125))
        pause = RetryPause(most: .milliseconds(10))
        #expect(pause.next(random: 0) == .milliseconds(10))
    }

    /// Every story, with the watch cut, forgotten, frozen or held up at random moments.
    @Test(arguments: Story.names)
    func `a copy shows what the cluster has, whatever happens to its watch`(story: String) async throws {
        let seed = UInt64.random(in: .min ... .max)
        print("\(story) seed \(seed)")
        var random = SeededGenerator(seed: seed)
        try await following({ $0.watchSilence = .milliseconds(400) }) { cluster, following in
            for event in try Story(story).events {
                switch UInt8.random(in: 0..<12, using: &random) {
                case 0: cluster.endWatches()
                case 1: cluster.endWatches(inMidLine: true)
                case 2:
                    cluster.compact(asEvent: Bool.random(using: &random))
                    cluster.endWatches()
                case 3: cluster.sendBookmarks()
                case 4 where Int.random(in: 0..<4, using: &random) == 0: cluster.freezeWatches()
                case 5:
                    cluster.recover()
                    cluster.fail("watch", status: [500, 429].randomElement(using: &random) ?? 500, retryAfter: 0)
                case 6: await following.wait { _ in cluster.watchCount == 1 }
                default: break
                }
                try cluster.play(event)
            }
            func shown() -> [String] {
                following.copy.objects.map { "\($0.name) \($0.metadata.resourceVersion)" }.sorted()
            }
            let there = cluster.objects(.pods).map { "\($0.name) \($0.resourceVersion)" }.sorted()
            await following.wait(for: "seed \(seed)") { _ in shown() == there }
        }
    }
}

/// SplitMix64: the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
