import Addresses
import IPAMModel
import Ledger

/// Makes random commands about few owners, pods, migrations and pools, so that they meet; sends some of them twice and
/// some of them late.
struct RandomHistory {
    private var generator: Generator
    private var sent: [Command] = []

    init(_ generator: Generator) { self.generator = generator }

    static let poolVariants: [[Pool]] = [
        [
            pool("a", poolPrefix("10.0.0.0/29", gateway: "10.0.0.1"), isDefault: true, reuseDelay: .seconds(30)),
            pool(
                "a", poolPrefix("10.0.0.0/28", gateway: "10.0.0.1", excluded: ["10.0.0.4..10.0.0.5"]), isDefault: true,
                reuseDelay: .seconds(30)),
            pool("a", poolPrefix("10.0.0.0/28", gateway: "10.0.0.14"), reuseDelay: .seconds(5), quota: 3),
            pool("a", poolPrefix("10.0.0.0/30"), poolPrefix("10.0.0.4/30"), isDefault: true),
        ],
        [
            pool(
                "b", poolPrefix("10.1.0.0/30", usesEdgeAddresses: true),
                poolPrefix("fd00:1::/125", gateway: "fd00:1::1"), namespaces: ["blue"]),
            pool(
                "b", poolPrefix("10.1.0.0/30", usesEdgeAddresses: true), poolPrefix("10.1.0.8/31"),
                poolPrefix("fd00:1::/125", gateway: "fd00:1::1"), reuseDelay: .seconds(0)),
        ],
        [
            pool("c", poolPrefix("fd00:2::/124", excluded: ["fd00:2::8/125"]), isDefault: true, quota: 2),
            pool("c", poolPrefix("10.0.0.8/29"), namespaces: ["red", "blue"]),
        ],
        // The part of the second "a" that it excludes, and a part that no "a" leaves to others.
        [
            pool(
                "d", poolPrefix("10.0.0.0/28", gateway: "10.0.0.1", excluded: ["10.0.0.0/30", "10.0.0.6..10.0.0.15"])),
            pool(
                "d", poolPrefix("10.0.0.0/28", gateway: "10.0.0.1", excluded: ["10.0.0.0/30", "10.0.0.8..10.0.0.15"])),
        ],
    ]

    mutating func chance(_ percent: Int) -> Bool { generator.chance(percent) }
    mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
    mutating func shuffled<T>(_ array: [T]) -> [T] { array.shuffled(using: &generator) }

    mutating func next() -> Command {
        if !sent.isEmpty, chance(20) {
            // Twice at once, or late.
            return chance(50) ? sent[sent.count - 1] : sent[number(max(0, sent.count - 60)...(sent.count - 1))]
        }
        let command = fresh()
        sent.append(command)
        return command
    }

    private mutating func fresh() -> Command {
        switch number(0...99) {
        case ..<40: return .allocate(allocation())
        case ..<52:
            let (attachment, owner) = (sandbox(), owner())
            let id = AttachmentID(podUID: chance(20) ? "" : attachment.podUID, containerID: attachment.containerID)
            return .release(.attachment(id, owner: chance(50) ? owner : nil, network: owner.network))
        case ..<65: return .release(.binding(owner()))
        case ..<77: return transfer(.prepare(target: sandbox()))
        case ..<84: return transfer(.commit(targetOwner: chance(25) ? owner() : nil))
        case ..<89: return transfer(.abort)
        case ..<92: return .createPool(somePool())
        case ..<98:
            var pool = somePool()
            pool.revision = chance(20) ? UInt64(number(1...20)) : 0
            if chance(50) { pool.dns = DNS(domain: "d\(number(1...2))") }
            return .updatePool(pool)
        default: return .deletePool(name: somePool().name)
        }
    }

    private mutating func allocation() -> AllocateRequest {
        var request = AllocateRequest(owner: owner(), attachment: chance(75) ? sandbox() : nil)
        if chance(15) { request.pool = ["a", "b", "c", "d", "e"][number(0...4)] }
        if chance(20) { request.addresses = [address("10.0.0.\(number(0...17))")] }
        if chance(5) { request.addresses.append(address("fd00:\(number(1...2))::\(number(0...9))")) }
        if chance(3) { request.addresses.append(address("10.1.0.\(number(0...9))")) }
        if chance(10) { request.mac = MACAddress("02:00:00:00:00:0\(number(0...4))") }
        return request
    }

    private mutating func owner() -> Owner {
        let isVM = chance(85)
        return Owner(
            kind: isVM ? .virtualMachine : .pod, namespace: ["red", "blue", "green"][number(0...2)],
            name: isVM ? "vm\(number(1...3))" : "pod\(number(1...2))",
            uid: ["", "u1", "u1", "u1", "u2"][number(0...4)],
            network: chance(85) ? "net/eth0" : "net/eth1")
    }

    private mutating func sandbox() -> Attachment {
        let pod = number(1...12)
        return Attachment(
            node: "node\(number(1...3))", pod: "p\(pod)", podUID: "p\(pod)", containerID: "p\(pod)-c\(number(1...2))",
            createdAt: pod % 4 == 0 ? nil : Timestamp(seconds: Int64(pod / 2)))
    }

    private mutating func transfer(_ phase: TransferPhase) -> Command {
        .transfer(TransferRequest(owner: owner(), migrationUID: "m\(number(1...4))", phase: phase))
    }

    private mutating func somePool() -> Pool {
        let variants = Self.poolVariants[number(0...(Self.poolVariants.count - 1))]
        return variants[number(0...(variants.count - 1))]
    }
}
