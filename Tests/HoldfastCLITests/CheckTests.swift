import ArgumentParser
import Foundation
import IPAMModel
import KubeVirt
import KubernetesAPI
import Lifecycle
import Program
import Synchronization
import Testing

@testable import holdfast

/// Three VMs are in the ledger (Sample): `testvm`, migrating; `true`, bound; `prod/idle`, halted.
@Suite struct `holdfast check` {
    /// What it writes, and whether it ends with 0.
    private func check(
        _ arguments: [String] = [], _ calls: FakeCalls, _ cluster: Sighted
    ) async throws -> (output: String, isGood: Bool) {
        let command = try #require(try Holdfast.parseAsRoot(["check", "--grace", "1ms"] + arguments) as? Check)
        let output = Mutex<[String]>([])
        let session = Session(
            calls: calls, timeout: .seconds(1), format: command.options.output, now: Sample.now,
            write: { text in output.withLock { $0.append(text) } })
        var isGood = true
        do { try await command.run(session, cluster: cluster) } catch is ExitCode { isGood = false }
        return (output.withLock { $0.joined(separator: "\n") }, isGood)
    }

    private func everything() -> Sighted.State {
        var state = Sighted.State()
        for name in ["testvm", "true"] { state.machines.insert(ObjectName(namespace: "default", name: name)) }
        state.machines.insert(ObjectName(namespace: "prod", name: "idle"))
        state.pods = [
            pod("virt-launcher-testvm-x7k2p", uid: "p-1"), pod("virt-launcher-testvm-q9z4c", uid: "p-2"),
            pod("virt-launcher-true-abcde", uid: "p-3"),
        ]
        state.migrations = [
            VirtualMachineInstanceMigration(
                metadata: ObjectMeta(namespace: "default", name: "m", uid: "m-1"), vmiName: "testvm", phase: "Running")
        ]
        return state
    }

    private func pod(_ name: String, uid: String) -> Pod {
        Pod(metadata: ObjectMeta(namespace: "default", name: name, uid: uid), phase: "Running")
    }

    @Test func `says that all agree, and ends with 0`() async throws {
        let calls = FakeCalls(bindings: try Sample.bindings())
        let (output, isGood) = try await check([], calls, Sighted(everything()))
        #expect(output == "3 bindings agree with the cluster" && isGood)
        let (json, _) = try await check(["-o", "json"], calls, Sighted(everything()))
        #expect(json.filter { !$0.isWhitespace } == #"{"disagreements":[]}"#)
    }

