import Addresses
import CNI
import Foundation
import IPAMAPI
import IPAMModel
import KubeVirt
import Ledger
import Logging
import Synchronization
import TestLog
import Testing

@testable import NodeAgent

/// A node's clock that a test sets.
final class StatedClock: Sendable {
    private let nanoseconds = Mutex<Int64>(1_000_000_000_000)

    func advance(seconds: Int64) { nanoseconds.withLock { $0 += seconds * 1_000_000_000 } }

    func clock(boot: String = "boot-1") -> NodeClock { NodeClock(bootID: boot) { self.nanoseconds.withLock { $0 } } }
}

/// ADD and DEL while the server is away, and what it is told when it is back.
final class OutageTests {
    private let ipam: LedgerIPAM
    private let source = StatedSource()
    private let time = StatedClock()
    private let log = RecordedLog()
    private let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
    private var outage: Outage
    private var handler: AttachmentHandler

    private static let vm = Owner(
        kind: .virtualMachine, namespace: "default", name: "testvm", uid: "vm-1", network: "vm-net/eth0")

    init() throws {
        ipam = try LedgerIPAM()
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        outage = try Outage(directory: scratch, clock: time.clock(), log: log.logger)
        outage.ride = .milliseconds(50)
        handler = AttachmentHandler(
            node: "node-a", ipam: ObservedIPAM(ipam, reach: outage.reach), source: source, log: log.logger,
            outage: outage)
        state()
    }

    deinit { try? FileManager.default.removeItem(atPath: scratch) }

    /// The agent ends however it may, and another one starts.
    private func restart(boot: String = "boot-1") throws {
        outage = try Outage(directory: scratch, clock: time.clock(boot: boot), log: log.logger)
        outage.ride = .milliseconds(50)
        handler = AttachmentHandler(
            node: "node-a", ipam: ObservedIPAM(ipam, reach: outage.reach), source: source, log: log.logger,
            outage: outage)
    }

