import KubernetesAPI
import Logging
import TestCluster
import Testing

/// As much of an object as these tests look at.
struct Named: Decodable, Sendable, Equatable {
    struct Metadata: Decodable, Equatable {
        var name: String
        var uid: String
        var resourceVersion: String
        var labels: [String: String]?
        var annotations: [String: String]?
    }
    var metadata: Metadata
    var name: String { metadata.name }
}

func pod(_ name: String, node: String = "node-a", labels: String = "{}") -> String {
    """
    {"apiVersion":"v1","kind":"Pod","metadata":{"name":"\(name)","namespace":"default","uid":"uid-\(name)",\
    "labels":\(labels)},"spec":{"nodeName":"\(node)"}}
    """
}

/// Runs `body` with a cluster and a client of it.
func withClient<Result>(
    _ change: (inout KubernetesClient.Patience) -> Void = { _ in },
    _ body: (TestCluster, KubernetesClient) async throws -> Result
) async throws -> Result {
    var patience = KubernetesClient.Patience()
    change(&patience)
    return try await TestCluster.run { cluster in
        try await body(cluster, KubernetesClient(cluster.configuration, patience: patience, log: quiet))
    }
}

var quiet: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

/// What shows whether an object is whole.
private struct Specified: Decodable, Sendable {
    struct Spec: Decodable, Sendable {}
    var spec: Spec?
}

struct ClientTests {
    @Test func `an object is got by name, and none where there is none`() async throws {
        try await withClient { cluster, client in
            try cluster.put(pod("web"))
            let web = try await client.get(Named.self, .pods, namespace: "default", name: "web")
            #expect(web?.metadata.uid == "uid-web")
            #expect(try await client.get(Named.self, .pods, namespace: "other", name: "web") == nil)
        }
    }

    @Test func `a list is read in pages, by selectors, as it was at one moment`() async throws {
        try await withClient { cluster, client in
            for index in 10..<30 { try cluster.put(pod("p\(index)", node: index % 2 == 0 ? "node-a" : "node-b")) }
            let all = try await client.list(Named.self, .pods, pageSize: 7)
            #expect(all.objects.map(\.name) == (10..<30).map { "p\($0)" })
            #expect(all.resourceVersion == "\(cluster.resourceVersion)")
            #expect(cluster.requests.map(\.items) == [7, 7, 6])
            let half = try await client.list(Named.self, .pods, Selection(fields: "spec.nodeName=node-b"))
            #expect(half.objects.count == 10)
        }
    }

    @Test func `where a watch is to begin is asked for without a list`() async throws {
        try await withClient { cluster, client in
            for index in 10..<30 { try cluster.put(pod("p\(index)")) }
            #expect(try await client.version(of: .pods) == "\(cluster.resourceVersion)")
            #expect(cluster.requests.map(\.items) == [1])
        }
    }

    @Test func `metadata alone may be asked for`() async throws {
        try await withClient { cluster, client in
            for name in ["a", "b"] { try cluster.put(pod(name)) }
            let whole = try await client.list(Specified.self, .pods)
            let lean = try await client.list(Specified.self, .pods, pageSize: 1, metadataOnly: true)
            #expect(whole.objects.allSatisfy { $0.spec != nil } && lean.objects.allSatisfy { $0.spec == nil })
            #expect(lean.items.map(\.reference) == whole.items.map(\.reference))
        }
    }

    @Test func `watches that begin together do not end together`() async throws {
        try await withClient { cluster, client in
            let version = try cluster.put(pod("a"))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<20 {
                    group.addTask { try await client.watch(Named.self, .pods, from: "\(version)") { _ in } }
                }
                let deadline = ContinuousClock.now + .seconds(30)
                while cluster.watchCount < 20, .now < deadline { try await Task.sleep(for: .milliseconds(2)) }
                cluster.endWatches()
                try await group.waitForAll()
            }
            let seconds = Set(cluster.requests.compactMap { $0.query["timeoutSeconds"].flatMap { Int($0) } })
            #expect(seconds.count > 1 && seconds.allSatisfy((300...600).contains), "\(seconds)")
        }
    }

    @Test func `a watch tells what changes, in order`() async throws {
        try await withClient { cluster, client in
            let start = try cluster.put(pod("a"))
            try cluster.put(pod("b"))
            try cluster.put(pod("a", labels: #"{"x":"y"}"#))
            try cluster.delete(.pods, name: "b")
            let (events, continuation) = AsyncStream.makeStream(of: String.self)
            let watching = Task {
                try await client.watch(Named.self, .pods, from: "\(start)") { event in
                    switch event {
                    case .added(let item): continuation.yield("+\(item.reference)")
                    case .modified(let item): continuation.yield("~\(item.reference)")
                    case .deleted(let item): continuation.yield("-\(item.reference)")
                    case .bookmark(let version):
                        continuation.yield(version)
                        continuation.finish()
                    }
                }
            }
            var told: [String] = []
            for await event in events {
                told.append(event)
                if told.count == 3 { cluster.sendBookmarks() }
            }
            #expect(told == ["+default/b", "~default/a", "-default/b", "\(cluster.resourceVersion)"])
            cluster.endWatches()
            try await watching.value
        }
    }
}
