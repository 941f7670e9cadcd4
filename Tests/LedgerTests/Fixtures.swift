import Addresses
import IPAMModel
import Ledger
import Testing

typealias Attachment = IPAMModel.Attachment

func address(_ text: String) -> IPAddress {
    IPAddress(text) ?? IPAddress(family: .ipv4, bits: 0)
}

func range(_ text: String) -> AddressRange {
    AddressRange(text) ?? AddressRange(from: address("0.0.0.0"), through: address("0.0.0.0"))
}

func poolPrefix(
    _ text: String, gateway: String? = nil, excluded: [String] = [], usesEdgeAddresses: Bool = false
) -> PoolPrefix {
    let fallback = AddressRange(from: address("0.0.0.0"), through: address("0.0.0.0"))
    let prefix = IPPrefix(text) ?? IPPrefix(containing: fallback.lower, length: 32)
    guard let prefix else { preconditionFailure(text) }
    return PoolPrefix(
        prefix: prefix, gateway: gateway.map(address), excluded: excluded.map(range),
        usesEdgeAddresses: usesEdgeAddresses)
}

func pool(
    _ name: String, _ prefixes: PoolPrefix..., namespaces: [String] = [], isDefault: Bool = false,
    reuseDelay: Delay = .seconds(60), quota: UInt32 = 0, revision: UInt64 = 0
) -> Pool {
    Pool(
        name: name, prefixes: prefixes, namespaces: namespaces, isDefault: isDefault, reuseDelay: reuseDelay,
        namespaceQuota: quota, revision: revision)
}

func vm(_ name: String, uid: String = "", namespace: String = "default", network: String = "net/eth0") -> Owner {
    Owner(kind: .virtualMachine, namespace: namespace, name: name, uid: uid, network: network)
}

func pod(_ name: String, uid: String = "") -> Owner {
    Owner(kind: .pod, namespace: "default", name: name, uid: uid, network: "net/eth0")
}

/// A sandbox: pod `name` made at `seconds`, with the container of that number.
func sandbox(_ name: String, _ container: Int = 1, at seconds: Int64? = nil, node: String = "node-a") -> Attachment {
    Attachment(
        node: node, pod: name, podUID: "\(name)-uid", containerID: "\(name)-\(container)",
        createdAt: seconds.map(Timestamp.init(seconds:)))
}

/// A ledger that commits each command by itself, with a clock set by hand.
struct Bench {
    var ledger = Ledger()
    var seconds: Int64 = 1_000

    var now: Timestamp { Timestamp(seconds: seconds) }

    init(_ pools: Pool...) throws {
        for pool in pools { try run(.createPool(pool)) }
    }

    @discardableResult
    mutating func run(_ command: Command) throws -> Outcome {
        defer { ledger.commit() }
        return try ledger.apply(command, at: now)
    }

    @discardableResult
    mutating func allocate(
        _ owner: Owner, _ attachment: Attachment? = nil, pool: String? = nil, addresses: [String] = [],
        mac: String? = nil
    ) throws -> Binding {
        let request = AllocateRequest(
            owner: owner, attachment: attachment, pool: pool, addresses: addresses.map(address),
            mac: mac.flatMap { MACAddress($0) })
        guard case .allocated(let binding, created: _) = try run(.allocate(request)) else { throw WrongOutcome() }
        return binding
    }

    @discardableResult
    mutating func release(_ owner: Owner) throws -> Binding? {
        guard case .released(let binding) = try run(.release(.binding(owner))) else { throw WrongOutcome() }
        return binding
    }

    @discardableResult
    mutating func release(_ attachment: Attachment, of owner: Owner?, network: String = "net/eth0") throws -> Binding? {
        let request = ReleaseRequest.attachment(attachment.id, owner: owner, network: network)
        guard case .released(let binding) = try run(.release(request)) else { throw WrongOutcome() }
        return binding
    }

    @discardableResult
    mutating func transfer(_ owner: Owner, _ uid: String, _ phase: TransferPhase) throws -> Binding {
        let request = TransferRequest(owner: owner, migrationUID: uid, phase: phase)
        guard case .transferred(let binding) = try run(.transfer(request)) else { throw WrongOutcome() }
        return binding
    }

    /// The reason why `body` is refused; it must be, and change nothing.
    mutating func refusal(_ body: (inout Bench) throws -> Void) -> IPAMError? {
        let before = ledger.revision
        do {
            try body(&self)
        } catch let error as IPAMError {
            #expect(ledger.revision == before, "a refused command changes nothing")
            #expect(ledger.pending.isEmpty)
            return error
        } catch {
            Issue.record(error)
        }
        return nil
    }
}

struct WrongOutcome: Error {}

extension Binding {
    var addresses: [String] { assignments.map { "\($0.address)" } }
}
