import Addresses
import Foundation
import IPAMAPI
import IPAMModel

// Values in the API's proto3 JSON form, the fields in the order of ipam.proto.

extension DescribedBinding {
    var document: Document {
        .fields([
            "owner": binding.owner.document, "pool": .nonEmpty(binding.pool),
            "assignments": .nonEmpty(binding.assignments.map(\.document)), "mac": .string(binding.mac.description),
            "state": .string(binding.state.documentName), "active": binding.active?.document,
            "target": binding.target?.document, "migrationUid": .nonEmpty(binding.migrationUID),
            "revision": .nonZero(binding.revision), "createdAt": .string(binding.createdAt.rfc3339),
            "updatedAt": .string(binding.updatedAt.rfc3339), "routes": .nonEmpty(routes.map(\.document)),
            "dns": dns?.document,
        ])
    }
}

extension Owner {
    var document: Document {
        .fields([
            "kind": .string(kind == .virtualMachine ? "OWNER_KIND_VIRTUAL_MACHINE" : "OWNER_KIND_POD"),
            "namespace": .nonEmpty(namespace), "name": .nonEmpty(name), "uid": .nonEmpty(uid),
            "network": .nonEmpty(network),
        ])
    }
}

extension Assignment {
    fileprivate var document: Document {
        .fields([
            "address": .string(address.description), "prefixLength": .nonZero(UInt32(prefixLength)),
            "gateway": gateway.map { .string($0.description) },
        ])
    }
}

extension BindingState {
    fileprivate var documentName: String { "BINDING_STATE_\(word.uppercased())" }

    /// As people write it.
    var word: String {
        switch self {
        case .reserved: "reserved"
        case .bound: "bound"
        case .migrating: "migrating"
        }
    }
}

extension Attachment {
    fileprivate var document: Document {
        .fields([
            "node": .nonEmpty(node), "pod": .nonEmpty(pod), "podUid": .nonEmpty(podUID),
            "containerId": .nonEmpty(containerID), "createdAt": createdAt.map { .string($0.rfc3339) },
        ])
    }
}

extension Route {
    fileprivate var document: Document {
        .fields([
            "destination": .string(destination.description), "gateway": gateway.map { .string($0.description) },
        ])
    }
}

extension DNS {
    fileprivate var document: Document {
        .fields([
            "nameservers": .nonEmpty(nameservers.map(\.description)), "domain": .nonEmpty(domain),
            "search": .nonEmpty(search), "options": .nonEmpty(options),
        ])
    }
}

extension DescribedPool {
    var document: Document {
        .fields([
            "name": .string(pool.name), "prefixes": .nonEmpty(pool.prefixes.map(\.document)),
            "namespaces": .nonEmpty(pool.namespaces), "routes": .nonEmpty(pool.routes.map(\.document)),
            "dns": pool.dns?.document, "isDefault": .onlyTrue(pool.isDefault),
            "reuseDelay": .string(pool.reuseDelay.text), "namespaceQuota": .nonZero(pool.namespaceQuota),
            "historyRetention": .string(pool.historyRetention.text), "revision": .nonZero(pool.revision),
            "usage": .nonEmpty(usage.map(\.document)),
        ])
    }
}

extension PoolPrefix {
    fileprivate var document: Document {
        .fields([
            "prefix": .string(prefix.description), "gateway": gateway.map { .string($0.description) },
            "excluded": .nonEmpty(excluded.map(\.description)), "useEdgeAddresses": .onlyTrue(usesEdgeAddresses),
        ])
    }
}

extension PrefixUsage {
    /// All counters, the zeros too: whoever reads them counts with them.
    fileprivate var document: Document {
        .fields([
            "prefix": .string(prefix.description), "total": .string("\(total)"), "bound": .string("\(bound)"),
            "reserved": .string("\(reserved)"), "quarantined": .string("\(quarantined)"),
            "free": .string("\(free)"),
        ])
    }
}

extension BindingEvent {
    var document: Document {
        .fields([
            "type": .string(word), "binding": binding?.document, "revision": .nonZero(revision),
        ])
    }

    var word: String {
        switch kind {
        case .created: "CREATED"
        case .updated: "UPDATED"
        case .freed: "FREED"
        case .synced: "SYNCED"
        }
    }
}

extension Timestamp {
    /// RFC 3339 in UTC: google.protobuf.Timestamp's JSON form.
    var rfc3339: String { short.dropLast() + fraction(nanoseconds - second.nanoseconds) + "Z" }

    /// To the second, for people.
    var short: String { second.description }

    /// The beginning of its second.
    var second: Timestamp {
        Timestamp(nanoseconds: nanoseconds - nanoseconds.flooredDivision(by: 1_000_000_000).remainder)
    }
}

extension Delay {
    /// "60s", "0.500s": google.protobuf.Duration's JSON form.
    var text: String {
        let (seconds, nanos) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        return "\(seconds)\(fraction(nanos))s"
    }
}

/// With 3, 6 or 9 digits, or none, as in proto3's JSON form.
private func fraction(_ nanos: Int64) -> String {
    var digits = String(1_000_000_000 + nanos).dropFirst()
    while digits.hasSuffix("000") { digits = digits.dropLast(3) }
    return digits.isEmpty ? "" : ".\(digits)"
}
