import Addresses
import IPAMModel
import LedgerStore

/// How an installation's ledger lies in etcd, to be read with `etcdctl get --prefix`:
///
/// ```
/// PREFIX/leader                                       the address of the server that leads; on its lease
/// PREFIX/revision                                     "format 1 revision 4711 step 17 by 2893712"
/// PREFIX/pool/vm-net                                  record
/// PREFIX/binding/vm/default/testvm/vm-net/eth0        record
/// PREFIX/address/10.16.0.15                           "vm default/testvm (vm-net/eth0)": who has it
/// PREFIX/freed/10.16.0.16                             record
/// PREFIX/history/00000000000000004711                 record: what was until this revision
/// PREFIX/history-of/address/10.16.0.15/0…4711         empty: where that is, by address
/// PREFIX/history-of/object/default/testvm/0…4711      empty: and by VM or pod
/// PREFIX/journal/000001                               part of a commit that is too large for one transaction
/// ```
///
/// Every commit writes `revision`, so that its modification revision names the last commit. The key of an address is
/// compared by every commit that gives it away: that is etcd's own refusal of an address in two bindings (promise 1).
struct EtcdKeys: Sendable {
    let prefix: String

    var leader: String { prefix + "leader" }
    var revision: String { prefix + "revision" }
    var pools: String { prefix + "pool/" }
    var bindings: String { prefix + "binding/" }
    var addresses: String { prefix + "address/" }
    var freed: String { prefix + "freed/" }
    var journal: String { prefix + "journal/" }
    var history: String { prefix + "history/" }
    var historyIndex: String { prefix + "history-of/" }

    func pool(_ name: String) -> String { pools + Self.escaped(name) }

    /// The network stands last and may hold slashes, as it always does.
    func binding(_ owner: OwnerKey) -> String {
        let kind = owner.kind == .virtualMachine ? "vm" : "pod"
        let network = Self.escaped(owner.network, slash: false)
        return "\(bindings)\(kind)/\(Self.escaped(owner.namespace))/\(Self.escaped(owner.name))/\(network)"
    }

    func address(_ address: IPAddress) -> String { "\(addresses)\(address)" }
    func freed(_ address: IPAddress) -> String { "\(freed)\(address)" }

    func journal(_ part: Int) -> String {
        let number = String(part)
        return journal + String(repeating: "0", count: max(0, 6 - number.count)) + number
    }

    func history(_ revision: UInt64) -> String { history + Self.sortable(revision) }

    /// The keys below which what was of it is found.
    func historyIndex(_ subject: HistorySubject) -> String {
        switch subject {
        case .address(let address): "\(historyIndex)address/\(address)/"
        case .object(let namespace, let name):
            "\(historyIndex)object/\(Self.escaped(namespace))/\(Self.escaped(name))/"
        }
    }

    /// Where it is found that ended with `revision`.
    func historyIndex(_ subject: HistorySubject, _ revision: UInt64) -> String {
        historyIndex(subject) + Self.sortable(revision)
    }

    /// Where an entry is found: by each of its addresses and by its owner.
    func historyIndex(_ entry: HistoryEntry) -> [String] {
        let owner = HistorySubject.object(namespace: entry.owner.namespace, name: entry.owner.name)
        return (entry.addresses.map(HistorySubject.address) + [owner]).map {
            historyIndex($0, entry.revision)
        }
    }

    /// The revision at the end of a key of the history's.
    func historyRevision(of key: String) -> UInt64? {
        key.lastIndex(of: "/").flatMap { UInt64(key[key.index(after: $0)...]) }
    }

    /// As many digits as the largest number has.
    private static func sortable(_ number: UInt64) -> String {
        let digits = String(number)
        return String(repeating: "0", count: 20 - digits.count) + digits
    }

