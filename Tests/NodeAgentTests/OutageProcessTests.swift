import CNI
import Foundation
import IPAMAPI
import IPAMModel
import Synchronization
import Testing

/// Server, agent and plugin as processes, which are killed at any moment.
struct OutageProcessTests {
    /// A server and an agent in a scratch folder, each started and killed as often as a test likes.
    private final class Stage {
        let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
        private var server: Process?
        private var agent: Process?
        /// Run before the agent, in its own mount namespace: for a state directory of a certain size.
        var agentMount: String?

        init(vms: Int = 1) throws {
            try FileManager.default.createDirectory(atPath: scratch + "/pods", withIntermediateDirectories: true)
            try "[{name: vms, prefixes: [{prefix: 10.1.0.0/16, gateway: 10.1.0.1}], is_default: true}]"
                .write(toFile: "\(scratch)/pools.yaml", atomically: true, encoding: .utf8)
            for number in 0..<vms {
                try """
                {apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: vm-\(number), uid: i\(number), \
                ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: vm-\(number), \
                uid: v\(number), controller: true}]}}
                """.write(toFile: "\(scratch)/pods/vmi-\(number).yaml", atomically: true, encoding: .utf8)
                try """
                {apiVersion: v1, kind: Pod, metadata: {name: pod-\(number), uid: p\(number), ownerReferences: [\
                {apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: vm-\(number), uid: i\(number), \
                controller: true}]}, spec: {nodeName: node-a}}
                """.write(toFile: "\(scratch)/pods/pod-\(number).yaml", atomically: true, encoding: .utf8)
            }
        }

        deinit {
            for process in [agent, server].compactMap(\.self) { end(process) }
            try? FileManager.default.removeItem(atPath: scratch)
        }

        private func end(_ process: Process) {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }

        private func start(_ command: [String]) throws -> Process {
            let process = Process()
            process.executableURL = URL(filePath: command[0])
            process.arguments = Array(command.dropFirst())
            process.environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
            let output = try Executable.spawning.withLock { _ in
                let output = Pipe()
                process.standardOutput = output
                try process.run()
                return output
            }
            do {
                let line = try output.fileHandleForReading.firstWords()
                try #require(line.hasPrefix("listening on "), "\(command[0]): \(line)")
            } catch {
                end(process)
                throw error
            }
            return process
        }

        func startServer() throws {
            server = try start([
                "\(Executable.products)/holdfast-server", "--listen", "unix:\(scratch)/server.sock", "--store",
                "sqlite:\(scratch)/ledger.sqlite", "--pools", "\(scratch)/pools.yaml", "--http", "off", "--log-level",
                "critical",
            ])
        }

        func startAgent() throws {
            let command = [
                "\(Executable.products)/holdfast-agent", "--node", "node-a", "--server", "unix:\(scratch)/server.sock",
                "--socket", "\(scratch)/agent.sock", "--state-dir", "\(scratch)/state", "--pods",
                "directory:\(scratch)/pods", "--log-level", "critical",
            ]
            guard let agentMount else { return agent = try start(command) }
            agent = try start(
                ["/usr/bin/unshare", "-m", "sh", "-c", agentMount + " && exec \"$@\"", "sh"] + command)
        }

        func killServer() {
            if let server { end(server) }
            server = nil
        }

        func killAgent() {
            if let agent { end(agent) }
            agent = nil
        }

        func plugin(_ verb: String, _ vm: Int, container: String) throws -> Executable.Outcome {
            try Executable.run(
                ["\(Executable.products)/holdfast-cni"],
                environment: [
                    "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/x",
                    "CNI_IFNAME": "eth0",
                    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-\(vm);K8S_POD_UID=p\(vm)",
                ],
                input: #"{"cniVersion":"1.0.0","name":"net","type":"bridge","ipam":{"type":"holdfast-cni","#
                    + #""socket":"\#(scratch)/agent.sock"}}"#)
        }

        /// As kubelet does: again, until it works.
        @discardableResult
        func insist(_ verb: String, _ vm: Int, container: String) throws -> Executable.Outcome {
            let deadline = ContinuousClock.now + .seconds(30)
            while true {
                let outcome = try plugin(verb, vm, container: container)
                if outcome.status == 0 { return outcome }
                try #require(try outcome.json["code"]?.integer == 11, "\(outcome.output)")
                try #require(ContinuousClock.now < deadline, "\(outcome.output)")
            }
        }

        func address(_ outcome: Executable.Outcome) throws -> String {
            try #require(outcome.json["ips"]?.array?.first?["address"]?.string, "\(outcome.output)")
        }

        /// Once `isSettled` says so of all bindings.
        func bindings(_ isSettled: ([Binding]) -> Bool = { _ in true }) async throws -> [Binding] {
            let client = try IPAMClient(server: "unix:\(scratch)/server.sock")
            let deadline = ContinuousClock.now + .seconds(30)
            var bindings: [Binding] = []
            while ContinuousClock.now < deadline {
                bindings = try await client.bindings(
                    matching: BindingFilter(), pageSize: 1000, pageToken: nil, timeout: .seconds(20)
                ).bindings.map(\.binding)
                if isSettled(bindings) { break }
                try await Task.sleep(for: .milliseconds(20))
            }
            await client.close()
            return bindings
        }
    }

