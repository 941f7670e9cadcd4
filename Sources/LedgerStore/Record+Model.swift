import Addresses
import IPAMModel

/// A value that stores keep as a record. A field that is added later goes last, under a new format number; the older
/// numbers stay readable.
protocol Recordable: Sendable {
    static var recordFormat: UInt8 { get }
    func write(to record: inout RecordWriter)
    init(from record: inout RecordReader) throws(RecordError)
}

extension Recordable {
    var record: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(384)
        appendRecord(to: &bytes)
        return bytes
    }

    func appendRecord(to bytes: inout [UInt8]) {
        var writer = RecordWriter(format: Self.recordFormat, after: consume bytes)
        write(to: &writer)
        bytes = writer.finished()
    }

    init(record: [UInt8]) throws(RecordError) {
        var reader = try RecordReader(record, newest: Self.recordFormat)
        try self.init(from: &reader)
        try reader.end()
    }
}

extension Binding: Recordable {
    static var recordFormat: UInt8 { 3 }

    func write(to record: inout RecordWriter) {
        record.put(id)
        record.put(owner)
        record.put(pool)
        record.put(assignments) { record, assignment in
            record.put(assignment.address)
            record.put(UInt8(assignment.prefixLength))
            record.put(assignment.gateway) { $0.put($1) }
        }
        record.put(fixed: mac.bits, byteCount: 6)
        record.put(active) { $0.put($1) }
        record.put(released) { $0.put($1) }
        record.put(target) { $0.put($1) }
        record.put(migrationUID)
        record.put(endedMigration) { record, ended in
            record.put(ended.uid)
            record.put(ended.outcome.rawValue)
            record.put(ended.released) { $0.put($1) }
        }
        record.put(newestAttachment) { $0.put($1) }
        record.put(superseded) { $0.put($1) }
        record.put(revision)
        record.put(createdAt)
        record.put(updatedAt)
        record.put(UInt8(isCopied ? 1 : 0))
        record.put(heldSince)
        record.put(heldBy)
    }

    init(from record: inout RecordReader) throws(RecordError) {
        self.init(
            id: try record.unsigned(), owner: try record.owner(), pool: try record.string(),
            assignments: try record.array { (record) throws(RecordError) in
                Assignment(
                    address: try record.address(), prefixLength: Int(try record.byte()),
                    gateway: try record.optional { (record) throws(RecordError) in try record.address() })
            },
            mac: MACAddress(bits: try record.integer(byteCount: 6)),
            active: try record.optional { (record) throws(RecordError) in try record.attachment() },
            released: try record.optional { (record) throws(RecordError) in try record.attachmentID() },
            target: try record.optional { (record) throws(RecordError) in try record.attachment() },
            migrationUID: try record.string(),
            endedMigration: try record.optional { (record) throws(RecordError) in
                EndedMigration(
                    uid: try record.string(), outcome: try record.value(MigrationOutcome.init),
                    released: try record.optional { (record) throws(RecordError) in try record.attachmentID() })
            },
            newestAttachment: try record.optional { (record) throws(RecordError) in try record.timestamp() },
            superseded: try record.array { (record) throws(RecordError) in try record.attachmentID() },
            revision: try record.unsigned(), createdAt: try record.timestamp(), updatedAt: try record.timestamp())
        if record.format >= 2 { isCopied = try record.byte() == 1 }
        if record.format >= 3 {
            heldSince = try record.timestamp()
            heldBy = try record.string()
        }
    }
}

extension FreedAddress: Recordable {
    static var recordFormat: UInt8 { 1 }

    func write(to record: inout RecordWriter) {
        record.put(address)
        record.put(pool)
        record.put(lastOwner)
        record.put(freedAt)
        record.put(revision)
    }

    init(from record: inout RecordReader) throws(RecordError) {
        self.init(
            address: try record.address(), pool: try record.string(), lastOwner: try record.owner(),
            freedAt: try record.timestamp(), revision: try record.unsigned())
    }
}

extension Pool: Recordable {
    static var recordFormat: UInt8 { 2 }

    func write(to record: inout RecordWriter) {
        record.put(name)
        record.put(prefixes) { record, prefix in
            record.put(prefix.prefix)
            record.put(prefix.gateway) { $0.put($1) }
            record.put(prefix.excluded) { record, range in
                record.put(range.lower)
                record.put(range.upper)
            }
            record.put(UInt8(prefix.usesEdgeAddresses ? 1 : 0))
        }
        record.put(namespaces) { $0.put($1) }
        record.put(routes) { record, route in
            record.put(route.destination)
            record.put(route.gateway) { $0.put($1) }
        }
        record.put(dns) { record, dns in
            record.put(dns.nameservers) { $0.put($1) }
            record.put(dns.domain)
            record.put(dns.search) { $0.put($1) }
            record.put(dns.options) { $0.put($1) }
        }
        record.put(UInt8(isDefault ? 1 : 0))
        record.put(fixed: reuseDelay.nanoseconds, byteCount: 8)
        record.put(UInt64(namespaceQuota))
        record.put(revision)
        record.put(fixed: historyRetention.nanoseconds, byteCount: 8)
    }

