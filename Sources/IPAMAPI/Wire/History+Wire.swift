import Addresses
import CMessages
package import IPAMModel
package import RPC

extension HistoryListing {
    package init(_ message: Wire.ListHistoryRequest) throws(IPAMError) {
        let (address, namespace, name) = unsafe (
            string(message.address), string(message.namespace_), string(message.name)
        )
        let isOfAddress = !address.isEmpty
        guard isOfAddress ? namespace.isEmpty && name.isEmpty : !namespace.isEmpty && !name.isEmpty else {
            throw Rules.invalid("address", "give an address, or namespace and name")
        }
        let token = unsafe string(message.page_token)
        guard token.isEmpty || UInt64(token) != nil else {
            throw Rules.invalid("page_token", "is no token of this list")
        }
        self.init(
            subject: isOfAddress
                ? .address(try Rules.address(address, "address"))
                : .object(
                    namespace: try Rules.namespace(namespace, "namespace"), name: try Rules.objectName(name, "name")),
            from: try unsafe Timestamp.read(message.from, "from"),
            through: try unsafe Timestamp.read(message.through, "through"),
            pageSize: unsafe PageSize.granted(Int(message.page_size)),
            before: UInt64(token))
    }

    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.ListHistoryRequest> {
        let message = unsafe arena.make(Wire.ListHistoryRequest.self)
        switch subject {
        case .address(let address): unsafe message.pointee.address = arena.string(address)
        case .object(let namespace, let name):
            unsafe message.pointee.namespace_ = arena.string(namespace)
            unsafe message.pointee.name = arena.string(name)
        }
        if let from { unsafe message.pointee.from = from.wire(in: arena) }
        if let through { unsafe message.pointee.through = through.wire(in: arena) }
        unsafe message.pointee.page_size = UInt32(clamping: pageSize)
        unsafe message.pointee.page_token = arena.string(before.map { "\($0)" } ?? "")
        return unsafe message
    }
}

extension HistoryPage {
    package func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.ListHistoryResponse> {
        let message = unsafe arena.make(Wire.ListHistoryResponse.self)
        unsafe message.pointee.n_entries = entries.count
        unsafe message.pointee.entries = arena.array(entries.count) { unsafe entries[$0].wire(in: arena) }
        unsafe message.pointee.next_page_token = arena.string(before.map { "\($0)" } ?? "")
        return unsafe message
    }

    package init(_ message: Wire.ListHistoryResponse) throws(IPAMError) {
        self.init(
            entries: try unsafe messages(message.n_entries, message.entries) { item, index throws(IPAMError) in
                try unsafe HistoryEntry(item, "entries[\(index)]")
            },
            before: unsafe UInt64(string(message.next_page_token)))
    }
}

extension HistoryEntry {
    fileprivate func wire(in arena: borrowing MessageArena) -> UnsafeMutablePointer<Wire.HistoryEntry> {
        let message = unsafe arena.make(Wire.HistoryEntry.self)
        unsafe message.pointee.owner = owner.wire(in: arena)
        unsafe message.pointee.pool = arena.string(pool)
        unsafe (message.pointee.n_addresses, message.pointee.addresses) = strings(addresses.map(\.description), arena)
        unsafe message.pointee.mac = arena.string(mac)
        unsafe message.pointee.node = arena.string(node)
        unsafe message.pointee.pod = arena.string(pod)
        unsafe message.pointee.since = since.wire(in: arena)
        if let until { unsafe message.pointee.until = until.wire(in: arena) }
        unsafe message.pointee.begun_by = arena.string(begunBy)
        unsafe message.pointee.ended_by = arena.string(endedBy)
        unsafe message.pointee.end = Holdfast__Ipam__V1__HistoryEnd(rawValue: UInt32(end?.rawValue ?? 0))
        unsafe message.pointee.revision = revision
        return unsafe message
    }

    fileprivate init(_ message: Wire.HistoryEntry, _ path: String) throws(IPAMError) {
        self.init(
            owner: try unsafe Owner(reading: message.owner, "owner"), pool: unsafe string(message.pool),
            addresses: [], mac: try unsafe Rules.anyMAC(string(message.mac), "\(path).mac"),
            node: unsafe string(message.node), pod: unsafe string(message.pod),
            since: try unsafe Timestamp.read(message.since, "\(path).since") ?? Timestamp(nanoseconds: 0),
            until: try unsafe Timestamp.read(message.until, "\(path).until"),
            begunBy: unsafe string(message.begun_by), endedBy: unsafe string(message.ended_by),
            end: unsafe UInt8(exactly: message.end.rawValue).flatMap(End.init(rawValue:)),
            revision: unsafe message.revision)
        for (index, text) in unsafe strings(message.n_addresses, message.addresses).enumerated() {
            addresses.append(try Rules.anyAddress(text, "\(path).addresses[\(index)]"))
        }
    }
}
