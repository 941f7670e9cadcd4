import Foundation
import KubeVirt
import Logging
import NodeAgent
import Synchronization
import Testing

final class DirectorySourceTests {
    private let path = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
    private let messages = Messages()
    private let source: DirectorySource

    init() throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let messages = messages
        source = DirectorySource(path: path, log: Logger(label: "test") { _ in messages.handler })
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    private func write(_ text: String, to file: String) throws {
        try text.write(toFile: "\(path)/\(file)", atomically: false, encoding: .utf8)
    }

    private func pod(_ name: String, phase: String = "Running") -> String {
        "apiVersion: v1\nkind: Pod\nmetadata: {name: \(name), uid: uid-\(name)}\nstatus: {phase: \(phase)}"
    }

    @Test func `manifests are read afresh, others and hidden files are not`() async throws {
        try write(pod("one"), to: "one.yaml")
        try write(pod("two"), to: "two.yml")
        try write("half", to: ".three.yaml")
        try write("notes", to: "README.md")
        try write("apiVersion: v1\nkind: ConfigMap", to: "map.yaml")
        #expect(await source.read().objects.pods.map(\.metadata.name) == ["one", "two"])
        #expect(await source.read().isComplete)
        // The same size, moments later: what the file says now counts.
        for count in 0..<200 {
            let phase = count % 2 == 0 ? "Pending" : "Running"
            try write(pod("one", phase: phase), to: "one.yaml")
            #expect(await source.read().objects.pods[0].phase == phase)
        }
        try FileManager.default.removeItem(atPath: "\(path)/one.yaml")
        #expect(await source.read().objects.pods.map(\.metadata.name) == ["two"])
    }

    @Test func `a half-written file is logged by name once, breaks no other, and makes the reading incomplete`()
        async throws
    {
        try write(pod("one"), to: "one.yaml")
        try write("{\"apiVersion\":\"v1\",\"kind\":\"Pod\",", to: "two.json")
        for _ in 0..<3 {
            let reading = await source.read()
            #expect(reading.objects.pods.map(\.metadata.name) == ["one"])
            #expect(!reading.isComplete)
        }
        #expect(messages.all.count == 1)
        #expect(messages.all.first?.contains("\(path)/two.json") == true)
        try write(pod("two"), to: "two.json")
        #expect(await source.read().isComplete)
    }

    @Test func `a directory that is not there is an incomplete reading`() async throws {
        try FileManager.default.removeItem(atPath: path)
        for _ in 0..<3 { #expect(await source.read() == Reading(objects: ClusterObjects(), isComplete: false)) }
        #expect(messages.all.count == 1)
    }

    @Test func `a file that is a directory or a dead link makes the reading incomplete`() async throws {
        try FileManager.default.createDirectory(atPath: "\(path)/x.yaml", withIntermediateDirectories: false)
        #expect(await !source.read().isComplete)
        try FileManager.default.removeItem(atPath: "\(path)/x.yaml")
        try FileManager.default.createSymbolicLink(atPath: "\(path)/y.yaml", withDestinationPath: "/nowhere")
        #expect(await !source.read().isComplete)
    }
}

/// Keeps what is logged.
private final class Messages: Sendable {
    private struct Handler: LogHandler {
        let messages: Messages
        var logLevel = Logger.Level.trace
        var metadata = Logger.Metadata()

        subscript(metadataKey key: String) -> Logger.MetadataValue? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            messages.lines.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") }
        }
    }

    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }
    var handler: any LogHandler { Handler(messages: self) }
}
