import ArgumentParser
import Foundation
import Glibc
import IPAMAPI
import IPAMModel

/// ADD as a runtime sees it, exec to exit: holdfast-cni through a running agent and server, beside host-local, the same way
/// of use (as IPAM plugin), started and timed by the same code, in turn.
struct NodeBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Measures the CNI plugin beside host-local; prints medians and ratios.")

    @Option(help: "The holdfast-server to start.") var server: String
    @Option(help: "The holdfast-agent to start.") var agent: String
    @Option(help: "The static holdfast-cni.") var plugin: String
    @Option(help: "Debian's, of containernetworking-plugins.") var hostLocal = "/usr/lib/cni/host-local"
    @Option(help: "ADDs of each kind in one measurement.") var calls = 100
    @Option(help: "Measurements of each kind, taken in turn.") var rounds = 5
    @Option(help: "Addresses in use where many are.") var inUse = 10_000
    @Flag(help: "Measures with an empty store, and nothing else.") var onlyEmpty = false

    func run() async throws {
        // Beside what is measured on: /tmp may be memory.
        let scratch = FileManager.default.currentDirectoryPath + "/.build/bench-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        let stage = try Stage(self, scratch: scratch)
        try stage.start()
        defer { stage.stop() }

        print("ADD, exec to exit, medians of \(rounds) runs of \(calls) calls each; ms")
        try measure(stage, "empty")
        if onlyEmpty { return }
        try await stage.fill(inUse)
        try measure(stage, "\(inUse) in use")

        let storm = 110
        let ours = try PluginRun.time(
            atOnce: (0..<storm).map { stage.ours("ADD", vm: $0, container: "at-once-\($0)") }, outputs: scratch)
        let theirs = try PluginRun.time(
            atOnce: (0..<storm).map { stage.theirs("ADD", container: "at-once-\($0)", store: "storm") },
            outputs: scratch)
        print("\(storm) ADDs at once")
        report("holdfast-cni", ours)
        report("host-local, empty", theirs)

        stage.stop()
        try stage.start()
        let boot = try PluginRun.time(
            atOnce: (0..<100).map { stage.ours("ADD", vm: $0, container: "boot-\($0)") }, outputs: scratch)
        print("100 VMs come back at once after server and agent were killed and have started again")
        report("holdfast-cni", boot)
    }

    private func measure(_ stage: Stage, _ name: String) throws {
        let store = name == "empty" ? "empty" : "full"
        var (vms, pods, theirs): ([Double], [Double], [Double]) = ([], [], [])
        var next = 0
        func times(_ add: (String) -> PluginRun, _ delete: (String) -> PluginRun) throws -> Double {
            var times: [Double] = []
            for _ in 0..<calls {
                next += 1
                let container = "\(store)-\(next)"
                times.append(try add(container).time(output: stage.output))
                _ = try delete(container).time(output: stage.output)
            }
            return times.percentile(0.5)
        }
        for _ in 0..<rounds {
            theirs.append(
                try times(
                    { stage.theirs("ADD", container: $0, store: store) },
                    { stage.theirs("DEL", container: $0, store: store) }))
            vms.append(
                try times(
                    { stage.ours("ADD", vm: next % Stage.machines, container: $0) },
                    { stage.ours("DEL", vm: next % Stage.machines, container: $0) }))
            pods.append(
                try times(
                    { stage.ours("ADD", pod: next % Stage.machines, container: $0) },
                    { stage.ours("DEL", pod: next % Stage.machines, container: $0) }))
        }
        print("\(name)")
        for (kind, values) in [("host-local", theirs), ("holdfast-cni, a VM", vms), ("holdfast-cni, a pod", pods)] {
            print("  \(kind.padding(toLength: 24, withPad: " ", startingAt: 0))\(values.percentile(0.5).text)")
        }
        let ratios = zip(vms, theirs).map { $0 / $1 }
        print("  ratio                   \(ratios.percentile(0.5).text)  (at most 0.6 wanted with an empty store)")
    }

    private func report(_ name: String, _ times: [Double]) {
        let (p50, p99) = (times.percentile(0.5).text, times.percentile(0.99).text)
        print("  \(name.padding(toLength: 24, withPad: " ", startingAt: 0))p50 \(p50), p99 \(p99)")
    }
}

/// Server, agent, a directory of VMs and pods, and host-local's stores.
private final class Stage {
    static let machines = 110

    private let bench: NodeBench
    private let scratch: String
    private var processes: [Process] = []

