import Addresses
import ArgumentParser
import Foundation
import IPAMAPI
import IPAMModel
import Program

struct ImportCommand: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Reserves the addresses that VMs and pods have from another IPAM.",
        discussion: """
            Reads what kubectl prints of Kube-OVN's Subnets, IPPools and IPs, of whereabouts' IPPools and \
            OverlappingRangeIPReservations, and host-local's state; and beside them pods, VirtualMachines, their instances \
            and network definitions, which tell whose the addresses are. Where a conflict is found, nothing is done. What is \
            there already stays, so an import may be repeated. Example:

            kubectl get pods,vm,vmi,network-attachment-definitions -A -o yaml > cluster.yaml
            kubectl get ippools.whereabouts.cni.cncf.io -A -o yaml > ipam.yaml
            holdfast import --dry-run cluster.yaml ipam.yaml
            """)
    @Argument(help: "YAML or JSON with objects, lists of objects, or CNI configurations; - for standard input.")
    var files: [String] = []
    @Option(
        help: ArgumentHelp(
            "host-local's state of one node, as /var/lib/cni/networks; may be given several times.", valueName: "folder"
        ))
    var hostLocal: [String] = []
    @Option(
        help: ArgumentHelp(
            """
            Which CNI network the addresses of a pool will be on, where the objects do not tell: POOL=NETWORK or \
            POOL=NETWORK/INTERFACE. The pool is Kube-OVN's Subnet, whereabouts' IPPool or host-local's network. May be given \
            several times.
            """, valueName: "pool=network"))
    var network: [String] = []
    @Flag(help: "Print what would be done, and do nothing.") var dryRun = false
    @Flag(help: "Do what can be done in spite of conflicts.") var partial = false
    @OptionGroup var options: ClientOptions

    func validate() throws {
        if files.isEmpty, hostLocal.isEmpty { throw ValidationError("name files, or a folder with --host-local") }
        _ = try networks
    }

    private var networks: ImportReader.Overrides {
        get throws {
            var networks: ImportReader.Overrides = [:]
            for text in network {
                let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2 else { throw ValidationError("--network \(text): give POOL=NETWORK") }
                networks[parts[0]] = parts[1]
            }
            return networks
        }
    }

    func run(_ session: Session) async throws {
        var objects = ForeignObjects()
        for file in files { try objects.read(try Self.content(of: file), from: file) }
        let states = try hostLocal.map { try HostLocal(path: $0) }
        let networks = try networks
        let known = objects.pools.union(states.flatMap(\.entries).map(\.network))
        if let stranger = networks.keys.sorted().first(where: { !known.contains($0) }) {
            throw Failure(
                "--network \(stranger)=…: what was read has no pool \(stranger)",
                hint: known.isEmpty
                    ? "it has no Subnet, whereabouts' IPPool or host-local network at all"
                    : "it has \(known.sorted().joined(separator: ", "))")
        }
        let reader = ImportReader(objects: objects, hostLocal: states, networks: networks)
        var plan = ImportPlan(
            reader, known: try await session.calls.pools(timeout: session.timeout).map(\.pool),
            bindings: try await session.bindings(matching: BindingFilter()).map(\.binding))
        let mayRun = !dryRun && (plan.conflicts == 0 || partial)
        if mayRun { try await carryOut(&plan, session) }
        try session.show(plan.document(isDone: mayRun)) { plan.text(isDone: mayRun) }
        if plan.conflicts > 0, !mayRun, !dryRun {
            throw Failure(
                "nothing was imported: \(plan.conflicts.counted("conflict"))", hint: "settle them, or add --partial")
        }
        if plan.rows.contains(where: \.isAmiss) || !plan.refusedPools.isEmpty { throw ExitCode.failure }
    }

    /// Pools first. What the server refuses is noted, and the rest goes on.
    private func carryOut(_ plan: inout ImportPlan, _ session: Session) async throws {
        for pool in plan.pools {
            do throws(IPAMError) {
                _ = try await session.calls.createPool(pool, timeout: session.timeout)
            } catch {
                plan.refusedPools[pool.name] = error.message
                for index in plan.rows.indices where plan.rows[index].pool == pool.name {
                    plan.rows[index].verdict = .refused("its pool: \(error.message)")
                }
            }
        }
        for index in plan.rows.indices {
            let row = plan.rows[index]
            guard row.verdict == .reserve, let owner = row.owner else { continue }
            let request = AllocateRequest(owner: owner, pool: row.pool, addresses: row.addresses, mac: row.mac)
            do {
                _ = try await session.pastCopies {
                    try await session.calls.allocate(request, timeout: session.timeout)
                }
                plan.rows[index].verdict = .reserved
            } catch let error as IPAMError {
                plan.rows[index].verdict = .refused(error.message)
            }
        }
    }

    private static func content(of file: String) throws -> String {
        if file == "-" { return String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) }
        do {
            return try String(contentsOfFile: file, encoding: .utf8)
        } catch {
            throw Failure(reading: file, error)
        }
    }
}

extension ImportPlan.Row {
    /// Whether it asks for somebody's attention.
    fileprivate var isAmiss: Bool {
        switch verdict {
        case .conflict, .refused: true
        case .reserve, .isThere, .leftOut, .reserved: false
        }
    }
}

extension ImportPlan {
    fileprivate func text(isDone: Bool) -> String {
        var parts: [String] = []
        if !pools.isEmpty {
            var table = Table(["POOL", "PREFIXES", "GATEWAYS", "EXCLUDED", "NAMESPACES", "ACTION"])
            for pool in pools {
                table.append([
                    pool.name, pool.prefixes.map { "\($0.prefix)" }.joined(separator: ","),
                    pool.prefixes.compactMap { $0.gateway?.description }.joined(separator: ","),
                    pool.prefixes.flatMap(\.excluded).map { "\($0)" }.joined(separator: ","),
                    pool.namespaces.joined(separator: ","),
                    refusedPools[pool.name].map { "REFUSED: \($0)" } ?? (isDone ? "made" : "make"),
                ])
            }
            parts.append(table.text)
        }
        var table = Table(["OWNER", "ADDRESSES", "MAC", "POOL", "FROM", "ACTION"])
        for row in rows {
            table.append([
                row.owner.map { "\($0.key)" } ?? "", row.addresses.map(\.description).joined(separator: ","),
                row.mac?.description ?? "", row.pool, row.sources.joined(separator: ","), row.action,
            ])
        }
        parts.append(rows.isEmpty ? "no addresses to import: nothing that was read has any" : table.text)
        return parts.joined(separator: "\n\n")
    }

    fileprivate func document(isDone: Bool) -> Document {
        .fields([
            "pools": .array(pools.map { DescribedPool(pool: $0).document }),
            "addresses": .array(
                rows.map { row in
                    .fields([
                        "owner": row.owner?.document, "addresses": .nonEmpty(row.addresses.map(\.description)),
                        "mac": row.mac.map { .string($0.description) }, "pool": .string(row.pool),
                        "from": .nonEmpty(row.sources), "action": .string(row.verdict.text),
                        "note": row.note.map { .string($0) },
                    ])
                }),
            "refusedPools": .nonEmpty(
                refusedPools.sorted { $0.key < $1.key }.map { name, why in
                    .fields(["name": .string(name), "why": .string(why)])
                }), "done": .bool(isDone),
        ])
    }
}
