import Addresses
import Foundation
import IPAMAPI
import IPAMModel

extension Table {
    static func bindings(_ bindings: [DescribedBinding], now: Timestamp) -> String {
        guard !bindings.isEmpty else { return "no bindings" }
        var table = Table(["NAMESPACE", "NAME", "NETWORK", "ADDRESSES", "MAC", "STATE", "NODE", "POD", "AGE"])
        for described in bindings { table.append(described.binding.cells + [described.binding.createdAt.age(at: now)]) }
        return table.text
    }

    static func pools(_ pools: [DescribedPool]) -> String {
        guard !pools.isEmpty else { return "no pools" }
        var table = Table([
            "NAME", "PREFIXES", "GATEWAY", "TOTAL", "BOUND", "RESERVED", "QUARANTINED", "FREE",
        ])
        for described in pools {
            let pool = described.pool
            // A row for each family: beside those of IPv6, IPv4's numbers would not be seen.
            for family in [AddressFamily.ipv4, .ipv6] {
                let prefixes = pool.prefixes.filter { $0.prefix.family == family }
                if prefixes.isEmpty { continue }
                table.append(
                    [
                        pool.isDefault ? "\(pool.name) (default)" : pool.name,
                        prefixes.map(\.prefix.description).joined(separator: ","),
                        prefixes.compactMap(\.gateway?.description).joined(separator: ","),
                    ]
                        + [\PrefixUsage.total, \.bound, \.reserved, \.quarantined, \.free].map {
                            described.sum($0, family)
                        })
            }
        }
        return table.text
    }

    /// One binding, a fact a line.
    static func facts(of described: DescribedBinding, now: Timestamp) -> String {
        let binding = described.binding
        let owner = binding.owner
        var facts = [
            (owner.kind == .virtualMachine ? "VM" : "Pod", "\(owner.namespace)/\(owner.name)"),
            ("UID", owner.uid), ("Network", owner.network), ("Pool", binding.pool),
        ]
        for assignment in binding.assignments {
            let gateway = assignment.gateway.map { " via \($0)" } ?? ""
            facts.append(("Address", "\(assignment.address)/\(assignment.prefixLength)\(gateway)"))
        }
        facts += [("MAC", binding.mac.description), ("State", binding.state.word)]
        if let active = binding.active { facts.append(("Carried by", active.text)) }
        if let target = binding.target {
            facts.append(("Moves to", "\(target.text), migration \(binding.migrationUID)"))
        }
        for route in described.routes {
            facts.append(("Route", "\(route.destination)" + (route.gateway.map { " via \($0)" } ?? "")))
        }
        if let dns = described.dns { facts.append(("DNS", dns.nameservers.map(\.description).joined(separator: ", "))) }
        facts += [
            ("Created", "\(binding.createdAt.short) (\(binding.createdAt.age(at: now)) ago)"),
            ("Changed", "\(binding.updatedAt.short), revision \(binding.revision)"),
        ]
        return lines(facts)
    }

    static func facts(of described: DescribedPool) -> String {
        let pool = described.pool
        var facts = [
            ("Name", pool.isDefault ? "\(pool.name) (default)" : pool.name),
            ("Namespaces", pool.namespaces.isEmpty ? "all" : pool.namespaces.joined(separator: ", ")),
        ]
        if pool.namespaceQuota > 0 { facts.append(("Quota", "\(pool.namespaceQuota) bindings a namespace")) }
        facts.append(("Reuse delay", pool.reuseDelay.text))
        facts.append(("History kept", pool.historyRetention.days))
        for route in pool.routes {
            facts.append(("Route", "\(route.destination)" + (route.gateway.map { " via \($0)" } ?? "")))
        }
        if let dns = pool.dns { facts.append(("DNS", dns.nameservers.map(\.description).joined(separator: ", "))) }
        facts.append(("Revision", "\(pool.revision)"))
        var table = Table([
            "PREFIX", "GATEWAY", "EXCLUDED", "TOTAL", "BOUND", "RESERVED", "QUARANTINED", "FREE",
        ])
        for entry in pool.prefixes {
            let usage = described.usage.first { $0.prefix == entry.prefix }
            table.append(
                [
                    "\(entry.prefix)", entry.gateway?.description ?? "",
                    entry.excluded.map(\.description).joined(separator: ","),
                ]
                    + [\PrefixUsage.total, \.bound, \.reserved, \.quarantined, \.free].map { path in
                        usage.map { $0[keyPath: path].countText } ?? ""
                    })
        }
        return lines(facts) + "\n\n" + table.text
    }

    private static func lines(_ facts: [(name: String, value: String)]) -> String {
        let width = facts.map(\.name.count).max() ?? 0
        return facts.filter { !$0.value.isEmpty }.map { line([$0.name, $0.value], widths: [width, 0]) }
            .joined(separator: "\n")
    }
}

extension Binding {
    /// A row of the list, but for the age.
    var cells: [String] {
        let nodes = [active?.node, target.map { "-> \($0.node)" }].compactMap(\.self).joined(separator: " ")
        return [
            owner.namespace, owner.name, owner.network,
            assignments.map(\.address.description).joined(separator: ","), mac.description, state.word, nodes,
            active?.pod ?? "",
        ]
    }
}

extension Attachment {
    fileprivate var text: String { "pod \(pod) on \(node)" }
}

extension DescribedPool {
    /// Over all prefixes of a family, "many" included: the largest number stands for itself or more.
    fileprivate func sum(_ path: KeyPath<PrefixUsage, UInt64>, _ family: AddressFamily) -> String {
        usage.filter { $0.prefix.family == family }.reduce(UInt64(0)) { sum, prefix in
            let (total, overflow) = sum.addingReportingOverflow(prefix[keyPath: path])
            return overflow ? .max : total
        }.countText
    }
}

extension Delay {
    /// "90d", where it is so many whole days; else in seconds.
    fileprivate var days: String {
        let day: Int64 = 86_400_000_000_000
        return nanoseconds > 0 && nanoseconds % day == 0 ? "\(nanoseconds / day)d" : text
    }
}

extension BinaryInteger {
    /// "1 pool", "2 pools".
    func counted(_ one: String, _ several: String? = nil) -> String {
        "\(self) \(self == 1 ? one : several ?? one + "s")"
    }
}

extension UInt64 {
    /// Exact up to a hundred million, which covers a /8; then the nearest power of two, "~2^64".
    fileprivate var countText: String {
        self < 100_000_000 ? "\(self)" : "~2^\(Int(log2(Double(self)).rounded()))"
    }
}

extension Timestamp {
    /// "45s", "12m", "3h", "8d": the largest unit, rounded down. A clock that runs ahead gives "0s".
    func age(at now: Timestamp) -> String {
        let seconds = max(0, (now.nanoseconds - nanoseconds) / 1_000_000_000)
        switch seconds {
        case ..<120: return "\(seconds)s"
        case ..<7200: return "\(seconds / 60)m"
        case ..<172_800: return "\(seconds / 3600)h"
        default: return "\(seconds / 86_400)d"
        }
    }
}
