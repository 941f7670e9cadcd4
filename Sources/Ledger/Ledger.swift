package import Addresses
package import IPAMModel

/// The rules: a pure state machine of pools, bindings and freed addresses. No clock, no I/O, no randomness.
///
/// Commands are applied in batches: `apply` any number of times, then `commit` once their changes are durable, or
/// `rollback`. Everything that reads answers from the last committed state, also while a batch is open.
package struct Ledger: Sendable {
    package init() {}

    /// Rebuilds a ledger from a store. Throws where the snapshot breaks a promise (an address or MAC twice, an address
    /// outside its pool): a store that holds such a thing must not be served.
    package init(_ snapshot: Snapshot) throws(IPAMError) {}

    /// Applies one command to the open batch. `now` never goes back.
    package mutating func apply(_ command: Command, at now: Timestamp) throws(IPAMError) -> Outcome {
        throw IPAMError(.internalError, .invalidField, "not yet")
    }

    /// The open batch's changes, in order.
    package var pending: [Change] { [] }
    /// The revision after the open batch.
    package var revision: UInt64 { 0 }
    package mutating func commit() {}
    package mutating func rollback() {}

    // Reads: the last committed state.
    package var committedRevision: UInt64 { 0 }
    package func binding(of owner: OwnerKey) -> Binding? { nil }
    package func binding(holding address: IPAddress) -> Binding? { nil }
    package func freed(_ address: IPAddress) -> FreedAddress? { nil }
    /// A page of bindings in a stable order; `token` nil on the last page. Throws on a token that is none of its own.
    package func bindings(
        matching filter: BindingFilter, after token: String?, limit: Int
    ) throws(IPAMError) -> (bindings: [Binding], token: String?) { ([], nil) }
    package func pool(named name: String) -> Pool? { nil }
    /// By name.
    package var pools: [Pool] { [] }
    package func usage(ofPool name: String, at now: Timestamp) -> [PrefixUsage] { [] }
}