    /// One pod of one VM.
    private func state(
        pod: String = "pod-1", uid: String = "vm-1", annotations: [String: String] = [:],
        labels: [String: String] = [:], migrations: [String] = []
    ) {
        var objects = ClusterObjects()
        objects.pods = [
            Pod(
                metadata: ObjectMeta(
                    namespace: "default", name: pod, uid: pod, labels: labels, annotations: annotations,
                    owners: [
                        OwnerReference(
                            apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", name: "testvm", uid: "vmi-1")
                    ], createdAt: Timestamp(seconds: 1_795_495_200)), nodeName: "node-a")
        ]
        objects.instances = [
            VirtualMachineInstance(
                metadata: ObjectMeta(
                    namespace: "default", name: "testvm", uid: "vmi-1",
                    owners: [
                        OwnerReference(apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "testvm", uid: uid)
                    ]))
        ]
        objects.migrations = migrations.map {
            VirtualMachineInstanceMigration(
                metadata: ObjectMeta(namespace: "default", name: $0, uid: $0), vmiName: "testvm", phase: "Scheduling")
        }
        source.state(objects)
    }

    private func request(_ verb: String, container: String, pod: String = "pod-1") -> AgentRequest {
        AgentRequest(
            environment: [
                "CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0",
                "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=\(pod);K8S_POD_UID=\(pod)",
            ],
            configuration: [
                "cniVersion": "1.0.0", "name": "vm-net", "type": "bridge",
                "ipam": ["type": "holdfast-cni", "pool": "vms"],
            ])
    }

    @discardableResult
    private func add(_ container: String, pod: String = "pod-1") async throws -> JSON {
        defer { handler.answered() }
        return try await handler.add(request("ADD", container: container, pod: pod))
    }

    private func delete(_ container: String, pod: String = "pod-1") async throws {
        try await handler.delete(request("DEL", container: container, pod: pod))
    }

    private func refusal(_ container: String) async -> CNIError? {
        do {
            try await add(container)
            return nil
        } catch {
            return error as? CNIError
        }
    }

    private var replay: SpoolReplay {
        SpoolReplay(
            node: "node-a", ipam: ipam, spool: outage.spool, copies: outage.copies, clock: outage.clock,
            log: log.logger)
    }

    private var renewal: CopyRenewal {
        CopyRenewal(
            node: "node-a", ipam: ipam, copies: outage.copies, spool: outage.spool, clock: outage.clock, log: log.logger
        )
    }

    private func goAway() { ipam.fail(with: IPAMError(.unavailable, .noAnswer, "Connection refused")) }

    private func comeBack() async {
        ipam.fail(with: nil)
        #expect(await replay.pass())
        #expect(outage.spool.isEmpty)
    }

    private var binding: Binding? { ipam.binding(of: Self.vm.key) }

    // MARK: - DEL

    @Test func `DEL succeeds while the server is away, outlives the agent, and is told once it is back`() async throws {
        try await add("c1")
        goAway()
        try await delete("c1")
        try await delete("c1")
        #expect(binding?.active?.containerID == "c1")
        try restart()
        #expect(outage.spool.items.count == 1)
        await comeBack()
        #expect(binding?.state == .reserved)
        try restart()
        #expect(outage.spool.isEmpty)
    }

    @Test func `the server is not asked again by a DEL while it is known to be away`() async throws {
        goAway()
        try await delete("c1")
        let calls = ipam.calls.count
        for number in 2..<10 { try await delete("c\(number)") }
        #expect(ipam.calls.count == calls && outage.spool.items.count == 9)
    }

    @Test func `a late DEL of an older sandbox does not undo the ADD of a newer one`() async throws {
        try await add("c1")
        goAway()
        try await delete("c1")
        // Back, but not told yet.
        ipam.fail(with: nil)
        try await add("c2")
        await comeBack()
        #expect(binding?.active?.containerID == "c2")
    }

    @Test func `what can never be told is dropped with a word, and holds up nothing behind it`() async throws {
        try await add("c1")
        goAway()
        try await delete("c1")
        try outage.spool.add(
            .attach(AllocateRequest(owner: Self.vm, attachment: nil, addresses: [try #require(IPAddress("192.0.2.1"))]))
        )
        try await delete("c2")
        await comeBack()
        #expect(binding?.state == .reserved)
        #expect(log.lines.contains { $0.contains("192.0.2.1") }, "\(log.lines)")
    }

    @Test func `what the server does not take for now is kept, and only what speaks of the same waits for it`()
        async throws
    {
        try await add("c1")
        goAway()
        try await delete("c1")
        var other = Self.vm
        (other.name, other.uid) = ("refused", "vm-7")
        for container in ["r1", "r2"] {
            let attachment = Attachment(node: "node-a", pod: "r", podUID: "r", containerID: container)
            try outage.spool.add(.attach(AllocateRequest(owner: other, attachment: attachment)))
        }
        ipam.fail(with: nil)
        ipam.refuse(ownersNamed: "refused")
        #expect(await replay.pass() == false)
        #expect(binding?.state == .reserved && ipam.binding(of: other.key) == nil)
        #expect(outage.spool.items.count == 2)
        ipam.refuse(ownersNamed: nil)
        await comeBack()
        #expect(ipam.binding(of: other.key)?.active?.containerID == "r2")
    }

    @Test func `what the server has too much to do for is kept, and told later, and so is all that stands behind it`()
        async throws
    {
        try await add("c1")
        goAway()
        try await delete("c1")
        try await delete("c2")
        ipam.fail(with: IPAMError(.resourceExhausted, .overloaded, "too many changes are waiting"))
        let calls = ipam.calls.count
        #expect(await replay.pass() == false)
        #expect(outage.spool.items.count == 2 && ipam.calls.count == calls + 1)
        await comeBack()
        #expect(binding?.state == .reserved)
    }

    /// Its certificate or its token may be mended; but nobody says what another node's agent should have said.
    @Test func `what was kept under another name of the node is dropped once the server refuses it`() async throws {
        for node in ["node-a", "node-of-before"] {
            let attachment = Attachment(node: node, pod: node, podUID: node, containerID: node)
            var owner = Self.vm
            owner.name = node
            try outage.spool.add(.attach(AllocateRequest(owner: owner, attachment: attachment)))
        }
        ipam.fail(with: IPAMError(.permissionDenied, .otherNode, "that is another node's"))
        #expect(await replay.pass() == false)
        let kept = outage.spool.items.map(\.entry)
        #expect(kept.count == 1)
        guard case .attach(let request)? = kept.first else { return }
        #expect(request.owner.name == "node-a")
        #expect(log.lines.contains { $0.contains("does not give it") && $0.contains("node-of-before") }, "\(log.lines)")
    }

    @Test(arguments: [
        IPAMError(.unauthenticated, .tokenRefused, "the token has run out"),
        IPAMError(.permissionDenied, .roleMissing, "node-a has no role here"),
        IPAMError(.permissionDenied, .nodeUnknown, "nothing proves which node the agent is on"),
    ])
    func `a server that takes nothing from this agent is told one thing in a pass, which is in the log once`(
        refusal: IPAMError
    ) async throws {
        let replay = replay
        func complaints() -> Int { log.lines.count { $0.hasPrefix("the server did not take what it must be told") } }
        for round in 1...2 {
            goAway()
            for number in 1...5 { try await delete("c\(number)") }
            ipam.fail(with: refusal)
            let calls = ipam.calls.count
            for _ in 1...3 { #expect(await replay.pass() == false) }
            #expect(outage.spool.items.count == 5 && ipam.calls.count == calls + 3)
            // When all has been told it is news again.
            #expect(complaints() == round, "\(log.lines)")
            ipam.fail(with: nil)
            #expect(await replay.pass())
        }
    }

    @Test func `of what the server does not take each reason is in the log once`() async throws {
        let replay = replay
        goAway()
        for number in 1...5 { try await delete("c\(number)") }
        for reason in [IPAMError.Reason.otherNode, .namespaceNotAllowed] {
            ipam.fail(with: IPAMError(.permissionDenied, reason, "no"))
            let calls = ipam.calls.count
            for _ in 1...3 { #expect(await replay.pass() == false) }
            #expect(ipam.calls.count == calls + 15)
        }
        #expect(log.lines.count { $0.contains("error=no failed=1") } == 2 && log.lines.count == 2, "\(log.lines)")
    }

    @Test func `a DEL that stands in line does not say that a server is away which answers`() async throws {
        let log = RecordedLog(.notice)
        handler = AttachmentHandler(
            node: "node-a", ipam: ObservedIPAM(ipam, reach: outage.reach), source: source, log: log.logger,
            outage: outage)
        goAway()
        try await delete("c1")
        ipam.fail(with: IPAMError(.unauthenticated, .tokenRefused, "the token has run out"))
        _ = try? await outage.observe(ipam)
        try await delete("c2")
        #expect(outage.spool.items.count == 2)
        #expect(
            log.lines.filter { $0.contains(": it will be told of a detachment") }.map { $0.prefix { $0 != ":" } } == [
                "the server is away", "the server has not been told of what came before",
            ])
    }

    /// Agents' tokens run out while no API server renews them.
    @Test func `a DEL is told late where the server takes nothing from this agent`() async throws {
        try await add("c1")
        for refusal in [
            IPAMError(.unauthenticated, .tokenRefused, "the token has run out"),
            IPAMError(.permissionDenied, .roleMissing, "no agent"),
        ] {
            ipam.fail(with: refusal)
            try await delete("c1")
            #expect(outage.spool.items.count == 1 && binding?.active?.containerID == "c1")
            await comeBack()
            #expect(binding?.state == .reserved)
            try await add("c1")
        }
        // What speaks of the pod is its runtime's to hear.
        ipam.fail(with: IPAMError(.permissionDenied, .otherNode, "the pod is another node's"))
        await #expect(throws: CNIError.self) { try await delete("c1") }
        #expect(outage.spool.isEmpty)
    }

    // MARK: - ADD from a copy

    @Test func `ADD of a known VM is served from the node's copy, and the server learns of its carrier`() async throws {
        let first = try await add("c1")
        try await delete("c1")
        goAway()
        state(pod: "pod-2")
        let second = try await add("c2", pod: "pod-2")
        #expect(second == first)
        try restart()
        let third = try await add("c2", pod: "pod-2")
        #expect(third == first)
        #expect(outage.spool.items.count == 1)
        await comeBack()
        #expect(binding?.active?.containerID == "c2" && binding?.active?.podUID == "pod-2")
    }

    @Test func `a delegate is told of its node's copy too, and of what the server said before it went`() async throws {
        func add(_ member: (String, JSON), _ container: String) async throws -> JSON {
            var request = request("ADD", container: container)
            request.configuration["ipam"] = nil
            if member.0 == "delegate" { request.configuration["type"] = "holdfast-cni" }
            request.configuration[member.0] = member.1
            return try await handler.add(request)
        }
        let (main, delegates): ((String, JSON), (String, JSON)) = (
            ("delegate", ["type": "bridge"]), ("ipam", ["type": "holdfast-cni", "attached": true])
        )
        let first = try await add(main, "c1")
        goAway()
        #expect(try await add(delegates, "c1") == first)
        let second = try await add(main, "c2")
        #expect(try await add(delegates, "c2") == second && second == first)
        // The server answers again, but does not know of the pod yet.
        ipam.fail(with: nil)
        _ = try await ObservedIPAM(ipam, reach: outage.reach).pools(timeout: .seconds(1))
        #expect(try await add(delegates, "c2") == second)
        await comeBack()
        #expect(try await add(delegates, "c2") == second)
        #expect(binding?.active?.containerID == "c2")
    }

    @Test func `a pod that came from a copy and went before the server was back leaves its VM reserved`() async throws {
        try await add("c1")
        try await delete("c1")
        goAway()
        state(pod: "pod-2")
        try await add("c2", pod: "pod-2")
        try await delete("c2", pod: "pod-2")
        #expect(outage.spool.items.count == 2)
        await comeBack()
        #expect(binding?.state == .reserved && binding?.released?.containerID == "c2")
    }

    /// The end of its source's pod, told first, would commit the migration, and the pod that runs would be refused.
    @Test func `a pod that came from a copy takes its VM's before the server is told of the end of the pod before`()
        async throws
    {
        try await add("c1")
        goAway()
        try await delete("c1")
        state(pod: "pod-2")
        try await add("c2", pod: "pod-2")
        let target = Attachment(
            node: "node-b", pod: "pod-b", podUID: "pod-b", containerID: "b1",
            createdAt: Timestamp(seconds: 1_795_495_300))
        ipam.fail(with: nil)
        try ipam.apply(.transfer(TransferRequest(owner: Self.vm, migrationUID: "m", phase: .prepare(target: target))))
        await comeBack()
        #expect(binding?.active?.containerID == "c2")
        #expect(log.lines.isEmpty, "\(log.lines)")
    }

    @Test func `a sandbox that went, and came again from a copy, is told in that order`() async throws {
        try await add("c1")
        goAway()
        try await delete("c1")
        try await add("c1")
        await comeBack()
        #expect(binding?.active?.containerID == "c1")
    }

    @Test func `an ADD that finds the server again waits until it knows of the VM's last pod`() async throws {
        try await add("c1")
        goAway()
        try await add("c2")
        ipam.fail(with: nil)
        _ = try? await outage.observe(ipam)
        let (handler, request) = (handler, request("ADD", container: "c3"))
        async let added = handler.add(request)
        let deadline = ContinuousClock.now + .seconds(30)
        while outage.spool.hasAttachment(of: Self.vm.key), .now < deadline {
            _ = await replay.pass()
            await Task.yield()
        }
        _ = try await added
        #expect(binding?.active?.containerID == "c3")
    }

    @Test func `an ADD of a sandbox whose DEL the server has not been told of comes after it`() async throws {
        try await add("c1")
        goAway()
        try await delete("c1")
        ipam.fail(with: nil)
        _ = try? await outage.observe(ipam)
        let calls = ipam.calls.count
        // It waits for two seconds, and then is served as if the server were away still.
        try await add("c1")
        #expect(ipam.calls.count == calls && outage.spool.items.count == 2)
        await comeBack()
        #expect(binding?.active?.containerID == "c1")
    }

    @Test func `a copy is good for less than the reuse delay since the request was sent, not since the answer came`()
        async throws
    {
        // The answer lies in a socket for 50 s, while the agent is stopped.
        ipam.beforeAnswer { [time] in time.advance(seconds: 50) }
        try await add("c1")
        ipam.beforeAnswer(nil)
        goAway()
        time.advance(seconds: 6)
        try await add("c1")
        time.advance(seconds: 1)
        let refusal = try #require(await refusal("c1"))
        #expect(refusal.code == .tryAgainLater)
        #expect(refusal.details.hasPrefix("this node's copy was confirmed 57 s ago"), "\(refusal)")
    }

    @Test func `a renewal makes a copy fresh, from when it was asked for`() async throws {
        try await add("c1")
        time.advance(seconds: 40)
        ipam.beforeAnswer { [time] in time.advance(seconds: 20) }
        try await renewal.pass()
        ipam.beforeAnswer(nil)
        goAway()
        time.advance(seconds: 36)
        try await add("c1")
        time.advance(seconds: 1)
        #expect(await refusal("c1")?.code == .tryAgainLater)
    }

    /// A copy of VM `hasty`, of a pool that gives addresses again after 6 s.
    private func keepHastyCopy() async throws {
        var pool = try #require(ipam.pool(named: "other"))
        pool.reuseDelay = .seconds(6)
        try ipam.apply(.updatePool(pool))
        var hasty = Self.vm
        (hasty.name, hasty.uid) = ("hasty", "vm-6")
        let attachment = Attachment(node: "node-a", pod: "h", podUID: "h", containerID: "h")
        let answer = try await ipam.allocate(
            AllocateRequest(owner: hasty, attachment: attachment, pool: "other", keepsCopy: true), timeout: .seconds(1))
        outage.copies.keep(answer.binding, sent: outage.clock.now())
    }

    @Test func `a copy that comes between two renewals is renewed in its own time`() async throws {
        func isRenewed(_ name: String) async throws -> Bool {
            let deadline = ContinuousClock.now + .seconds(6)
            while ContinuousClock.now < deadline {
                for case .renew(let request) in ipam.calls
                where request.copies.contains(where: { $0.owner.name == name }) {
                    return true
                }
                try await Task.sleep(for: .milliseconds(20))
            }
            return false
        }
        try await add("c1")
        let renewing = Task { [renewal] in try await renewal.run() }
        #expect(try await isRenewed("testvm"))
        try await keepHastyCopy()
        time.advance(seconds: 2)
        #expect(try await isRenewed("hasty"))
        renewing.cancel()
        try await renewing.value
    }

    @Test func `a copy is renewed as often as its own pool wants it, and none because of another's`() async throws {
        try await add("c1")
        try await keepHastyCopy()
        func renewed() async throws -> Set<String> {
            let before = ipam.calls.count
            try await renewal.pass()
            return ipam.calls.dropFirst(before).reduce(into: []) { names, call in
                if case .renew(let request) = call { names.formUnion(request.copies.map(\.owner.name)) }
            }
        }
        #expect(try await renewed() == ["hasty"])
        time.advance(seconds: 8)
        #expect(try await renewed() == ["hasty"])
        time.advance(seconds: 1)
        #expect(try await renewed() == ["hasty", "testvm"])
        #expect(try await renewed() == ["hasty"])
    }

    @Test func `a copy from before the node was booted is too old until the server has confirmed it`() async throws {
        try await add("c1")
        goAway()
        try restart(boot: "boot-2")
        let refusal = try #require(await refusal("c1"))
        #expect(refusal.code == .tryAgainLater && refusal.details.contains("before the node was booted"), "\(refusal)")
        ipam.fail(with: nil)
        try await renewal.pass()
        goAway()
        try await add("c1")
    }

    @Test(arguments: [
        ("ovn.kubernetes.io/ip_address", "10.16.0.99", "10.16.0.99"),
        ("ovn.kubernetes.io/mac_address", "02:00:00:00:00:77", "02:00:00:00:00:77"),
        ("ovn.kubernetes.io/logical_switch", "other", "pool other"),
    ])
    func `a pod that asks for something else than the copy has is told so`(
        annotation: String, value: String, word: String
    ) async throws {
        try await add("c1")
        goAway()
        state(annotations: [annotation: value])
        let refusal = try #require(await refusal("c1"))
        #expect(refusal.code == .tryAgainLater && refusal.details.contains(word), "\(refusal)")
        #expect(outage.spool.isEmpty)
    }

    @Test func `another VM of the same name, a migration's target and a plain pod get nothing from a copy`()
        async throws
    {
        try await add("c1")
        goAway()
        state(uid: "vm-2")
        #expect(await refusal("c2")?.details.contains("another VM of the same name") == true)
        state(labels: ["kubevirt.io/migrationJobUID": "m1"])
        #expect(await refusal("c2")?.code == .tryAgainLater)
        var objects = ClusterObjects()
        objects.pods = [
            Pod(metadata: ObjectMeta(namespace: "default", name: "pod-1", uid: "pod-1"), nodeName: "node-a")
        ]
        source.state(objects)
        #expect(await refusal("c2")?.details.contains("no VM's") == true)
        #expect(outage.spool.isEmpty)
    }

    @Test func `what the server does not give a pod that came from a copy is said loudly`() async throws {
        let answer = try await add("c1")
        try await delete("c1")
        goAway()
        try await add("c2")
        // Nobody may do this while the copy is in use; a person with --force can.
        ipam.fail(with: nil)
        _ = try await ipam.release(.binding(Self.vm), timeout: .seconds(1))
        ipam.advance(by: .seconds(61))
        let address = try #require(
            answer["result"]?["ips"]?.array?.first?["address"]?.string?.split(separator: "/").first)
        var thief = Self.vm
        (thief.name, thief.uid) = ("thief", "vm-9")
        try ipam.apply(
            .allocate(AllocateRequest(owner: thief, addresses: [try #require(IPAddress(String(address)))])))
        await comeBack()
        #expect(log.lines.contains { $0.contains("addresses that the server does not give it") }, "\(log.lines)")
        #expect(binding == nil)
    }

    @Test func `a migration's target node has a copy once the target is attached, and serves its VM from it`()
        async throws
    {
        let source = Attachment(node: "node-b", pod: "pod-b", podUID: "pod-b", containerID: "b1")
        try ipam.apply(.allocate(AllocateRequest(owner: Self.vm, attachment: source)))
        state(pod: "pod-2", labels: ["kubevirt.io/migrationJobUID": "m"], migrations: ["m"])
        try await add("c2", pod: "pod-2")
        #expect(binding?.target?.containerID == "c2" && outage.copies.all.map(\.owner) == [Self.vm])
        try ipam.apply(.transfer(TransferRequest(owner: Self.vm, migrationUID: "m", phase: .commit(targetOwner: nil))))
        goAway()
        state(pod: "pod-3")
        try await add("c3", pod: "pod-3")
        await comeBack()
        #expect(binding?.active?.containerID == "c3")
    }

    // MARK: - Moves

    @Test func `a binding moves to another owner only when this node has let go of its copy`() async throws {
        try await add("c1")
        var other = Self.vm
        (other.name, other.uid) = ("restored", "vm-2")
        let target = Attachment(node: "node-b", pod: "pod-b", podUID: "pod-b", containerID: "b1")
        try ipam.apply(.transfer(TransferRequest(owner: Self.vm, migrationUID: "m", phase: .prepare(target: target))))
        let move = Command.transfer(
            TransferRequest(owner: Self.vm, migrationUID: "m", phase: .commit(targetOwner: other)))
        let refusal = #expect(throws: IPAMError.self) { try ipam.apply(move) }
        #expect(refusal?.code == .unavailable && refusal?.reason == .copiesOutstanding)
        #expect(refusal?.message.contains("node node-a") == true, "\(refusal?.message ?? "")")

        // An answer that says so and is lost lets nobody through; a copy that is dropped does.
        _ = try await ipam.renewCopies(
            RenewCopiesRequest(node: "node-a", copies: [BindingCopy(owner: Self.vm, revision: 0)]), timeout: .seconds(1)
        )
        #expect(throws: IPAMError.self) { try ipam.apply(move) }
        try await renewal.pass()
        #expect(outage.copies.all.isEmpty)
        try ipam.apply(move)
        #expect(ipam.binding(of: other.key)?.active?.node == "node-b")
        try restart()
        #expect(outage.copies.all.isEmpty)
    }

    /// Else the binding goes to another owner, and its last pod, which the server does not know of, keeps the address.
    @Test func `that a copy is dropped is said only when the server knows of the pod that came from it`() async throws {
        try await add("c1")
        try await delete("c1")
        goAway()
        state(pod: "pod-2")
        try await add("c2", pod: "pod-2")
        ipam.fail(with: nil)
        var other = Self.vm
        (other.name, other.uid) = ("restored", "vm-2")
        let target = Attachment(node: "node-b", pod: "pod-b", podUID: "pod-b", containerID: "b1")
        try ipam.apply(.transfer(TransferRequest(owner: Self.vm, migrationUID: "m", phase: .prepare(target: target))))
        let move = Command.transfer(
            TransferRequest(owner: Self.vm, migrationUID: "m", phase: .commit(targetOwner: other)))
        #expect(throws: IPAMError.self) { try ipam.apply(move) }
        var dropped: [DroppedCopy] {
            ipam.calls.flatMap { call -> [DroppedCopy] in
                if case .renew(let request) = call { request.dropped } else { [] }
            }
        }
        try await renewal.pass()
        #expect(outage.copies.all.isEmpty && dropped.isEmpty)
        #expect(throws: IPAMError.self) { try ipam.apply(move) }
        #expect(await replay.pass())
        #expect(binding?.active?.podUID == "pod-2")
        try await renewal.pass()
        #expect(dropped.map(\.owner) == [Self.vm])
    }

    @Test func `a copy that is dropped while an ADD writes down that it uses it serves nobody`() async throws {
        let (time, dropsNext) = (time, HandlerFixture.Flag())
        let used = Mutex<(spool: Spool, copies: CopyStore)?>(nil)
        outage = try Outage(
            directory: scratch,
            clock: NodeClock(bootID: "boot-1") {
                if dropsNext.isSet, let (spool, copies) = used.withLock({ $0 }), spool.hasAttachment(of: Self.vm.key) {
                    dropsNext.set(false)
                    copies.renew(
                        copies.all.map { ($0, RenewedCopy(validFor: nil, ticket: 7)) }, sent: time.clock().now())
                }
                return time.clock().now()
            }, log: log.logger)
        outage.ride = .milliseconds(50)
        used.withLock { $0 = (outage.spool, outage.copies) }
        handler = AttachmentHandler(
            node: "node-a", ipam: ObservedIPAM(ipam, reach: outage.reach), source: source, log: log.logger,
            outage: outage)
        try await add("c1")
        try await delete("c1")
        goAway()
        dropsNext.set(true)
        #expect(await refusal("c2")?.code == .tryAgainLater)
        #expect(outage.copies.all.isEmpty && !dropsNext.isSet)
    }

    @Test func `an agent whose disk takes no file of copies has them in memory`() async throws {
        try await add("c1")
        // Nothing can be written beside it.
        try FileManager.default.createDirectory(atPath: scratch + "/copies.new", withIntermediateDirectories: true)
        try restart()
        func complaints() -> Int { log.lines.count { $0.hasPrefix("the copies' file is not up to date") } }
        #expect(outage.copies.all.count == 1)
        func renew() async throws {
            time.advance(seconds: 10)
            try await renewal.pass()
        }
        // At most once a minute; once it went well it is news again.
        for _ in 1...3 { try await renew() }
        #expect(complaints() == 1, "\(log.lines)")
        try FileManager.default.removeItem(atPath: scratch + "/copies.new")
        try await renew()
        try FileManager.default.createDirectory(atPath: scratch + "/copies.new", withIntermediateDirectories: true)
        try await renew()
        #expect(complaints() == 2, "\(log.lines)")
        goAway()
        try await add("c2")
        #expect(outage.spool.hasAttachment(of: Self.vm.key))
    }

    @Test(.enabled(if: getuid() == 0, "mounting a file system needs root"))
    func `an agent starts on a disk that is read-only, and serves while the server answers`() async throws {
        try await add("c1")
        goAway()
        try await delete("c1")
        try Executable.run(["mount", "--bind", scratch, scratch]).requireSuccess()
        defer { _ = try? Executable.run(["umount", "-l", scratch]) }
        try Executable.run(["mount", "-o", "remount,bind,ro", scratch]).requireSuccess()
        try restart()
        // What was kept before is there.
        #expect(outage.spool.items.count == 1)
        do {
            try await delete("c9")
            Issue.record("nothing can be kept")
        } catch {
            #expect((error as? CNIError)?.code == .tryAgainLater)
        }
        await comeBack()
        try await add("c2")
        #expect(outage.copies.all.count == 1)
        // That a copy is dropped is not said while the next agent would have it again.
        let copies = outage.copies
        copies.renew(copies.all.map { ($0, RenewedCopy(validFor: nil, ticket: 7)) }, sent: outage.clock.now())
        #expect(copies.all.isEmpty && copies.dropped.isEmpty)
        try restart()
        #expect(outage.copies.all.count == 1)
    }

    @Test(.enabled(if: getuid() == 0, "mounting a file system needs root"))
    func `an agent that starts on a read-only disk without files keeps what it must once it can`() async throws {
        try FileManager.default.removeItem(atPath: scratch + "/spool")
        try FileManager.default.removeItem(atPath: scratch + "/copies")
        try Executable.run(["mount", "--bind", scratch, scratch]).requireSuccess()
        try Executable.run(["mount", "-o", "remount,bind,ro", scratch]).requireSuccess()
        do {
            try restart()
        } catch {
            Issue.record(error)
        }
        try Executable.run(["umount", "-l", scratch]).requireSuccess()
        goAway()
        try await delete("c1")
        try restart()
        #expect(outage.spool.items.count == 1)
    }

    @Test func `a copy is in the file once the plugin has its answer, and not before`() async throws {
        _ = try await handler.add(request("ADD", container: "c1"))
        #expect(outage.copies.all.count == 1)
        try restart()
        #expect(outage.copies.all.isEmpty)
        try await add("c1")
        try restart()
        #expect(outage.copies.all.count == 1)
    }

    @Test func `an answer that was under way while the copy was dropped does not bring it back`() async throws {
        try await add("c1")
        let late = try await ipam.allocate(
            AllocateRequest(owner: Self.vm, keepsCopy: true), timeout: .seconds(1)
        ).binding
        let sent = outage.clock.now()
        time.advance(seconds: 1)
        let copies = outage.copies
        copies.renew(copies.all.map { ($0, RenewedCopy(validFor: nil, ticket: 7)) }, sent: outage.clock.now())
        #expect(copies.dropped == [DroppedCopy(owner: Self.vm, ticket: 7)])
        copies.keep(late, sent: sent)
        #expect(copies.all.isEmpty)
    }

    @Test func `a copy that a later request brought is not dropped by an earlier renewal's answer`() async throws {
        try await add("c1")
        let copies = outage.copies
        let sent = outage.clock.now() - 1
        copies.renew(copies.all.map { ($0, RenewedCopy(validFor: nil, ticket: 7)) }, sent: sent)
        #expect(copies.all.count == 1 && copies.dropped.isEmpty)
    }
}

extension Outage {
    /// A call that shows that the server answers.
    fileprivate func observe(_ ipam: LedgerIPAM) async throws {
        _ = try await ObservedIPAM(ipam, reach: reach).renewCopies(
            RenewCopiesRequest(node: "node-a"), timeout: .seconds(1))
    }
}
