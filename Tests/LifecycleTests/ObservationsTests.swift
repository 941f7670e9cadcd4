import Addresses
import IPAMModel
import KubeVirt
import Lifecycle
import Testing

/// Promise 7: when a disagreement may be acted upon.
struct ObservationsTests {
    private let start = ContinuousClock.now
    private let gone = Binding(
        owner: vm("testvm"), pool: "vms", assignments: [], mac: MACAddress(bits: 1), revision: 1,
        createdAt: Timestamp(seconds: 0), updatedAt: Timestamp(seconds: 0))

    private func inventory(_ machines: String..., unreadable: String? = nil) -> Inventory {
        var inventory = Inventory(coverage: [.machines, .pods], unreadable: unreadable)
        for machine in machines { inventory.add(ObjectMeta(namespace: "default", name: machine, uid: machine)) }
        inventory.add(pod("other"))
        return inventory
    }

    @Test func `what is seen twice, a grace time apart, is due; not what is seen once, or twice at once`() {
        var observations = Observations(grace: .seconds(60))
        #expect(observations.compare([gone], with: inventory("other"), at: start).due == [])
        #expect(observations.compare([gone], with: inventory("other"), at: start + .seconds(59)).due == [])
        #expect(observations.compare([gone], with: inventory("other"), at: start + .seconds(60)).due.count == 1)
        var late = Observations(grace: .seconds(60))
        #expect(late.compare([gone], with: inventory("other"), at: start + .seconds(600)).due == [])
        var hasty = Observations(grace: .zero)
        #expect(hasty.compare([gone], with: inventory("other"), at: start).due == [])
        #expect(hasty.compare([gone], with: inventory("other"), at: start).due.count == 1)
    }

