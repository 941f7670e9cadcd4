package import IPAMModel

/// What has become of a node's copy.
package struct RenewedCopy: Hashable, Sendable {
    /// For how long after it sent the request the node may use it; nil: it must drop it.
    package var validFor: Delay?
    /// What takes the copy's place, where that changed.
    package var binding: DescribedBinding?
    /// Of a copy to drop, for `RenewCopiesRequest.dropped`; 0: nobody waits for it.
    package var ticket: UInt64

    package init(validFor: Delay?, binding: DescribedBinding? = nil, ticket: UInt64 = 0) {
        self.validFor = validFor
        self.binding = binding
        self.ticket = ticket
    }
}

/// What only nodes that keep copies call.
package protocol CopyCalls: Sendable {
    /// One answer for each copy, in their order. Throws `IPAMError`, as `IPAMCalls` do.
    func renewCopies(_ request: RenewCopiesRequest, timeout: Duration) async throws(IPAMError) -> [RenewedCopy]
}