    @Test func `with the server killed, known VMs go on and DEL is done; all is told after both were killed`()
        async throws
    {
        let stage = try Stage(vms: 3)
        try stage.startServer()
        try stage.startAgent()
        let addresses = try (0..<2).map { try stage.address(stage.insist("ADD", $0, container: "a\($0)")) }
        stage.killServer()

        try stage.plugin("DEL", 0, container: "a0").requireSuccess()
        #expect(try stage.address(stage.plugin("ADD", 0, container: "b0")) == addresses[0])
        let unknown = try stage.plugin("ADD", 2, container: "a2")
        #expect(try unknown.json["code"]?.integer == 11)
        #expect(try unknown.json["details"]?.string?.hasPrefix("this node has no copy") == true, "\(unknown.output)")
        try stage.plugin("DEL", 1, container: "a1").requireSuccess()

        stage.killAgent()
        try stage.startAgent()
        #expect(try stage.address(stage.plugin("ADD", 1, container: "b1")) == addresses[1])
        try stage.plugin("DEL", 1, container: "b1").requireSuccess()
        try stage.startServer()
        let told = try await stage.bindings { bindings in
            bindings.contains { $0.owner.name == "vm-0" && $0.active?.containerID == "b0" }
                && bindings.contains { $0.owner.name == "vm-1" && $0.state == .reserved }
        }
        #expect(told.count == 2)
        #expect(told.first { $0.owner.name == "vm-0" }?.active?.containerID == "b0")
        #expect(told.first { $0.owner.name == "vm-1" }?.state == .reserved)
        #expect(Set(told.map { "\($0.assignments[0].address)/16" }) == Set(addresses))
    }

    enum Victim: CaseIterable { case agent, server }

    @Test(arguments: Victim.allCases)
    func `killed in the midst of ADDs and DELs, every VM ends with one binding and the address it was told`(
        victim: Victim
    ) async throws {
        let (vms, rounds) = (4, 6)
        let stage = try Stage(vms: vms)
        try stage.startServer()
        try stage.startAgent()
        var told: [Int: Set<String>] = [:]
        for round in 0..<rounds {
            let results = try await withThrowingTaskGroup(of: (Int, Executable.Outcome).self) { group in
                for vm in 0..<vms {
                    let stage = Unchecked(stage)
                    group.addTask {
                        if round > 0 { _ = try stage.value.plugin("DEL", vm, container: "c\(round - 1)-\(vm)") }
                        return (vm, try stage.value.plugin("ADD", vm, container: "c\(round)-\(vm)"))
                    }
                }
                // Somewhere among the calls: each takes a few milliseconds.
                usleep(UInt32.random(in: 0..<30_000))
                if victim == .agent { stage.killAgent() } else { stage.killServer() }
                usleep(UInt32.random(in: 0..<30_000))
                if victim == .agent { try stage.startAgent() } else { try stage.startServer() }
                var results: [(Int, Executable.Outcome)] = []
                for try await result in group { results.append(result) }
                return results
            }
            for (vm, outcome) in results where outcome.status == 0 {
                told[vm, default: []].insert(try stage.address(outcome))
            }
            for vm in 0..<vms {
                if round > 0 { try stage.insist("DEL", vm, container: "c\(round - 1)-\(vm)") }
                told[vm, default: []].insert(try stage.address(stage.insist("ADD", vm, container: "c\(round)-\(vm)")))
            }
        }
        let bindings = try await stage.bindings { bindings in
            bindings.count == vms && bindings.allSatisfy { $0.active?.containerID.hasPrefix("c\(rounds - 1)-") == true }
        }
        #expect(bindings.count == vms)
        for vm in 0..<vms {
            let binding = try #require(bindings.first { $0.owner.name == "vm-\(vm)" })
            #expect(told[vm] == ["\(binding.assignments[0].address)/16"])
            #expect(binding.active?.containerID == "c\(rounds - 1)-\(vm)")
        }
    }

    @Test func `two ADDs of one container at once, and again, are one binding and one answer`() async throws {
        let stage = try Stage()
        try stage.startServer()
        try stage.startAgent()
        let shared = Unchecked(stage)
        let answers = try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<6 { group.addTask { try shared.value.plugin("ADD", 0, container: "c1").requireSuccess() } }
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        #expect(answers.count == 1)
        #expect(try await stage.bindings().map(\.active?.containerID) == ["c1"])
    }

    @Test(.enabled(if: getuid() == 0, "mounting a small file system needs root"))
    func `a DEL that the disk has no room for is refused with a word, and is done once there is room`() async throws {
        let stage = try Stage(vms: 1)
        // What is mounted over the folder only the agent sees.
        let state = "\(stage.scratch)/state"
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        stage.agentMount = "mount -t tmpfs -o size=64k none \(state) && head -c 49152 /dev/zero > \(state)/fill"
        try stage.startServer()
        try stage.startAgent()
        stage.killServer()
        var refused: Executable.Outcome?
        for number in 0..<400 {
            let outcome = try stage.plugin("DEL", 0, container: "c\(number)")
            if outcome.status != 0 {
                refused = outcome
                break
            }
        }
        let refusal = try #require(refused, "the disk is never full")
        #expect(try refusal.json["code"]?.integer == 11)
        #expect(try refusal.json["msg"]?.string?.contains("\(stage.scratch)/state/spool") == true, "\(refusal.output)")
        #expect(try refusal.json["msg"]?.string?.contains("No space left on device") == true, "\(refusal.output)")
        // What was kept is told, and then there is room.
        try stage.startServer()
        try stage.insist("DEL", 0, container: "late")
    }

    /// Processes are started and waited for from several tasks: each call makes its own.
    private struct Unchecked: @unchecked Sendable {
        let value: Stage
        init(_ value: Stage) { self.value = value }
    }
}