    @Test func `what shows again, has changed, or is interrupted by doubt is counted from the start`() {
        var changed = gone
        changed.revision = 2
        let interruptions: [([Binding], Inventory)] = [
            ([gone], inventory("other", "testvm")), ([changed], inventory("other")),
            ([gone], inventory("other", unreadable: "pods default/odd")), ([gone], inventory()),
        ]
        for (bindings, inventory) in interruptions {
            var observations = Observations(grace: .seconds(60))
            _ = observations.compare([gone], with: self.inventory("other"), at: start)
            #expect(observations.compare(bindings, with: inventory, at: start + .seconds(90)).due == [])
            #expect(observations.compare([gone], with: self.inventory("other"), at: start + .seconds(100)).due == [])
            #expect(
                observations.compare([gone], with: self.inventory("other"), at: start + .seconds(160)).due.count == 1)
        }
    }

    @Test func `where VMs were and none is shown any more, nothing is freed however often`() {
        var observations = Observations(grace: .seconds(1))
        _ = observations.compare([gone], with: inventory("testvm"), at: start)
        for second in 1..<20 {
            let result = observations.compare([gone], with: inventory(), at: start + .seconds(second))
            #expect(result.due == [] && result.doubt?.contains("no VM at all") == true)
        }
    }

    @Test func `where the last VM is gone from the ledger too, an empty cluster is no doubt`() {
        var observations = Observations(grace: .seconds(1))
        _ = observations.compare([gone], with: inventory("testvm"), at: start)
        #expect(observations.compare([], with: inventory(), at: start + .seconds(1)).doubt == nil)
        #expect(observations.compare([gone], with: inventory(), at: start + .seconds(2)).doubt != nil)
    }

    @Test func `where pods were and none is shown any more, nothing is freed however often`() {
        var observations = Observations(grace: .seconds(1))
        var web = gone
        web.owner = podOwner("web")
        _ = observations.compare([web], with: inventory("other"), at: start)
        var empty = Inventory(coverage: [.machines, .pods])
        empty.machines = [name("other"): "other"]
        for second in 1..<20 {
            let result = observations.compare([web], with: empty, at: start + .seconds(second))
            #expect(result.due == [] && result.found.count == 1)
        }
    }

    /// Whether anything is due after some looks.
    private func isDoubted(
        _ bindings: [Binding], in inventory: Inventory, _ observations: Observations = Observations(grace: .zero)
    ) -> Bool {
        var observations = observations
        for _ in 0..<3 { _ = observations.compare(bindings, with: inventory, at: start) }
        let result = observations.compare(bindings, with: inventory, at: start)
        #expect((result.doubt == nil) == !result.due.isEmpty)
        return result.doubt != nil
    }

    private func machines(_ count: Int) -> [Binding] {
        (0..<count).map { index in
            var binding = gone
            (binding.owner.name, binding.owner.uid) = ("vm-\(index)", "vm-\(index)")
            return binding
        }
    }

    @Test func `a cluster that lacks most of the ledger's VMs is not believed, but by a person's word`() {
        let bindings = machines(30)
        let told = Observations(grace: .zero, isToldCluster: true)
        #expect(isDoubted(bindings, in: inventory("vm-0")))
        #expect(!isDoubted(bindings, in: inventory("vm-0"), told))
        #expect(!isDoubted(bindings, in: inventory(), told))
        var few = Inventory(coverage: .machines)
        for binding in bindings.prefix(20) { few.machines[ObjectName(binding.owner)] = binding.owner.uid }
        #expect(!isDoubted(bindings, in: few))
    }

    @Test func `a cluster that knows no UID of the ledger is another, whatever its names`() {
        var bindings = machines(2)
        bindings[1].active = attachment("p")
        #expect(isDoubted(bindings, in: inventory("other")))
        var namesake = inventory()
        namesake.machines = [ObjectName(bindings[0].owner): "another"]
        #expect(isDoubted(bindings, in: namesake))
        #expect(!isDoubted(bindings, in: namesake, Observations(grace: .zero, isToldCluster: true)))
        // Its VM, or the pod of one, or an instance that stands alone.
        #expect(!isDoubted(bindings, in: inventory("vm-0")))
        var carrying = inventory("other")
        carrying.add(pod("p"))
        #expect(!isDoubted(machines(1) + [bindings[1]], in: carrying))
        var alone = inventory()
        alone.add(VirtualMachineInstance(metadata: ObjectMeta(namespace: "default", name: "vm-1", uid: "vm-1")))
        #expect(!isDoubted([bindings[0], machines(2)[1]], in: alone))
    }

    @Test func `of one VM nothing else could be known, nor of what was reserved by hand`() {
        var byHand = gone
        (byHand.owner.name, byHand.owner.uid) = ("later", "")
        var second = gone
        second.owner.network = "vlan/net1"
        #expect(!isDoubted([gone, second, byHand], in: inventory("other")))
    }

    @Test func `once the ledger's cluster has been seen, its last VMs may go`() {
        var observations = Observations(grace: .zero)
        let bindings = machines(2)
        _ = observations.compare(bindings, with: inventory("vm-0"), at: start)
        _ = observations.compare(bindings, with: inventory("other"), at: start)
        #expect(observations.compare(bindings, with: inventory("other"), at: start).due.count == 2)
    }

    /// Random clusters, lists that fail, lie or are cut short, against a simple count of looks.
    @Test func `just that is due which was missing at every look of the grace time, all of them trustworthy`() {
        let seed = UInt64.random(in: .min ... .max)
        var random = Random(seed: seed)
        for _ in 0..<300 {
            var observations = Observations(grace: .seconds(60))
            let names = (0..<6).map { "vm-\($0)" }
            /// When each was last seen, or its looks were interrupted.
            var lastPresent: [String: ContinuousClock.Instant] = [:]
            var looks: [String: Int] = [:]
            var now = start
            var alive = Set(names)
            for _ in 0..<40 {
                now += .seconds(Int.random(in: 1...40, using: &random))
                if Int.random(in: 0..<6, using: &random) == 0, let victim = alive.randomElement(using: &random) {
                    alive.remove(victim)
                }
                let isComplete = Int.random(in: 0..<8, using: &random) > 0
                let isEmpty = Int.random(in: 0..<8, using: &random) == 0
                // Not every list shows all that lives.
                let shown = isEmpty ? [] : alive.filter { _ in Int.random(in: 0..<10, using: &random) > 0 }
                var inventory = Inventory(coverage: .machines, unreadable: isComplete ? nil : "pods default/odd")
                for name in shown { inventory.add(ObjectMeta(namespace: "default", name: name, uid: name)) }
                let bindings = names.map { name in
                    var binding = gone
                    (binding.owner.name, binding.owner.uid) = (name, name)
                    return binding
                }
                let isTrusted = isComplete && !shown.isEmpty
                for name in names {
                    if !isTrusted || shown.contains(name) {
                        lastPresent[name] = now
                        looks[name] = 0
                    } else {
                        if looks[name, default: 0] == 0 { lastPresent[name] = now }
                        looks[name, default: 0] += 1
                    }
                }
                let due = observations.compare(bindings, with: inventory, at: now).due.map(\.binding.owner.name)
                let expected = names.filter {
                    isTrusted && looks[$0, default: 0] >= 2 && now - (lastPresent[$0] ?? now) >= .seconds(60)
                }
                #expect(due.sorted() == expected.sorted(), "seed \(seed)")
            }
        }
    }
}

/// SplitMix64: the same numbers for the same seed.
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
