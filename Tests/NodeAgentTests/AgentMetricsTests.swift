import Addresses
import CNI
import DHCP
import Foundation
import IPAMAPI
import IPAMModel
import KubeVirt
import Synchronization
import TestLog
import Testing

@testable import NodeAgent

/// What the agent's /metrics shows.
final class AgentMetricsTests {
    private let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
    private let time = StatedClock()
    private let log = RecordedLog()
    private let metrics = AgentMetrics()

    init() throws { try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: scratch) }

    private struct Watched: ObjectSource {
        var watches: [WatchHealth]
        func read() async -> Reading { Reading(objects: ClusterObjects(), isComplete: false) }
    }

    private func lines(_ outage: Outage, _ source: any ObjectSource = StatedSource()) -> Set<String> {
        let text = AgentExposition(version: "1.2.3", metrics: metrics, outage: outage, source: source).text
        return Set(text.split(separator: "\n").map(String.init))
    }

    private func outage() throws -> Outage { try Outage(directory: scratch, clock: time.clock(), log: log.logger) }

    @Test func `a server that is away, what it must be told and the copies that serve meanwhile are shown`()
        async throws
    {
        let ipam = try LedgerIPAM()
        var outage = try outage()
        outage.ride = .milliseconds(50)
        let source = StatedSource()
        source.state(Self.machine)
        let handler = AttachmentHandler(
            node: "node-a", ipam: ObservedIPAM(ipam, reach: outage.reach), source: source, log: log.logger,
            outage: outage, metrics: metrics)
        _ = try await handler.add(Self.request("ADD", container: "c1"))
        var shown = lines(outage)
        #expect(
            shown.isSuperset(of: [
                #"holdfast_agent_build_info{version="1.2.3"} 1"#, "holdfast_agent_server_reachable 1",
                "holdfast_agent_spool_entries 0", "holdfast_agent_spool_oldest_seconds 0",
                #"holdfast_agent_copies{state="fresh"} 1"#, #"holdfast_agent_copies{state="stale"} 0"#,
                "holdfast_agent_attached_from_copies_total 0",
            ]), "\(shown.sorted())")

        ipam.fail(with: IPAMError(.unavailable, .noAnswer, "Connection refused"))
        _ = try await handler.add(Self.request("ADD", container: "c2"))
        try await handler.delete(Self.request("DEL", container: "c1"))
        shown = lines(outage)
        #expect(
            shown.isSuperset(of: [
                "holdfast_agent_server_reachable 0", "holdfast_agent_spool_entries 2",
                "holdfast_agent_attached_from_copies_total 1",
            ]), "\(shown.sorted())")

        time.advance(seconds: 3600)
        #expect(lines(outage).contains(#"holdfast_agent_copies{state="stale"} 1"#))
    }

    @Test func `the age of what the server must be told outlives the agent`() throws {
        let now = Mutex<Int64>(1_000)
        let clock: @Sendable () -> Int64 = { now.withLock { $0 } }
        let path = scratch + "/spool"
        let spool = try Spool(path: path, log: log.logger, wallClock: clock)
        #expect(spool.extent == (0, 0))
        try spool.add(.detach(AttachmentID(podUID: "p", containerID: "c1"), network: "n/eth0"))
        now.withLock { $0 = 1_060 }
        try spool.add(.detach(AttachmentID(podUID: "p", containerID: "c2"), network: "n/eth0"))
        #expect(spool.extent == (2, 60))
        let next = try Spool(path: path, log: log.logger, wallClock: clock)
        now.withLock { $0 = 1_100 }
        #expect(next.extent == (2, 100))
        next.finish(try #require(next.items.first))
        #expect(next.extent == (1, 40))
        now.withLock { $0 = 900 }
        #expect(next.extent == (1, 0), "the clock went back")
    }

    @Test func `what an agent without ages has written counts from when it was read`() throws {
        let path = scratch + "/spool"
        let spool = try Spool(path: path, log: log.logger, wallClock: { 1_000 })
        try spool.add(.detach(AttachmentID(podUID: "p", containerID: "c1"), network: "n/eth0"))
        let written = try String(contentsOfFile: path, encoding: .utf8)
        // With its checksum a line cannot be edited: so the item is written anew, as an older agent did.
        let old = try #require(spool.items.first)
        #expect(written.contains("addedAt"))
        struct OldItem: Codable {
            var number: UInt64
            var entry: Spool.Entry
        }
        let data = try JSONEncoder().encode(OldItem(number: old.number, entry: old.entry))
        let read = try JSONDecoder().decode(Spool.Item.self, from: data)
        #expect(read.addedAt == nil && read.entry == old.entry)
    }

    @Test func `requests are counted by verb and result, guests' questions by what came of them`() throws {
        metrics.count(.add, nil, after: .milliseconds(3))
        metrics.count(.add, CNIError(.tryAgainLater, "later"), after: .milliseconds(3))
        metrics.count(.del, CNIError(.conflict, "no"), after: .milliseconds(3))
        metrics.count(.refused(try #require(.init("10.0.0.1"))))
        metrics.set(openMigrations: 2)
        let shown = lines(try outage())
        #expect(
            shown.isSuperset(of: [
                #"holdfast_agent_cni_requests_total{verb="ADD",result="ok"} 1"#,
                #"holdfast_agent_cni_requests_total{verb="ADD",result="try_again"} 1"#,
                #"holdfast_agent_cni_requests_total{verb="ADD",result="refused"} 0"#,
                #"holdfast_agent_cni_requests_total{verb="DEL",result="refused"} 1"#,
                #"holdfast_agent_cni_request_seconds_count{verb="ADD"} 2"#,
                #"holdfast_agent_cni_request_seconds_bucket{verb="ADD",le="0.005"} 2"#,
                #"holdfast_agent_dhcp_events_total{event="refused"} 1"#,
                #"holdfast_agent_dhcp_events_total{event="leased"} 0"#, "holdfast_agent_migrations_open 2",
            ]), "\(shown.sorted())")
    }

    @Test func `a watch shows whether it is whole, and since when nothing was heard in it`() throws {
        let source = Watched(watches: [
            WatchHealth(name: "pods", isSynced: true, silence: .milliseconds(2_500)),
            WatchHealth(name: "instances", isSynced: false, silence: .milliseconds(400_500)),
        ])
        let shown = lines(try outage(), source)
        #expect(
            Set(shown.filter { $0.hasPrefix("holdfast_agent_watch") }) == [
                #"holdfast_agent_watch_synced{watch="pods"} 1"#, #"holdfast_agent_watch_synced{watch="instances"} 0"#,
                #"holdfast_agent_watch_silence_seconds{watch="pods"} 2.5"#,
                #"holdfast_agent_watch_silence_seconds{watch="instances"} 400.5"#,
            ])
    }

    private static let machine: ClusterObjects = {
        var objects = ClusterObjects()
        objects.pods = [
            Pod(
                metadata: ObjectMeta(
                    namespace: "default", name: "launcher", uid: "uid-launcher",
                    owners: [
                        OwnerReference(
                            apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")
                    ]), nodeName: "node-a")
        ]
        objects.instances = [
            VirtualMachineInstance(
                metadata: ObjectMeta(
                    namespace: "default", name: "testvm", uid: "vmi-1",
                    owners: [
                        OwnerReference(
                            apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "testvm", uid: "vm-1")
                    ]))
        ]
        return objects
    }()

    private static func request(_ verb: String, container: String) -> AgentRequest {
        AgentRequest(
            environment: [
                "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
                "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=launcher",
            ], configuration: HandlerFixture.mainNetwork)
    }
}
