package import IPAMModel

/// A ledger's values as the checksummed records that every store keeps.
package enum StoredRecord {
    package static func bytes(_ binding: Binding) -> [UInt8] { binding.record }
    package static func bytes(_ freed: FreedAddress) -> [UInt8] { freed.record }
    package static func bytes(_ pool: Pool) -> [UInt8] { pool.record }
    package static func bytes(_ entry: HistoryEntry) -> [UInt8] { entry.record }

    /// `place` is where the record was, for the message.
    package static func binding(_ bytes: [UInt8], at place: String) throws(StoreError) -> Binding {
        try value(bytes, place)
    }
    package static func freed(_ bytes: [UInt8], at place: String) throws(StoreError) -> FreedAddress {
        try value(bytes, place)
    }
    package static func pool(_ bytes: [UInt8], at place: String) throws(StoreError) -> Pool { try value(bytes, place) }
    package static func entry(_ bytes: [UInt8], at place: String) throws(StoreError) -> HistoryEntry {
        try value(bytes, place)
    }

    private static func value<Value: Recordable>(_ bytes: [UInt8], _ place: String) throws(StoreError) -> Value {
        do throws(RecordError) {
            return try Value(record: bytes)
        } catch {
            switch error {
            case .damaged:
                throw StoreError(
                    .damaged,
                    "\(place) does not fit its checksum: nothing was changed. Put a backup in its place.")
            case .unknownFormat(let format):
                throw StoreError(
                    .newerSchema,
                    "\(place) is in a format (\(format)) that this program does not know. Start the newer Holdfast "
                        + "that wrote it.")
            }
        }
    }
}
