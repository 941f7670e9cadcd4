import Addresses
import IPAMModel
import Ledger
import Testing

/// Promise 8: an agent acts for its own node only, whatever it sends.
@Suite struct CallerTests {
    private let agentA = Caller(name: "agent-a", roles: .agent, node: "node-a")
    private let agentB = Caller(name: "agent-b", roles: [.agent, .reader], node: "node-b")
    private let stranger = Caller(name: "agent-c", roles: .agent, node: "node-c")

    /// VM a, carried by pod a-1 on node-a.
    private func bench() throws -> Bench {
        var bench = try Bench(pool("net", poolPrefix("10.16.0.0/24", gateway: "10.16.0.1"), isDefault: true))
        try bench.allocate(vm("a", uid: "u"), sandbox("a-1", at: 10))
        return bench
    }

    private func prepare(_ target: Attachment) -> Command {
        .transfer(TransferRequest(owner: vm("a"), migrationUID: "m", phase: .prepare(target: target)))
    }

    private func end(_ phase: TransferPhase) -> Command {
        .transfer(TransferRequest(owner: vm("a"), migrationUID: "m", phase: phase))
    }

    private func release(_ attachment: Attachment, of owner: Owner? = vm("a")) -> Command {
        .release(.attachment(attachment.id, owner: owner, network: "net/eth0"))
    }

