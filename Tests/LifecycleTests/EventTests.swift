import Foundation
import KubeVirt
import KubernetesAPI
import Lifecycle
import TestCluster
import Testing

/// What an operator sees in Kubernetes.
struct EventTests {
    private let refusal = ObjectEvent(
        ObjectEvent.Subject(vm("testvm")), .refused, "10.16.0.15 is taken by vm default/other")

    /// `before`: what happens before the recorder writes anything.
    private func withRecorder(
        interval: Duration = .milliseconds(200), before: (TestCluster, EventRecorder) -> Void = { _, _ in },
        _ body: (TestCluster, EventRecorder) async throws -> Void
    ) async throws {
        try await TestCluster.run { cluster in
            let client = KubernetesClient(cluster.configuration, log: quiet)
            let recorder = EventRecorder(
                client: client, component: "holdfast-agent", instance: "node-a", log: quiet, interval: interval)
            before(cluster, recorder)
            let task = Task { await recorder.run() }
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await body(cluster, recorder)) } catch { outcome = .failure(error) }
            task.cancel()
            await task.value
            await client.shutDown()
            try outcome.get()
        }
    }

    private func events(_ cluster: TestCluster) throws -> [[String: Any]] {
        try cluster.objects(.events).map {
            try #require(try JSONSerialization.jsonObject(with: $0.json) as? [String: Any])
        }
    }

    @Test func `an event names its object, says who it comes from, and is a warning where something was refused`()
        async throws
    {
        try await withRecorder { cluster, recorder in
            recorder.record(refusal)
            try await eventually("written") { try events(cluster).count == 1 }
            let event = try #require(try events(cluster).first)
            let object = try #require(event["involvedObject"] as? [String: String])
            #expect(
                object == [
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "namespace": "default",
                    "name": "testvm", "uid": "uid-testvm",
                ])
            #expect(event["reason"] as? String == "AddressRefused" && event["type"] as? String == "Warning")
            #expect((event["message"] as? String)?.contains("vm default/other") == true)
            #expect(event["source"] as? [String: String] == ["component": "holdfast-agent", "host": "node-a"])
            #expect(event["count"] as? Int == 1)
        }
    }

    @Test func `the same again is counted, also after the API server has forgotten it`() async throws {
        try await withRecorder { cluster, recorder in
            recorder.record(refusal)
            try await eventually("written") { try events(cluster).count == 1 }
            for _ in 0..<5 { recorder.record(refusal) }
            try await eventually("counted") { try events(cluster).first?["count"] as? Int == 6 }
            #expect(try events(cluster).count == 1)
            let name = try #require(cluster.objects(.events).first?.name)
            try cluster.delete(.events, name: name)
            recorder.record(refusal)
            try await eventually("written anew") { try events(cluster).count == 1 }
        }
    }

    @Test func `of events on one topic the newest words are shown, and all are counted`() async throws {
        func event(_ words: String, topic: String = "vm-net/eth0 POOL_EXHAUSTED") -> ObjectEvent {
            ObjectEvent(refusal.subject, .refused, words, topic: topic)
        }
        try await withRecorder { _, recorder in
            for words in ["from 1", "from 2"] { recorder.record(event(words)) }
        } _: { cluster, recorder in
            func shown() throws -> [String] {
                try events(cluster).map { "\($0["message"] ?? "") \($0["count"] ?? "")" }.sorted()
            }
            try await eventually("written") { try shown() == ["from 2 2"] }
            recorder.record(event("from 3"))
            try await eventually("written over") { try shown() == ["from 3 3"] }
            recorder.record(event("taken", topic: "vm-net/eth0 ADDRESS_TAKEN"))
            try await eventually("another") { try shown() == ["from 3 3", "taken 1"] }
        }
    }

    @Test func `a flood is bounded, and an API server that takes no events holds nothing up`() async throws {
        func event(_ name: String) -> ObjectEvent { ObjectEvent(ObjectEvent.Subject(vm(name)), .refused, name) }
        try await withRecorder(interval: .milliseconds(1)) { cluster, recorder in
            cluster.fail("create", .events, status: 403, times: 10)
            for index in 0..<5000 { recorder.record(event("\(index)")) }
        } _: { cluster, recorder in
            // It finds a place once one is free, and comes last.
            try await eventually("all written") {
                recorder.record(event("last"))
                return try events(cluster).contains { $0["message"] as? String == "last" }
            }
            #expect(try events(cluster).count == 256 - 10 + 1)
        }
    }
}
