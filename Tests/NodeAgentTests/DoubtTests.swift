import Foundation
import KubeVirt
import NodeAgent
import TestLog
import Testing

/// What stops the freeing of addresses is said, once.
struct DoubtTests {
    private let log = RecordedLog()
    private let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"

    @Test func `a directory that is not there is named in a sentence, once`() async throws {
        let source = DirectorySource(path: scratch, log: log.logger)
        for _ in 0..<3 { #expect(await source.read().isComplete == false) }
        let line = try #require(log.lines.first)
        #expect(log.lines.count == 1)
        #expect(line.hasSuffix(" path=\(scratch) reason=No such file or directory"), "\(line)")
    }

    @Test func `a manifest that cannot be read is said to stop the freeing, once`() async throws {
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        try "{".write(toFile: "\(scratch)/bad.json", atomically: true, encoding: .utf8)
        let source = DirectorySource(path: scratch, log: log.logger)
        for _ in 0..<3 { _ = await source.read() }
        #expect(log.lines.count == 1 && log.lines[0].contains("freed until"), "\(log.lines)")
        #expect(log.lines.first?.contains("bad.json") == true)
    }

    @Test func `a source that is empty where VMs were is said to stop the freeing, once each time`() async throws {
        let source = StatedSource()
        var machine = ClusterObjects()
        machine.virtualMachines = [
            VirtualMachine(metadata: ObjectMeta(namespace: "default", name: "testvm", uid: "vm-1"))
        ]
        var reconciliation = Reconciliation(
            node: "node-a", ipam: try LedgerIPAM(), source: source, log: log.logger)
        await reconciliation.pass(at: .now)
        #expect(log.lines.isEmpty)
        for _ in 0..<2 {
            source.state(machine)
            await reconciliation.pass(at: .now)
            source.state(ClusterObjects())
            for _ in 0..<3 { await reconciliation.pass(at: .now) }
        }
        #expect(log.lines.count == 2 && log.lines[0].contains("freed until"), "\(log.lines)")
    }
}