    private func expectOtherNode(
        _ bench: inout Bench, _ command: Command, by caller: Caller, is node: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let refusal = bench.refusal { _ = try $0.ledger.apply(command, by: caller, at: $0.now) }
        #expect(refusal?.code == .permissionDenied, sourceLocation: sourceLocation)
        #expect(refusal?.reason == .otherNode, sourceLocation: sourceLocation)
        #expect(refusal?.metadata["node"] == node, sourceLocation: sourceLocation)
        #expect(refusal?.metadata["callerNode"] == caller.node, sourceLocation: sourceLocation)
        #expect(
            refusal?.message.contains(node) == true && refusal?.message.contains(caller.node ?? "?") == true,
            "both nodes are named", sourceLocation: sourceLocation)
    }

    @Test func `an agent attaches pods of its own node, and of no other`() throws {
        var bench = try bench()
        let command = Command.allocate(AllocateRequest(owner: vm("b"), attachment: sandbox("b-1", node: "node-b")))
        expectOtherNode(&bench, command, by: agentA, is: "node-b")
        guard case .allocated(let binding, created: true) = try bench.ledger.apply(command, by: agentB, at: bench.now)
        else { throw WrongOutcome() }
        #expect(binding.active?.node == "node-b")
    }

    @Test func `a VM may restart on another node, but its pod is not another node's by name`() throws {
        var bench = try bench()
        let spoofed = Command.allocate(
            AllocateRequest(owner: vm("a"), attachment: sandbox("a-1", at: 10, node: "node-b")))
        expectOtherNode(&bench, spoofed, by: agentB, is: "node-a")
        let restarted = Command.allocate(
            AllocateRequest(owner: vm("a"), attachment: sandbox("a-2", at: 11, node: "node-b")))
        #expect(throws: Never.self) { try bench.ledger.apply(restarted, by: agentB, at: bench.now) }
    }

    /// Else the victim's DEL, which finds its binding by the container's ID, would find the other one and be refused.
    @Test func `an agent attaches no container of another node's, for whatever owner`() throws {
        var bench = try bench()
        try bench.allocate(vm("c"), sandbox("c-1"))
        for podUID in ["a-1-uid", "x-uid"] {
            let stolen = Attachment(node: "node-b", pod: "x", podUID: podUID, containerID: "a-1-1")
            let allocate = Command.allocate(AllocateRequest(owner: pod("x", uid: "x-uid"), attachment: stolen))
            expectOtherNode(&bench, allocate, by: agentB, is: "node-a")
            let prepare = TransferRequest(owner: vm("c"), migrationUID: "n", phase: .prepare(target: stolen))
            expectOtherNode(&bench, .transfer(prepare), by: agentB, is: "node-a")
        }
        _ = try bench.ledger.apply(release(sandbox("a-1"), of: nil), by: agentA, at: bench.now)
        #expect(bench.ledger.binding(of: vm("a").key)?.active != nil, "not committed yet")
        bench.ledger.commit()
        #expect(bench.ledger.binding(of: vm("a").key)?.active == nil)
    }

    @Test func `an attachment is detached by its own node's agent, found by the owner or by the container`() throws {
        var bench = try bench()
        expectOtherNode(&bench, release(sandbox("a-1")), by: agentB, is: "node-a")
        expectOtherNode(&bench, release(sandbox("a-1"), of: nil), by: agentB, is: "node-a")
        #expect(
            try bench.ledger.apply(release(sandbox("old", node: "node-b")), by: agentB, at: bench.now)
                == .released(bench.ledger.binding(of: vm("a").key)), "what changes nothing is not refused")
        #expect(throws: Never.self) { try bench.ledger.apply(release(sandbox("a-1")), by: agentA, at: bench.now) }
        #expect(throws: Never.self) {
            try bench.ledger.apply(release(sandbox("a-1")), by: stranger, at: bench.now)
        }
    }

    @Test func `a binding is freed by no agent, whether a pod of its node carries it or none does`() throws {
        var bench = try bench()
        let command = Command.release(.binding(vm("a")))
        func expectRefused(by caller: Caller) {
            let refusal = bench.refusal { _ = try $0.ledger.apply(command, by: caller, at: $0.now) }
            #expect(refusal?.reason == .roleMissing && refusal?.code == .permissionDenied)
        }
        expectRefused(by: agentA)
        expectRefused(by: agentB)
        try bench.release(sandbox("a-1"), of: vm("a"))
        expectRefused(by: agentA)
        try bench.run(command)
        #expect(throws: Never.self, "what changes nothing is not refused") {
            try bench.ledger.apply(command, by: agentA, at: bench.now)
        }
    }

    @Test func `a migration is prepared by its target's node, and ended by its source's or its target's`() throws {
        for (phase, caller) in [(TransferPhase.abort, agentA), (.abort, agentB), (.commit(targetOwner: nil), agentA)] {
            var bench = try bench()
            let target = sandbox("a-2", node: "node-b")
            expectOtherNode(&bench, prepare(target), by: agentA, is: "node-b")
            _ = try bench.ledger.apply(prepare(target), by: agentB, at: bench.now)
            bench.ledger.commit()
            expectOtherNode(&bench, end(.commit(targetOwner: nil)), by: stranger, is: "node-b")
            expectOtherNode(&bench, end(.abort), by: stranger, is: "node-b")
            let spoofed = prepare(sandbox("a-2", node: "node-c"))
            expectOtherNode(&bench, spoofed, by: stranger, is: "node-b")
            _ = try bench.ledger.apply(end(phase), by: caller, at: bench.now)
            bench.ledger.commit()
            // Promise 4: once more, by either side.
            for other in [agentA, agentB] {
                #expect(throws: Never.self) { try bench.ledger.apply(end(phase), by: other, at: bench.now) }
            }
        }
    }

    @Test func `a migration's younger target on another node is prepared by that node, the older there no more`() throws
    {
        var bench = try bench()
        _ = try bench.ledger.apply(prepare(sandbox("a-2", at: 11, node: "node-b")), by: agentB, at: bench.now)
        bench.ledger.commit()
        _ = try bench.ledger.apply(prepare(sandbox("a-3", at: 12, node: "node-c")), by: stranger, at: bench.now)
        bench.ledger.commit()
        #expect(bench.ledger.binding(of: vm("a").key)?.target?.node == "node-c")
        expectOtherNode(&bench, end(.abort), by: agentB, is: "node-c")
    }

    @Test func `an agent renews its own node's copies, and reserves nothing ahead of pods`() throws {
        var bench = try bench()
        expectOtherNode(&bench, .renewCopies(RenewCopiesRequest(node: "node-a")), by: agentB, is: "node-a")
        let reserve = bench.refusal { bench in
            _ = try bench.ledger.apply(.allocate(AllocateRequest(owner: vm("c"))), by: agentA, at: bench.now)
        }
        #expect(reserve?.reason == .roleMissing)
    }

    @Test func `an agent whose credentials name no node changes nothing`() throws {
        var bench = try bench()
        let nowhere = Caller(name: "agent", roles: .agent)
        let refusal = bench.refusal { _ = try $0.ledger.apply(release(sandbox("a-1")), by: nowhere, at: $0.now) }
        #expect(refusal?.reason == .nodeUnknown && refusal?.code == .permissionDenied)
    }

    @Test func `an agent makes the pools of network configurations, and touches no others`() throws {
        var bench = try bench()
        var inline = pool("10.9.0.0-24", poolPrefix("10.9.0.0/24"))
        _ = try bench.ledger.apply(.createPool(inline), by: agentA, at: bench.now)
        bench.ledger.commit()
        inline.prefixes[0].gateway = address("10.9.0.1")
        _ = try bench.ledger.apply(.updatePool(inline), by: agentB, at: bench.now)
        bench.ledger.commit()
        var wider = inline
        wider.namespaceQuota = 9
        var greedy = pool("10.8.0.0-24", poolPrefix("10.8.0.0/24"), isDefault: true)
        greedy.isDefault = true
        let prefixes = (0..<9).map { poolPrefix("10.7.\($0).0/24") }
        let manifold = Pool(name: Pool.name(after: prefixes.map(\.prefix), networkName: ""), prefixes: prefixes)
        let looksAlike = pool("vm-net-0123456789abcdef", poolPrefix("10.5.0.0/24", gateway: "10.5.0.1"))
        try bench.run(.createPool(pool("vm-net-0123456789abcdef", poolPrefix("10.5.0.0/24"))))
        var elsewhere = inline
        elsewhere.prefixes = [poolPrefix("10.6.0.0/24")]
        for command in [
            .updatePool(wider), .updatePool(elsewhere), .createPool(greedy),
            .createPool(pool("mine", poolPrefix("10.8.0.0/24"))),
            .createPool(manifold), .updatePool(looksAlike),
            .updatePool(pool("net", poolPrefix("10.16.0.0/16"), isDefault: true)), .deletePool(name: "10.9.0.0-24"),
        ] as [Command] {
            let refusal = bench.refusal { _ = try $0.ledger.apply(command, by: agentA, at: $0.now) }
            #expect(refusal?.reason == .roleMissing, "\(command)")
        }
    }

    @Test func `what a namespace's network says changes a pool that ranges made, while it is alone in it`() throws {
        for caller in [agentA, .anyone] {
            var bench = try Bench(pool("10.9.0.0-24", poolPrefix("10.9.0.0/24", gateway: "10.9.0.1")))
            var theirs = try #require(bench.ledger.pool(named: "10.9.0.0-24"))
            theirs.prefixes[0].gateway = address("10.9.0.66")
            theirs.routes = [Route(destination: try #require(IPPrefix("0.0.0.0/0")))]
            func change(_ pool: Pool, for namespace: String?) -> IPAMError? {
                bench.refusal { bench in
                    _ = try bench.ledger.apply(.updatePool(pool, for: namespace), by: caller, at: bench.now)
                    bench.ledger.commit()
                }
            }
            var own = theirs
            own.prefixes[0].gateway = address("10.9.0.2")
            own.revision = 0
            // Nobody's: whoever comes first describes it. Then its users' alone.
            #expect(change(own, for: "blue") == nil)
            let blue = vm("a", namespace: "blue")
            try bench.allocate(blue, sandbox("a-1"), pool: "10.9.0.0-24")
            theirs.revision = 0
            let before = bench.ledger.pool(named: "10.9.0.0-24")
            let refusal = change(theirs, for: "evil")
            #expect(refusal?.code == .permissionDenied && refusal?.reason == .namespaceNotAllowed)
            #expect(refusal?.message.contains("holdfast pool update") == true)
            #expect(refusal?.message.contains("blue") == false, "who it is is nobody's business")
            #expect(change(own, for: "evil") == nil, "what changes nothing is not refused")
            #expect(bench.ledger.pool(named: "10.9.0.0-24") == before)
            own.dns = DNS(nameservers: [address("10.9.0.53")])
            #expect(change(own, for: "blue") == nil)
            // With a second user no network is alone.
            try bench.allocate(vm("b", namespace: "evil"), sandbox("b-1"), pool: "10.9.0.0-24")
            for namespace in ["blue", "evil"] {
                #expect(change(theirs, for: namespace)?.reason == .namespaceNotAllowed)
            }
            try bench.release(vm("b", namespace: "evil"))
            // Nor where an operator has said who may use it.
            var given = own
            given.namespaces = ["blue"]
            try bench.run(.updatePool(given))
            given.dns = nil
            #expect(change(given, for: "blue")?.reason == .namespaceNotAllowed)
            try bench.run(.updatePool(given))
        }
    }

    @Test func `a network's configuration changes no pool of another name where agents have no roles either`() throws {
        var bench = try Bench(pool("vm-net-0123456789abcdef", poolPrefix("10.9.0.0/24")))
        let changed = pool("vm-net-0123456789abcdef", poolPrefix("10.9.0.0/24", gateway: "10.9.0.66"))
        let refusal = bench.refusal {
            _ = try $0.ledger.apply(.updatePool(changed, for: "blue"), by: .anyone, at: $0.now)
        }
        #expect(refusal?.reason == .namespaceNotAllowed)
    }

    @Test func `an agent makes no pool of what an operator's pool of that prefix excludes`() throws {
        var bench = try bench()
        try bench.run(.createPool(pool("own", poolPrefix("10.7.0.0/24", excluded: ["10.7.0.0/29"]))))
        let part = pool("10.7.0.0-24", poolPrefix("10.7.0.0/24", excluded: ["10.7.0.8..10.7.0.255"]))
        let refusal = bench.refusal { _ = try $0.ledger.apply(.createPool(part), by: agentA, at: $0.now) }
        #expect(refusal?.reason == .roleMissing && refusal?.message.contains("own") == true)
        let whole = pool("10.7.0.0-24", poolPrefix("10.7.0.0/24"))
        let overlap = bench.refusal { _ = try $0.ledger.apply(.createPool(whole), by: agentA, at: $0.now) }
        #expect(overlap?.reason == .poolOverlap)
        // Where an operator has made it, agents find it as it is.
        try bench.run(.createPool(part))
        _ = try bench.ledger.apply(.createPool(part), by: agentA, at: bench.now)
    }

    @Test func `names of pools tell whether they are made from prefixes`() {
        let prefixes = [poolPrefix("10.9.0.0/24"), poolPrefix("fd00::/64")]
        for network in ["", "blue", "a network/with: signs", String(repeating: "long", count: 20)] {
            let name = Pool.name(after: prefixes.map(\.prefix), networkName: network)
            #expect(Pool(name: name, prefixes: prefixes).isNamedAfterPrefixes, "\(name)")
        }
        for name in ["vm-net", "vm-net-0123456789abcdef", "-0123456789abcdef"] {
            #expect(!Pool(name: name, prefixes: prefixes).isNamedAfterPrefixes, "\(name)")
        }
        #expect(!Pool(name: "", prefixes: []).isNamedAfterPrefixes)
    }

    @Test(arguments: 0..<4)
    func `in random histories agents change what is their node's, and leave all else`(number: Int) throws {
        var history = RandomHistory(seededGenerator("agents \(number)"))
        var bench = try Bench(RandomHistory.poolVariants[0][0], RandomHistory.poolVariants[1][1])
        var refused = 0
        for _ in 0..<4_000 {
            bench.seconds += Int64(history.number(0...3))
            let node = "node\(history.number(1...3))"
            let caller = history.chance(10) ? .server : Caller(name: "agent", roles: .agent, node: node)
            let command = history.next()
            let before = try bench.bindings()
            let result = Result { try bench.ledger.apply(command, by: caller, at: bench.now) }
            bench.ledger.commit()
            if case .failure(let error as IPAMError) = result, error.reason == .otherNode { refused += 1 }
            guard caller.isBoundToNode else { continue }
            let after = try bench.bindings()
            for (id, old) in before {
                let new = after[id]
                guard new != old else { continue }
                let (had, has) = (old.carriers, new?.carriers ?? [])
                for attached in has
                where !had.contains(where: { $0.id.matches(attached.id) && $0.node == attached.node }) {
                    #expect(attached.node == node, "\(command) of \(node) attached \(attached)")
                    let carriers = before.values.flatMap(\.carriers)
                    let isElsewhere = carriers.contains { $0.containerID == attached.containerID && $0.node != node }
                    #expect(!isElsewhere, "\(command) of \(node) attached \(attached), a container of another node's")
                }
                let isParty = (had + has).contains { $0.node == node }
                #expect(
                    isParty || had.isEmpty && has.isEmpty,
                    "\(command) of \(node) changed \(old)\n to \(String(describing: new))")
                if new == nil {
                    let isItsPod = old.owner.kind == .pod && had.allSatisfy { $0.node == node } && !had.isEmpty
                    #expect(isItsPod, "\(command) freed \(old)")
                }
            }
            for (id, new) in after where before[id] == nil {
                #expect(new.carriers.map(\.node) == [node], "\(command) of \(node) made \(new)")
            }
        }
        #expect(refused > 100)
    }
}

extension Bench {
    /// By their ids.
    fileprivate func bindings() throws -> [UInt64: Binding] {
        let all = try ledger.bindings(matching: BindingFilter(), after: nil, limit: 1_000).bindings
        return Dictionary(uniqueKeysWithValues: all.map { ($0.id, $0) })
    }
}

extension Binding {
    fileprivate var carriers: [Attachment] { [active, target].compactMap(\.self) }
}
