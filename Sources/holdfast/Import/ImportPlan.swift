import Addresses
import IPAMAPI
import IPAMModel

/// What an import does: pools to make, bindings to reserve, and what stands against it.
struct ImportPlan {
    enum Verdict: Equatable {
        case reserve
        /// The server has it so already.
        case isThere
        case leftOut(String)
        case conflict(String)
        case reserved
        case refused(String)

        var text: String {
            switch self {
            case .reserve: "reserve"
            case .isThere: "is there"
            case .leftOut(let why): "left out: \(why)"
            case .conflict(let why): "CONFLICT: \(why)"
            case .reserved: "reserved"
            case .refused(let why): "REFUSED: \(why)"
            }
        }
    }

    struct Row {
        /// Nil where it cannot be told.
        var owner: Owner?
        var addresses: [IPAddress]
        var mac: MACAddress?
        var pool = ""
        var sources: [String]
        var verdict: Verdict
        /// What is to be done beside.
        var note: String?

        var action: String { verdict.text + (note.map { "; \($0)" } ?? "") }
    }

    /// Those that the server lacks, by name.
    var pools: [Pool]
    /// Why the server would not have one, by name.
    var refusedPools: [String: String] = [:]
    var rows: [Row]

    var conflicts: Int {
        rows.count { if case .conflict = $0.verdict { true } else { false } }
    }

    /// `known` and `bindings` are the server's.
    init(_ reader: ImportReader, known: [Pool], bindings: [Binding]) {
        var claims: [ImportClaim] = []
        rows = []
        for finding in reader.findings {
            switch finding {
            case .claim(let claim): claims.append(claim)
            case .leftOut(let source, let addresses, let why):
                rows.append(Row(addresses: addresses, sources: [source], verdict: .leftOut(why)))
            case .unclear(let source, let addresses, let why):
                rows.append(Row(addresses: addresses, sources: [source], verdict: .conflict(why)))
            }
        }
        let wanted = Self.merged(claims)
        let described = reader.pools
        let known = Dictionary(known.map { ($0.name, $0) }) { first, _ in first }
        let holders = Dictionary(grouping: wanted.flatMap { row in row.addresses.map { ($0, row) } }, by: \.0)
        for var row in wanted where row.verdict == .reserve {
            let others = Set(row.addresses.flatMap { holders[$0] ?? [] }.compactMap(\.1.owner?.key)).filter {
                $0 != row.owner?.key
            }
            row.verdict =
                if !others.isEmpty {
                    .conflict("\(others.map(\.description).sorted().joined(separator: ", ")) has it too")
                } else if let pool = known[row.pool] ?? described[row.pool] {
                    Self.verdict(on: row, in: pool, bindings)
                } else {
                    .conflict("there is no pool \(row.pool), and nothing that is given describes it")
                }
            rows.append(row)
        }
        rows += wanted.filter { $0.verdict != .reserve }
        rows.sort { ($0.order, $0.addresses.first.map(\.bits) ?? 0) < ($1.order, $1.addresses.first.map(\.bits) ?? 0) }
        let used = Set(rows.filter { $0.verdict == .reserve }.map(\.pool))
        let needed = used.union(used.flatMap(reader.siblings)).subtracting(known.keys)
        pools = needed.compactMap { described[$0] }.sorted { $0.name < $1.name }
    }

    /// One row for each owner's network: what its records have, together.
    private static func merged(_ claims: [ImportClaim]) -> [Row] {
        Dictionary(grouping: claims, by: \.owner.key).values.map { all in
            let addresses = Set(all.flatMap(\.addresses)).sorted()
            let (macs, pools) = (Set(all.compactMap(\.mac)), Set(all.map(\.pool)))
            var row = Row(
                owner: all.first { !$0.owner.uid.isEmpty }?.owner ?? all[0].owner, addresses: addresses,
                mac: macs.first, pool: pools.sorted().joined(separator: ","), sources: Set(all.map(\.source)).sorted(),
                verdict: .reserve, note: all.lazy.compactMap(\.note).first)
            let texts = addresses.map(\.description).joined(separator: ", ")
            if Set(addresses.map(\.family)).count < addresses.count {
                row.verdict = .conflict(
                    "it has several of one family, as while it migrates: \(texts). Import when it has ended")
            } else if pools.count > 1 {
                row.verdict = .conflict("its addresses are of several pools, and a binding's are of one")
            } else if macs.count > 1 {
                row.verdict = .conflict(
                    "it has several MACs: \(macs.map(\.description).sorted().joined(separator: ", "))")
            }
            return row
        }
    }

    private static func verdict(on row: Row, in pool: Pool, _ bindings: [Binding]) -> Verdict {
        for address in row.addresses {
            guard let entry = pool.prefixes.first(where: { $0.prefix.contains(address) }) else {
                return .conflict("pool \(pool.name) does not have \(address)")
            }
            if entry.excluded.contains(where: { $0.contains(address) }) {
                return .conflict("\(address) is excluded in pool \(pool.name)")
            }
            if entry.gateway == address { return .conflict("\(address) is the gateway of pool \(pool.name)") }
        }
        if let owner = row.owner, let held = bindings.first(where: { $0.owner.key == owner.key }) {
            let addresses = held.assignments.map(\.address)
            // The pool may have given an address of the other family to it as well.
            if Set(addresses).isSuperset(of: row.addresses), row.mac == nil || row.mac == held.mac { return .isThere }
            return .conflict(
                "on the server it has \(addresses.map(\.description).joined(separator: ", ")) and MAC \(held.mac)")
        }
        if let namespace = row.owner?.namespace, !pool.namespaces.isEmpty, !pool.namespaces.contains(namespace) {
            return .conflict("pool \(pool.name) is not for namespace \(namespace): add it to the pool's namespaces")
        }
        for held in bindings where held.assignments.contains(where: { row.addresses.contains($0.address) }) {
            if held.pool == pool.name { return .conflict("on the server \(held.owner.key) has it") }
        }
        return .reserve
    }
}

extension ImportPlan.Row {
    /// By owner; what has none comes last.
    fileprivate var order: String { owner.map { "0 \($0.key)" } ?? "1 \(sources.first ?? "")" }
}