    @Test(arguments: ["table", "json", "yaml"])
    func `prints what disagrees, why, and what it would do, changes nothing, and ends with 1`(
        format: String
    ) async throws {
        var state = everything()
        state.machines.remove(ObjectName(namespace: "prod", name: "idle"))
        state.pods.removeLast()
        state.migrations[0].phase = "Succeeded"
        let calls = FakeCalls(bindings: try Sample.bindings())
        let (output, isGood) = try await check(["-o", format], calls, Sighted(state))
        #expect(!isGood && calls.noted.isEmpty)
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden/check.\(format)")
        if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] != nil { try Data("\(output)\n".utf8).write(to: file) }
        #expect(output + "\n" == (try String(contentsOf: file, encoding: .utf8)))
    }

    @Test func `does not name what only the first of its two looks shows`() async throws {
        let sighted = Sighted(everything()) { look, inventory in
            if look == 1 { inventory.machines[ObjectName(namespace: "prod", name: "idle")] = nil }
        }
        let (output, isGood) = try await check([], FakeCalls(bindings: try Sample.bindings()), sighted)
        #expect(isGood && output.hasPrefix("3 bindings agree"), "\(output)")
    }

    @Test func `says of what only the second of its two looks shows that it is to be looked at again`() async throws {
        let names = [ObjectName(namespace: "prod", name: "idle"), ObjectName(namespace: "default", name: "true")]
        let sighted = Sighted(everything()) { look, inventory in
            inventory.machines[names[look - 1]] = nil
            inventory.pods["p-3"] = nil
        }
        let calls = FakeCalls(bindings: try Sample.bindings())
        let (output, isGood) = try await check(["--repair"], calls, sighted)
        #expect(!isGood && calls.noted.isEmpty)
        #expect(output.contains("the VM is gone") && output.contains("nothing: seen once, look again"), "\(output)")
        #expect(!output.contains("idle"), "\(output)")
    }

    @Test func `leaves out what has changed in the ledger while the cluster was looked at`() async throws {
        var state = everything()
        state.pods.removeLast()
        let calls = FakeCalls(bindings: try Sample.bindings(), changedSince: ["true"])
        let (output, isGood) = try await check(["--repair"], calls, Sighted(state))
        #expect(isGood && output == "3 bindings agree with the cluster" && calls.noted.isEmpty, "\(output)")
    }

    @Test(arguments: [1, 2]) func `says nothing where either look is in doubt`(doubtful: Int) async throws {
        let sighted = Sighted(everything()) { look, inventory in
            inventory.machines[ObjectName(namespace: "prod", name: "idle")] = nil
            if look == doubtful { inventory.unreadable = "pods default/odd" }
        }
        let calls = FakeCalls(bindings: try Sample.bindings())
        await #expect(throws: Failure.self) { _ = try await check(["--repair"], calls, sighted) }
        #expect(calls.noted.isEmpty)
    }

    @Test func `frees nothing by the word of another cluster, unless told that it is the right one`() async throws {
        var state = Sighted.State()
        state.machines = [ObjectName(namespace: "prod", name: "idle")]
        state.uids = "another"
        let calls = FakeCalls(bindings: try Sample.bindings())
        let failure = await #expect(throws: Failure.self) { _ = try await check(["--repair"], calls, Sighted(state)) }
        #expect(failure?.description.contains("is this the right cluster?") == true)
        #expect(failure?.description.contains("--even-most") == true && calls.noted.isEmpty)
        let (output, isGood) = try await check(["--even-most"], calls, Sighted(state))
        #expect(!isGood && output.contains("the VM is gone") && calls.noted.isEmpty, "\(output)")
    }

    @Test func `KUBECONFIG names one file, or files of which there is one`() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "kubeconfig-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (a, b) = (folder.appending(path: "a").path, folder.appending(path: "b").path)
        try Data().write(to: URL(filePath: b))
        for list in [b, "\(a):\(b)", ":\(b):"] { #expect(try Check.kubeconfig(in: list) == b) }
        #expect(try Check.kubeconfig(in: a) == a, "which cannot be read")
        try Data().write(to: URL(filePath: a))
        let failure = #expect(throws: Failure.self) { try Check.kubeconfig(in: "\(a):\(b)") }
        #expect(failure?.hint?.contains("--kubeconfig: \(a), \(b)") == true)
    }

    @Test func `mends what is safe to mend, after one more look`() async throws {
        var state = everything()
        state.machines.remove(ObjectName(namespace: "prod", name: "idle"))
        let calls = FakeCalls(bindings: [try Sample.bindings()[2]])
        let (output, isGood) = try await check(["--repair"], calls, Sighted(state))
        #expect(isGood && output.contains("done"), "\(output)")
        #expect(calls.noted == ["release vm prod/idle (vm-net/eth0)"])

        let stubborn = Sighted(state)
        stubborn.showsMachinesWhenAsked = true
        let again = FakeCalls(bindings: [try Sample.bindings()[2]])
        let (left, isStillGood) = try await check(["--repair"], again, stubborn)
        #expect(!isStillGood && left.contains("left as it is: a VM of that name is there"), "\(left)")
        #expect(again.noted.isEmpty)
    }

    @Test func `says nothing of a cluster that cannot be read whole`() async throws {
        var state = everything()
        state.unreadable = "pods default/odd: it has no name"
        let calls = FakeCalls(bindings: try Sample.bindings())
        let failure = await #expect(throws: Failure.self) { _ = try await check(["--repair"], calls, Sighted(state)) }
        #expect(failure?.description.contains("pods default/odd: it has no name") == true && calls.noted.isEmpty)
    }
}

/// A cluster as a test states it.
private final class Sighted: ClusterReads {
    struct State {
        var machines: Set<ObjectName> = []
        var pods: [Pod] = []
        var migrations: [VirtualMachineInstanceMigration] = []
        var unreadable: String?
        /// Of all VMs, where they are others than the ledger's.
        var uids: String?
    }

    private let state: State
    private let options = Mutex<(showsWhenAsked: Bool, looks: Int)>((false, 0))
    /// What a look does not show, or shows otherwise; the first is number 1.
    private let change: @Sendable (Int, inout Inventory) -> Void

    init(_ state: State, _ change: @escaping @Sendable (Int, inout Inventory) -> Void = { _, _ in }) {
        self.state = state
        self.change = change
    }

    var showsMachinesWhenAsked: Bool {
        get { options.withLock { $0.showsWhenAsked } }
        set { options.withLock { $0.showsWhenAsked = newValue } }
    }

    private func inventory(_ coverage: Inventory.Coverage) -> Inventory {
        var inventory = Inventory(coverage: coverage, unreadable: state.unreadable)
        for machine in state.machines {
            inventory.add(
                ObjectMeta(namespace: machine.namespace, name: machine.name, uid: state.uids ?? "7d3c-\(machine.name)"))
        }
        for pod in state.pods { inventory.add(pod) }
        for migration in state.migrations { inventory.add(migration) }
        return inventory
    }

    func inventory(of coverage: Inventory.Coverage) async throws(KubernetesError) -> Inventory {
        var inventory = inventory(coverage)
        let look = options.withLock { options in
            options.looks += 1
            return options.looks
        }
        change(look, &inventory)
        return inventory
    }

    func migrations(of bindings: [Binding]) async throws(KubernetesError) -> Inventory {
        var inventory = Inventory(coverage: .migrations)
        for migration in state.migrations { inventory.add(migration) }
        return inventory
    }

    func hasMachine(_ name: ObjectName) async throws(KubernetesError) -> Bool {
        showsMachinesWhenAsked || state.machines.contains(name)
    }

    func pod(_ name: ObjectName) async throws(KubernetesError) -> Pod? {
        state.pods.first { ObjectName($0.metadata) == name }
    }

    func pods(named name: String, on node: String) async throws(KubernetesError) -> Inventory {
        var inventory = Inventory(coverage: [], unreadable: state.unreadable)
        for pod in state.pods where pod.metadata.name == name { inventory.add(pod) }
        return inventory
    }
}