    /// What a key below `bindings` says.
    func owner(of key: String) -> OwnerKey? {
        guard key.hasPrefix(bindings) else { return nil }
        let parts = key.dropFirst(bindings.count).split(
            separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, let namespace = Self.unescaped(parts[1]), let name = Self.unescaped(parts[2]),
            let network = Self.unescaped(parts[3])
        else { return nil }
        switch parts[0] {
        case "vm": return OwnerKey(kind: .virtualMachine, namespace: namespace, name: name, network: network)
        case "pod": return OwnerKey(kind: .pod, namespace: namespace, name: name, network: network)
        default: return nil
        }
    }

    /// What a key below `freed` says.
    func freedAddress(of key: String) -> IPAddress? {
        key.hasPrefix(freed) ? IPAddress(String(key.dropFirst(freed.count))) : nil
    }

    /// What a key below `pools` says.
    func poolName(of key: String) -> String? {
        key.hasPrefix(pools) ? Self.unescaped(key.dropFirst(pools.count)) : nil
    }

    /// The end of the range of keys that begin with `prefix`, which ends with a slash.
    static func end(of prefix: String) -> String { prefix.dropLast() + "0" }

    /// Percent encoding of what would make two keys one, or spoil a terminal.
    private static func escaped(_ text: String, slash: Bool = true) -> String {
        guard text.utf8.contains(where: { isSpecial($0, slash: slash) }) else { return text }
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            if isSpecial(byte, slash: slash) {
                let digits = String(byte, radix: 16, uppercase: true)
                bytes += Array((byte < 16 ? "%0" : "%").utf8) + Array(digits.utf8)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func isSpecial(_ byte: UInt8, slash: Bool) -> Bool {
        byte < 0x20 || byte == 0x7f || byte == UInt8(ascii: "%") || slash && byte == UInt8(ascii: "/")
    }

    private static func unescaped(_ text: Substring) -> String? {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else { return nil }
                rest = rest.dropFirst(2)
                bytes.append(value)
            } else {
                bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

/// The value of `EtcdKeys.revision`.
struct EtcdMark: Hashable, Sendable {
    static let format = 1

    /// In the place of a ledger's that goes on in SQLite. An older program takes it for a newer one's, and refuses it too.
    static func moved(at revision: UInt64) -> [UInt8] {
        Array("format \(format + 1) moved 1 revision \(revision)".utf8)
    }

    /// The ledger's.
    var revision: UInt64
    /// How many parts of the journal are committed and not all written yet; 0 nearly always.
    var journalParts = 0
    /// Counts the transactions of a term, also those that had no effect: so that no two have one mark, and one of which it is
    /// not known whether it has taken effect is not taken for another of the same revision. 0: of a program that did not count.
    var step = 0
    /// Drawn by lot for each term, so that an etcd that was put back to a snapshot and has come as far since is not taken
    /// for what it was. 0: of a program that drew none.
    var term: UInt64 = 0

    var text: String {
        "format \(Self.format) revision \(revision)" + (journalParts == 0 ? "" : " journal \(journalParts)")
            + (step == 0 ? "" : " step \(step)") + (term == 0 ? "" : " by \(term)")
    }
    var bytes: [UInt8] { Array(text.utf8) }

    init(revision: UInt64, journalParts: Int = 0, step: Int = 0, term: UInt64 = 0) {
        self.revision = revision
        self.journalParts = journalParts
        self.step = step
        self.term = term
    }

    /// Throws `.newerSchema`, `.damaged`, and `.inUse` for a ledger that goes on elsewhere.
    init(_ entry: EtcdEntry) throws(StoreError) {
        let words = entry.text.split(separator: " ")
        var numbers: [Substring: UInt64] = [:]
        for index in stride(from: 0, to: words.count - 1, by: 2) { numbers[words[index]] = UInt64(words[index + 1]) }
        if numbers["moved"] != nil {
            throw StoreError(
                .inUse,
                "The ledger in etcd was copied to SQLite at revision \(numbers["revision"] ?? 0), and goes on there: start "
                    + "the server with that. Before it is copied here again, delete what is left with `etcdctl del "
                    + "--prefix`. Where the copy was never served and is not wanted, `etcdctl put \(entry.key) 'format "
                    + "\(Self.format) revision \(numbers["revision"] ?? 0)'` makes this one the ledger again.")
        }
        if let format = numbers["format"], format > Self.format {
            throw StoreError(
                .newerSchema,
                "The ledger in etcd at \(entry.key) was written by a newer Holdfast (format \(format), this program "
                    + "knows \(Self.format)). Start that version again.")
        }
        guard let revision = numbers["revision"], let parts = Int(exactly: numbers["journal"] ?? 0),
            let step = Int(exactly: numbers["step"] ?? 0)
        else {
            throw StoreError(
                .damaged, "The ledger in etcd is damaged: \(entry.key) is \"\(entry.text)\". Put a backup in its place."
            )
        }
        self.init(revision: revision, journalParts: parts, step: step, term: numbers["by"] ?? 0)
    }
}
