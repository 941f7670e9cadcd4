import LedgerStore

/// A commit that is too large for one transaction, as values of the keys below `EtcdKeys.journal`.
///
/// It is made so: its parts are written below `journal/`; then one transaction writes `revision` with their number, and
/// from there the commit is a fact; then the operations of the parts are done, in as many transactions as it takes; then
/// the last writes `revision` without the number and deletes the parts. Whoever reads the ledger in between, also after
/// the writer has died, finds the number and takes the parts for done; the next leader does them before all else. Parts
/// without a number in `revision` are of a commit that never was.
enum EtcdJournal {
    /// Of the keys and values of one part.
    static let partBytes = 512 << 10

    /// Parts of operations that each fit one transaction.
    static func parts(of operations: [EtcdOperation]) -> [[EtcdOperation]] {
        var parts: [[EtcdOperation]] = []
        var size = 0
        for operation in operations {
            if let last = parts.indices.last, size + operation.byteCount <= partBytes, parts[last].count < 2000 {
                parts[last].append(operation)
                size += operation.byteCount
            } else {
                parts.append([operation])
                size = operation.byteCount
            }
        }
        return parts
    }

    static func bytes(of operations: [EtcdOperation]) -> [UInt8] {
        var bytes: [UInt8] = []
        func add(_ field: some Collection<UInt8>) {
            for shift in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: field.count >> shift)) }
            bytes += field
        }
        for operation in operations {
            switch operation {
            case .put(let key, let value, _):
                bytes.append(1)
                add(key.utf8)
                add(value)
            case .delete(let key):
                bytes.append(2)
                add(key.utf8)
            case .deleteRange, .get: break
            }
        }
        return bytes
    }

    /// Throws `.damaged`.
    static func operations(of entry: EtcdEntry) throws(StoreError) -> [EtcdOperation] {
        var rest = entry.value[...]
        func field() throws(StoreError) -> ArraySlice<UInt8> {
            var length = 0
            for shift in [0, 8, 16, 24] { length |= Int(rest.popFirst() ?? 0) << shift }
            guard length <= rest.count else {
                throw StoreError(.damaged, "\(entry.key) is cut short. Put a backup in its place.")
            }
            defer { rest = rest.dropFirst(length) }
            return rest.prefix(length)
        }
        var operations: [EtcdOperation] = []
        while let kind = rest.popFirst() {
            let key = String(decoding: try field(), as: UTF8.self)
            operations.append(kind == 1 ? .put(key, Array(try field())) : .delete(key))
        }
        return operations
    }
}
