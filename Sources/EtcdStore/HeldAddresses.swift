import Addresses
import IPAMModel

/// Which addresses each binding has in the store: what a commit compares its changes with.
struct HeldAddresses: Sendable {
    /// One of each family at most: no memory of its own for what is nearly always one.
    private enum Few: Sendable {
        case none
        case one(IPAddress)
        case two(IPAddress, IPAddress)
    }

    private var ofBinding: [UInt64: Few] = [:]

    init() {}

    init(_ bindings: some Collection<Binding>) {
        ofBinding.reserveCapacity(bindings.count)
        for binding in bindings { self[binding.id] = binding.assignments.map(\.address) }
    }

    /// By the binding's id; empty for one that is not there.
    subscript(id: UInt64) -> [IPAddress] {
        get {
            switch ofBinding[id] {
            case nil, .some(.none): []
            case .one(let address): [address]
            case .two(let first, let second): [first, second]
            }
        }
        set {
            switch newValue.count {
            case 0: ofBinding[id] = nil
            case 1: ofBinding[id] = .one(newValue[0])
            default: ofBinding[id] = .two(newValue[0], newValue[1])
            }
        }
    }
}
