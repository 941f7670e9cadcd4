import Addresses
package import IPAMAPI
package import IPAMModel
import Ledger
import LedgerStore

// Reads answer from the last committed state.

extension Writer {
    /// With the revision that the ledger had before the first was read.
    package func page(_ listing: BindingListing) throws(IPAMError) -> BindingPage {
        try page(listing, lookingAt: 4096)
    }

    /// Others get at the ledger after each `most` bindings that were looked at.
    func page(_ listing: BindingListing, lookingAt most: Int) throws(IPAMError) -> BindingPage {
        let store = currentStore
        var page = BindingPage(
            bindings: [], nextPageToken: listing.pageToken, revision: read { ledger, _ in ledger.committedRevision })
        repeat {
            let (size, token) = (page.bindings.count, page.nextPageToken)
            let step = try readCurrent(of: store) { ledger, _ throws(IPAMError) in
                let (bindings, token) = try ledger.bindings(
                    matching: listing.filter, after: token, limit: listing.pageSize - size, lookingAt: most)
                return (bindings: bindings.map { ledger.described($0) }, token: token)
            }
            page.bindings += step.bindings
            page.nextPageToken = step.token
        } while page.bindings.count < listing.pageSize && page.nextPageToken != nil
        return page
    }

    /// The binding of an owner or of an address; NOT_FOUND tells of a freed address who had it.
    package func binding(_ query: BindingQuery) throws(IPAMError) -> DescribedBinding {
        try readCurrent(of: currentStore) { ledger, now throws(IPAMError) in
            switch query {
            case .owner(let owner):
                guard let binding = ledger.binding(of: owner.key) else {
                    throw IPAMError(.notFound, .bindingNotFound, "\(owner.key) has no binding")
                }
                if binding.owner.isAnotherObject(than: owner.uid) {
                    throw IPAMError.anotherObjects(binding, than: owner)
                }
                return ledger.described(binding)
            case .address(let address):
                if let binding = ledger.binding(holding: address) { return ledger.described(binding) }
                let freed = ledger.freed(address)
                if let freed, let available = ledger.availability(of: freed), now < available {
                    throw IPAMError.quarantined(freed, until: available)
                }
                throw IPAMError.unheld(address, freed)
            }
        }
    }

    package func pool(named name: String) throws(IPAMError) -> DescribedPool {
        try readCurrent(of: currentStore) { ledger, now throws(IPAMError) in
            guard let pool = ledger.pool(named: name) else {
                throw IPAMError(.notFound, .poolNotFound, "there is no pool '\(name)'", metadata: ["pool": name])
            }
            return ledger.described(pool, at: now)
        }
    }

    package func pools() throws(IPAMError) -> [DescribedPool] {
        try readCurrent(of: currentStore) { ledger, now throws(IPAMError) in
            ledger.pools.map { ledger.described($0, at: now) }
        }
    }

    /// NOT_LEADER wins over what was found, or not found, in a ledger that had given way to another by then.
    private func readCurrent<Value: Sendable>(
        of store: any LedgerStore, _ body: @Sendable (borrowing Ledger, Timestamp) throws(IPAMError) -> Value
    ) throws(IPAMError) -> Value {
        try checkIsCurrent(store)
        let found = Result { () throws(IPAMError) in try read(body) }
        try checkIsCurrent(store)
        return try found.get()
    }
}

extension IPAMError {
    fileprivate static func quarantined(_ freed: FreedAddress, until available: Timestamp) -> IPAMError {
        IPAMError(
            .notFound, .addressQuarantined,
            "\(freed.address) is in no binding; \(freed.lastOwner.key) had it, others may have it from \(available)",
            metadata: [
                "address": "\(freed.address)", "pool": freed.pool, "lastOwner": freed.lastOwner.key.object,
                "freedAt": "\(freed.freedAt)", "availableAt": "\(available)",
            ])
    }

    /// `freed`: where somebody had it.
    fileprivate static func unheld(_ address: IPAddress, _ freed: FreedAddress?) -> IPAMError {
        var metadata = ["address": "\(address)"]
        metadata["lastOwner"] = freed?.lastOwner.key.object
        metadata["freedAt"] = freed.map { "\($0.freedAt)" }
        let had = freed.map { "; \($0.lastOwner.key) had it until \($0.freedAt)" } ?? ""
        return IPAMError(.notFound, .bindingNotFound, "\(address) is in no binding\(had)", metadata: metadata)
    }
}