    init(from record: inout RecordReader) throws(RecordError) {
        self.init(
            name: try record.string(),
            prefixes: try record.array { (record) throws(RecordError) in
                PoolPrefix(
                    prefix: try record.prefix(),
                    gateway: try record.optional { (record) throws(RecordError) in try record.address() },
                    excluded: try record.array { (record) throws(RecordError) in
                        AddressRange(from: try record.address(), through: try record.address())
                    },
                    usesEdgeAddresses: try record.byte() == 1)
            },
            namespaces: try record.strings(),
            routes: try record.array { (record) throws(RecordError) in
                Route(
                    destination: try record.prefix(),
                    gateway: try record.optional { (record) throws(RecordError) in try record.address() })
            },
            dns: try record.optional { (record) throws(RecordError) in
                DNS(
                    nameservers: try record.array { (record) throws(RecordError) in try record.address() },
                    domain: try record.string(), search: try record.strings(), options: try record.strings())
            },
            isDefault: try record.byte() == 1, reuseDelay: Delay(nanoseconds: try record.integer(byteCount: 8)),
            namespaceQuota: UInt32(truncatingIfNeeded: try record.unsigned()), revision: try record.unsigned())
        if record.format >= 2 { historyRetention = Delay(nanoseconds: try record.integer(byteCount: 8)) }
    }
}

extension HistoryEntry: Recordable {
    static var recordFormat: UInt8 { 1 }

    func write(to record: inout RecordWriter) {
        record.put(owner)
        record.put(pool)
        record.put(addresses) { $0.put($1) }
        record.put(fixed: mac.bits, byteCount: 6)
        record.put(node)
        record.put(pod)
        record.put(since)
        record.put(until) { $0.put($1) }
        record.put(begunBy)
        record.put(endedBy)
        record.put(end?.rawValue ?? 0)
        record.put(revision)
    }

    init(from record: inout RecordReader) throws(RecordError) {
        self.init(
            owner: try record.owner(), pool: try record.string(),
            addresses: try record.array { (record) throws(RecordError) in try record.address() },
            mac: MACAddress(bits: try record.integer(byteCount: 6)), node: try record.string(),
            pod: try record.string(), since: try record.timestamp(),
            until: try record.optional { (record) throws(RecordError) in try record.timestamp() },
            begunBy: try record.string(), endedBy: try record.string(), end: End(rawValue: try record.byte()),
            revision: try record.unsigned())
    }
}

extension RecordWriter {
    fileprivate mutating func put(_ owner: Owner) {
        put(owner.kind.rawValue)
        put(owner.namespace)
        put(owner.name)
        put(owner.uid)
        put(owner.network)
    }

    fileprivate mutating func put(_ address: IPAddress) {
        put(address.family.rawValue)
        put(fixed: address.bits, byteCount: address.family.bitWidth / 8)
    }

    fileprivate mutating func put(_ prefix: IPPrefix) {
        put(prefix.address)
        put(UInt8(prefix.length))
    }

    fileprivate mutating func put(_ attachment: Attachment) {
        put(attachment.node)
        put(attachment.pod)
        put(attachment.podUID)
        put(attachment.containerID)
        put(attachment.createdAt) { $0.put($1) }
    }

    fileprivate mutating func put(_ id: AttachmentID) {
        put(id.podUID)
        put(id.containerID)
    }

    fileprivate mutating func put(_ time: Timestamp) { put(fixed: time.nanoseconds, byteCount: 8) }
}

extension RecordReader {
    fileprivate mutating func value<Value>(_ make: (UInt8) -> Value?) throws(RecordError) -> Value {
        guard let value = make(try byte()) else { throw .damaged }
        return value
    }

    fileprivate mutating func owner() throws(RecordError) -> Owner {
        Owner(
            kind: try value(OwnerKind.init), namespace: try string(), name: try string(), uid: try string(),
            network: try string())
    }

    fileprivate mutating func address() throws(RecordError) -> IPAddress {
        let family = try value(AddressFamily.init)
        return IPAddress(family: family, bits: try integer(byteCount: family.bitWidth / 8))
    }

    fileprivate mutating func prefix() throws(RecordError) -> IPPrefix {
        guard let prefix = IPPrefix(address: try address(), length: Int(try byte())) else { throw .damaged }
        return prefix
    }

    fileprivate mutating func attachment() throws(RecordError) -> Attachment {
        Attachment(
            node: try string(), pod: try string(), podUID: try string(), containerID: try string(),
            createdAt: try optional { (record) throws(RecordError) in try record.timestamp() })
    }

    fileprivate mutating func attachmentID() throws(RecordError) -> AttachmentID {
        AttachmentID(podUID: try string(), containerID: try string())
    }

    fileprivate mutating func timestamp() throws(RecordError) -> Timestamp {
        Timestamp(nanoseconds: try integer(byteCount: 8))
    }

    fileprivate mutating func strings() throws(RecordError) -> [String] {
        try array { (record) throws(RecordError) in try record.string() }
    }
}
