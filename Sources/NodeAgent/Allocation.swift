import Addresses
import CNI
import IPAMAPI
import IPAMModel
import KubeVirt
import NetworkPools

/// What one ADD asks the service for, and in what order.
struct Allocation: Sendable {
    let owner: Owner
    let attachment: Attachment
    let keepsCopy: Bool
    /// What annotations and runtime ask for this NIC.
    let request: AddressRequest
    /// Where the network gives addresses to owners that ask for no pool.
    let networkPool: NetworkPool?

    /// Throws `WishError`, or `CNIError` where the network's own ranges cannot be read, or the NIC is not
    /// known yet.
    init(
        owner: Owner, attachment: Attachment, keepsCopy: Bool = false, nic: PodInterface,
        annotations: [String: String], network: NetworkConfiguration, invocation: Invocation
    ) throws {
        guard nic.isKnown else {
            throw CNIError(
                .tryAgainLater, "\(owner.key.object) is not known to have the NIC \(nic.name)",
                details: "it may have been plugged in a moment ago; the runtime tries again by itself")
        }
        self.owner = owner
        self.attachment = attachment
        self.keepsCopy = keepsCopy
        request = try AddressRequest(
            Wish.wishes(in: annotations, for: nic) + Wish.wishes(in: network, invocation))
        networkPool = try NetworkPool(network)
    }

    /// The owner's binding, carried by the attachment.
    func run(
        on ipam: any IPAMCalls, pools: InlinePools, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> DescribedBinding {
        // The request's pool is a demand; the network's is where new owners get their addresses, and moves no VM that
        // has some elsewhere. A pod has none before its ADD. A list is for who has no address of it.
        let looks =
            owner.kind == .virtualMachine && networkPool != nil
            && (request.pool == nil || request.pool == networkPool?.name)
        let existing =
            looks || request.choices.count > 1 ? try await ipam.existingBinding(named: owner, by: deadline) : nil
        var pool = request.pool
        if pool == nil, let networkPool, existing == nil || existing?.pool == networkPool.name {
            try await pools.ensure(networkPool, for: owner, existing, by: deadline)
            if existing == nil { pool = networkPool.name }
        }
        // Who has addresses of it keeps them, whatever it is like now.
        let isThere = existing != nil && existing?.pool == networkPool?.name
        var choices = request.choices.isEmpty ? [[]] : request.choices
        if let held = existing.map({ $0.assignments.map(\.address) }),
            let own = choices.first(where: { $0.allSatisfy(held.contains) })
        {
            choices = [own]
        }

        var taken: [IPAMError] = []
        for addresses in choices {
            let asked = AllocateRequest(
                owner: owner, attachment: attachment, pool: pool, addresses: addresses, mac: request.mac,
                keepsCopy: keepsCopy)
            do throws(IPAMError) {
                return try await pools.allocate(asked, in: isThere ? nil : networkPool, on: ipam, by: deadline)
            } catch {
                guard choices.count > 1, error.reason == .addressTaken || error.reason == .addressQuarantined else {
                    throw error
                }
                taken.append(error)
            }
        }
        throw .noChoiceIsFree(taken)
    }
}

extension IPAMCalls {
    /// Nil where the owner has none.
    func existingBinding(
        of owner: Owner, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> Binding? {
        do {
            return try await binding(of: owner, timeout: deadline.remaining).binding
        } catch  where error.code == .notFound {
            return nil
        }
    }

    /// Also one that was made for another object of the owner's name: the present one has it from its next pod on.
    func existingBinding(
        named owner: Owner, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> Binding? {
        var anyObject = owner
        anyObject.uid = ""
        return try await existingBinding(of: anyObject, by: deadline)
    }
}

extension ContinuousClock.Instant {
    /// Until then; never nothing, so that a call that comes too late fails as one that took too long.
    var remaining: Duration { max(self - .now, .milliseconds(1)) }
}

extension IPAMError {
    /// Every address of a list is another's, or waits in quarantine.
    fileprivate static func noChoiceIsFree(_ refusals: [IPAMError]) -> IPAMError {
        let words = refusals.prefix(3).map(\.message).joined(separator: "; ") + (refusals.count > 3 ? "; …" : "")
        var metadata: [String: String] = [:]
        metadata["availableAt"] = refusals.compactMap { $0.metadata["availableAt"] }.min()
        let named = refusals.prefix(3).compactMap { $0.metadata["holder"] ?? $0.metadata["lastOwner"] }
        if !named.isEmpty { metadata["holder"] = named.joined(separator: ", ") }
        return IPAMError(
            .resourceExhausted, .poolExhausted, "none of the \(refusals.count) listed addresses is free: \(words)",
            metadata: metadata)
    }
}
