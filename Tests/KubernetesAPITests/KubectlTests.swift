import Foundation
import TestCluster
import Testing

/// The tests' own API server, as Kubernetes' own client sees it: so that it is no server of our imagination.
struct KubectlTests {
    private let scratch: Scratch

    init() throws { scratch = try Scratch() }

    private static let isThere = FileManager.default.isExecutableFile(atPath: "/usr/bin/kubectl")

    private func kubectl(_ cluster: TestCluster, _ arguments: String...) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/timeout")
        process.arguments =
            ["20", "kubectl", "--server", cluster.url, "--cache-dir", scratch.path] + arguments
        process.environment = ["PATH": "/usr/bin:/bin", "HOME": "/nonexistent"]
        let (output, errors) = (Pipe(), Pipe())
        (process.standardOutput, process.standardError) = (output, errors)
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let complaint = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return process.terminationStatus == 0 ? text : "status \(process.terminationStatus): \(complaint)"
    }

    @Test(.enabled(if: isThere, "kubectl is not installed"))
    func `kubectl lists, pages, selects, gets, patches and describes`() async throws {
        try await TestCluster.run { cluster in
            for event in try Story("migrate").events.prefix(30) { try cluster.play(event) }
            let names = "jsonpath={.items[*].metadata.name}"
            let namespace = "--namespace=fx-migrate"
            let pods = "virt-launcher-testvm-c2ssx virt-launcher-testvm-lmtl8"
            let all = try kubectl(cluster, "get", "pods", "-A", "-o", names)
            #expect(all == pods)
            let paged = try kubectl(cluster, "get", "pods", namespace, "--chunk-size=1", "-o", names)
            #expect(paged == pods)
            let onNode = try kubectl(
                cluster, "get", "pods", "-A", "--field-selector=spec.nodeName=node-b", "-o", names)
            #expect(onNode == "virt-launcher-testvm-lmtl8")
            let targets = try kubectl(cluster, "get", "pods", "-A", "-l", "kubevirt.io/migrationJobUID", "-o", names)
            #expect(targets == "virt-launcher-testvm-lmtl8")
            let instances = try kubectl(
                cluster, "get", "virtualmachineinstances", "-A", "-l", "kubevirt.io/nodeName in (node-a,x)", "-o", names
            )
            #expect(instances == "testvm")
            let none = try kubectl(cluster, "get", "virtualmachines", "none", namespace)
            #expect(none.contains("NotFound"))
            let annotate = try kubectl(
                cluster, "annotate", "virtualmachines", "testvm", namespace, "holdfast.dev/addresses=10.0.0.1")
            #expect(annotate.contains("annotated"), "\(annotate)")
            let annotation = try kubectl(
                cluster, "get", "virtualmachines", "testvm", namespace, "-o",
                #"jsonpath={.metadata.annotations.holdfast\.dev/addresses}"#)
            #expect(annotation == "10.0.0.1")
            let described = try kubectl(cluster, "describe", "pod", namespace, "virt-launcher-testvm-c2ssx")
            #expect(described.contains("Controlled By:  VirtualMachineInstance/testvm"), "\(described)")
        }
    }

    @Test(.enabled(if: isThere, "kubectl is not installed"))
    func `kubectl watches`() async throws {
        try await TestCluster.run { cluster in
            let events = try Story("lifecycle").events
            for event in events.prefix(5) { try cluster.play(event) }
            async let watched = Task.detached {
                try self.kubectl(
                    cluster, "get", "pods", "-A", "--watch", "--output-watch-events", "--request-timeout=19s", "-o",
                    "jsonpath={.type} {.object.metadata.resourceVersion}{'\\n'}")
            }.value
            let deadline = ContinuousClock.now + .seconds(20)
            while cluster.watchCount == 0, .now < deadline { try await Task.sleep(for: .milliseconds(5)) }
            for event in events.dropFirst(5).prefix(20) { try cluster.play(event) }
            cluster.endWatches()
            let pods = events.prefix(25).filter { $0.kind == "Pod" }
            let text = try await watched
            #expect(
                text.split(separator: "\n").map(String.init)
                    == pods.map { "\($0.change.rawValue) \($0.resourceVersion)" }, "\(text)")
        }
    }
}