    init(_ bench: NodeBench, scratch: String) throws {
        self.bench = bench
        self.scratch = scratch
        try FileManager.default.createDirectory(atPath: "\(scratch)/pods", withIntermediateDirectories: true)
        try write(
            "[{name: bench, is_default: true, prefixes: [{prefix: 10.0.0.0/8, gateway: 10.0.0.1}]}]", "pools.yaml")
        let socket = "\(scratch)/agent.sock"
        try write(
            #"{"cniVersion":"1.0.0","name":"bench","type":"bridge","ipam":{"type":"holdfast-cni","socket":"\#(socket)"}}"#,
            "ours.json")
        for store in ["empty", "full", "storm"] {
            try FileManager.default.createDirectory(
                atPath: "\(scratch)/\(store)/bench", withIntermediateDirectories: true)
            try write(
                #"{"cniVersion":"1.0.0","name":"bench","type":"bridge","ipam":{"type":"host-local","#
                    + #""dataDir":"\#(scratch)/\#(store)","ranges":[[{"subnet":"10.0.0.0/8"}]]}}"#, "\(store).json")
        }
        for number in 0..<Self.machines {
            func object(_ kind: String, _ name: String, _ uid: String, _ more: String) -> String {
                #"{"apiVersion":"\#(kind == "Pod" ? "v1" : "kubevirt.io/v1")","kind":"\#(kind)","#
                    + #""metadata":{"namespace":"default","name":"\#(name)","uid":"\#(uid)"\#(more)}"#
            }
            func owned(_ kind: String, _ name: String, _ uid: String) -> String {
                #","ownerReferences":[{"apiVersion":"kubevirt.io/v1","kind":"\#(kind)","name":"\#(name)","#
                    + #""uid":"\#(uid)","controller":true}]"#
            }
            let instance = owned("VirtualMachine", "vm-\(number)", "vm-uid-\(number)")
            try write(
                object("VirtualMachineInstance", "vm-\(number)", "vmi-\(number)", instance) + "}",
                "pods/i\(number).json")
            let launcher = owned("VirtualMachineInstance", "vm-\(number)", "vmi-\(number)")
            let node = #","spec":{"nodeName":"node-a"}}"#
            try write(object("Pod", "launcher-\(number)", "l\(number)", launcher) + node, "pods/l\(number).json")
            try write(object("Pod", "web-\(number)", "w\(number)", "") + node, "pods/w\(number).json")
        }
    }

    var output: String { "\(scratch)/out" }

    private func write(_ text: String, _ name: String) throws {
        try Data(text.utf8).write(to: URL(filePath: "\(scratch)/\(name)"))
    }

    func start() throws {
        try launch([
            bench.server, "--listen", "unix:\(scratch)/server.sock", "--store", "sqlite:\(scratch)/ledger.sqlite",
            "--pools", "\(scratch)/pools.yaml", "--http", "off", "--log-level", "warning",
        ])
        try launch([
            bench.agent, "--node", "node-a", "--server", "unix:\(scratch)/server.sock", "--socket",
            "\(scratch)/agent.sock", "--state-dir", "\(scratch)/state", "--pods", "directory:\(scratch)/pods",
            "--log-level", "warning",
        ])
    }

    /// As a power cut does.
    func stop() {
        for process in processes.reversed() {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        processes = []
    }

    private func launch(_ command: [String]) throws {
        let process = Process()
        process.executableURL = URL(filePath: command[0])
        process.arguments = Array(command.dropFirst())
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        processes.append(process)
        let line = String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self)
        guard line.hasPrefix("listening on ") else { throw BenchError("\(command[0]) did not start") }
    }

    /// As many addresses in use, in the ledger and in host-local's store.
    func fill(_ count: Int) async throws {
        let client = try IPAMClient(server: "unix:\(scratch)/server.sock")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for lane in 0..<64 {
                group.addTask {
                    for number in stride(from: lane, to: count, by: 64) {
                        _ = try await client.allocate(
                            AllocateRequest(
                                owner: Owner(
                                    kind: .virtualMachine, namespace: "fill", name: "vm-\(number)", uid: "u\(number)",
                                    network: "bench/eth0"),
                                attachment: Attachment(
                                    node: "node-b", pod: "p\(number)", podUID: "p\(number)", containerID: "f\(number)")),
                            timeout: .seconds(30))
                    }
                }
            }
            try await group.waitForAll()
        }
        await client.close()
        for number in 0..<count {
            let address = "10.0.\((number + 2) / 256).\((number + 2) % 256)"
            try write("fill-\(number)\neth0", "full/bench/\(address)")
        }
    }

    func ours(_ verb: String, vm: Int, container: String) -> PluginRun {
        ours(verb, named: "launcher-\(vm)", uid: "l\(vm)", container: container)
    }

    func ours(_ verb: String, pod: Int, container: String) -> PluginRun {
        ours(verb, named: "web-\(pod)", uid: "w\(pod)", container: container)
    }

    private func ours(_ verb: String, named pod: String, uid: String, container: String) -> PluginRun {
        PluginRun(
            executable: bench.plugin,
            environment: environment(verb, container) + [
                "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod);K8S_POD_UID=\(uid)"
            ], configuration: "\(scratch)/ours.json")
    }

    func theirs(_ verb: String, container: String, store: String) -> PluginRun {
        PluginRun(
            executable: bench.hostLocal, environment: environment(verb, container),
            configuration: "\(scratch)/\(store).json")
    }

    private func environment(_ verb: String, _ container: String) -> [String] {
        [
            "CNI_COMMAND=\(verb)", "CNI_CONTAINERID=\(container)", "CNI_NETNS=/run/netns/x", "CNI_IFNAME=eth0",
            "CNI_PATH=/usr/lib/cni", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ]
    }
}

extension [Double] {
    fileprivate func percentile(_ part: Double) -> Double {
        isEmpty ? 0 : sorted()[Swift.min(count - 1, Int(Double(count) * part))]
    }
}

extension Double {
    fileprivate var text: String { String(format: "%.2f", self) }
}
