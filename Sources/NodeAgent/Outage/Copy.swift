package import Addresses
package import IPAMAPI
package import IPAMModel
import KubeVirt

/// This node's copy of a VM's binding: what an ADD needs of it, and until when it may be used.
package struct Copy: Hashable, Sendable, Codable {
    package var owner: Owner
    package var pool: String
    package var assignments: [Assignment]
    package var mac: MACAddress
    package var routes: [Route]
    package var dns: DNS?
    package var revision: UInt64
    package var validFor: Delay
    /// The node's clock just before the last request was sent whose answer covered this copy; never when the answer came,
    /// which may have lain in a socket while the agent was stopped. Nil where that was before a reboot.
    package var word: Int64?

    /// Nil where the server does not want one.
    package init?(_ described: DescribedBinding, word: Int64) {
        guard let validFor = described.copyValidFor, described.binding.owner.kind == .virtualMachine else { return nil }
        let binding = described.binding
        (owner, pool, assignments, mac) = (binding.owner, binding.pool, binding.assignments, binding.mac)
        (routes, dns, revision) = (described.routes, described.dns, binding.revision)
        (self.validFor, self.word) = (validFor, word)
    }

    /// How old the last word is, in the clock's nanoseconds; nil where that is not known.
    package func age(at now: Int64) -> Int64? { word.flatMap { now >= $0 ? now - $0 : nil } }

    /// How often the longest-lived copies are renewed, in nanoseconds: who moves a binding waits for that.
    static let longestRenewal: Int64 = 10_000_000_000
    static let shortestRenewal: Int64 = 1_000_000_000

    /// How old the last word gets while the server answers, in nanoseconds: a sixth of the time for which the copy may be used,
    /// from 1 s to 10 s.
    var renewedAfter: Int64 { min(max(validFor.nanoseconds / 6, Self.shortestRenewal), Self.longestRenewal) }

    /// A twentieth less than the server allows: two machines' clocks do not run at quite the same speed.
    package func isFresh(at now: Int64) -> Bool {
        age(at: now).map { $0 < validFor.nanoseconds - validFor.nanoseconds / 20 } ?? false
    }

    /// What a request wants that this copy does not have: nil, or what to say of it.
    func contradiction(to wanted: AddressRequest) -> String? {
        let held = assignments.map(\.address)
        if let first = wanted.choices.first, !wanted.choices.contains(where: { $0.allSatisfy(held.contains) }) {
            return "the pod asks for \(first.listed), and has \(held.listed)"
        }
        if let other = wanted.mac, other != mac { return "the pod asks for the MAC \(other), and has \(mac)" }
        if let other = wanted.pool, other != pool {
            return "the pod asks for pool \(other), and has an address of \(pool)"
        }
        return nil
    }

    /// As an answer to this request.
    package func described(for attachment: Attachment) -> DescribedBinding {
        // When it was made is not known; but not just now.
        let (made, changed) = (Timestamp(nanoseconds: 0), Timestamp(nanoseconds: 1))
        return DescribedBinding(
            binding: Binding(
                owner: owner, pool: pool, assignments: assignments, mac: mac, active: attachment, revision: revision,
                createdAt: made, updatedAt: changed), routes: routes, dns: dns)
    }
}

extension [IPAddress] {
    fileprivate var listed: String { map(\.description).joined(separator: ", ") }
}
